"""Evaluate: rate and distortion of real files, decoded in a fresh process."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
from codomain.codecs import media
from codomain.codecs.load import names
from codomain.codecs.metrics import bpp, psnr
from PIL import Image

BASELINES = ("jpeg", "webp")
Row = dict[str, str | float | int]


def evaluate(models: list[str], data: Path) -> list[Row]:
    """Code every image of a folder with every model; print a table of means; return a row per file.

    Args:
        models: names that ship, or "jpeg:30" and "webp:40" for Pillow at that quality (JPEG 4:2:0,
            optimized). PSNR is of 8-bit RGB, as written to disk, averaged over images in dB.
        data: folder of images.

    Raises:
        ValueError: for an unknown model, or a folder without images.
    """
    from rich.console import Console
    from rich.table import Table

    for model in models:
        if model not in names() and not _is_baseline(model):
            raise ValueError(f"no model {model!r}; there are {', '.join(names())}, jpeg:1...95 and webp:0...100")
    images = sorted(p for p in data.rglob("*") if p.suffix.lower() in media.FORMATS)
    if not images:
        raise ValueError(f"{data}: no images")
    rows: list[Row] = []
    table = Table("model", "images", "bpp", "PSNR dB", title=str(data.name))
    for model in models:
        found = _baseline(model, images) if _is_baseline(model) else _ours(model, images)
        rows += found
        table.add_row(
            model, str(len(found)), f"{mean(float(r['bpp']) for r in found):.4f}",
            f"{mean(float(r['psnr']) for r in found):.3f}",
        )  # fmt: skip
    Console().print(table)
    return rows


def to_csv(rows: list[Row]) -> str:
    """Return rows as CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def baseline_bytes(image: Image.Image, name: str, quality: int) -> bytes:
    """Return an image as Pillow's JPEG (4:2:0, optimized Huffman tables) or WebP."""
    out = io.BytesIO()
    if name == "jpeg":
        image.save(out, "JPEG", quality=quality, subsampling=2, optimize=True)
    else:
        image.save(out, "WEBP", quality=quality)
    return out.getvalue()


def _is_baseline(model: str) -> bool:
    name, _, quality = model.partition(":")
    return name in BASELINES and quality.isdigit() and int(quality) <= 100


def _baseline(model: str, images: list[Path]) -> list[Row]:
    name, _, quality = model.partition(":")
    rows = []
    for path in images:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        data = baseline_bytes(rgb, name, int(quality))
        rows.append(_row(model, path, rgb, Image.open(io.BytesIO(data)).convert("RGB"), len(data)))
    return rows


def _ours(model: str, images: list[Path]) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        originals, coded, decoded = (Path(folder) / name for name in ("originals", "coded", "decoded"))
        originals.mkdir()
        for i, path in enumerate(images):  # numbered: names of subfolders may repeat
            (originals / f"{i:06d}{path.suffix}").symlink_to(path.resolve())
        _run("encode", str(originals), str(coded), "--model", model)
        _run("decode", str(coded), str(decoded))
        for i, path in enumerate(images):
            with Image.open(path) as x, Image.open(decoded / f"{i:06d}.png") as x_hat:
                size = (coded / f"{i:06d}.cdm").stat().st_size
                rows.append(_row(model, path, x.convert("RGB"), x_hat.convert("RGB"), size))
    return rows


def _run(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "codomain.codecs.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr.strip() or f"codomain {words[0]} failed with exit code {done.returncode}")


def _row(model: str, path: Path, x: Image.Image, x_hat: Image.Image, n_bytes: int) -> Row:
    return {
        "model": model,
        "image": path.name,
        "n_bytes": n_bytes,
        "bpp": round(bpp(n_bytes, *x.size), 6),
        "psnr": round(psnr(np.asarray(x), np.asarray(x_hat), 255.0), 4),
    }
