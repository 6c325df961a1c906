"""Evaluate: rate and distortion of real files, decoded in a fresh process."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from codomain.codecs import media
from codomain.codecs.baselines import SCALES, Baseline, parse_baseline
from codomain.codecs.load import names
from codomain.codecs.metrics import bpp, haarpsi, ms_ssim, psnr, ssim
from PIL import Image

METRICS = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "haarpsi": haarpsi}
Row = dict[str, str | float | int | None]


def evaluate(models: list[str], data: Path) -> list[Row]:
    """Code every image of a folder with every model; print a table of means; return a row per file.

    Args:
        models: names that ship, or a baseline at a quality, "jpeg:30". All metrics are of 8-bit RGB, as written to
            disk, and averaged over images (PSNR in dB); one that a picture is too small for is None.
        data: folder of images.

    Raises:
        ValueError: for an unknown model, or a folder without images.
    """
    from rich.console import Console
    from rich.table import Table

    contenders: list[str | Baseline] = []
    for model in models:
        contender = model if model in names() else parse_baseline(model)
        if contender is None:
            scales = ", ".join(f"{name}:{scale[0]}...{scale[-1]}" for name, (scale, _) in SCALES.items())
            raise ValueError(f"no model {model!r}; there are {', '.join(names())}, {scales}")
        contenders.append(contender)
    images = sorted(p for p in data.rglob("*") if p.suffix.lower() in media.FORMATS)
    if not images:
        raise ValueError(f"{data}: no images")
    rows: list[Row] = []
    table = Table("model", "images", "bpp", "PSNR dB", "SSIM", "MS-SSIM", "HaarPSI", title=str(data.name))
    for contender in contenders:
        found = _baseline(contender, images) if isinstance(contender, Baseline) else _ours(contender, images)
        rows += found
        means = [_mean([r[key] for r in found]) for key in ("bpp", *METRICS)]
        table.add_row(str(contender), str(len(found)), *means)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return rows


def to_csv(rows: list[Row]) -> str:
    """Return rows as CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _baseline(codec: Baseline, images: list[Path]) -> list[Row]:
    rows = []
    for path in images:
        with Image.open(path) as image:
            x = np.array(image.convert("RGB"))
        data = codec.compress(x)
        rows.append(_row(str(codec), path, x, codec.decompress(data), len(data)))
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
                rows.append(_row(model, path, np.array(x.convert("RGB")), np.array(x_hat.convert("RGB")), size))
    return rows


def _run(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "codomain.codecs.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr.strip() or f"codomain {words[0]} failed with exit code {done.returncode}")


def _row(model: str, path: Path, x: np.ndarray, x_hat: np.ndarray, n_bytes: int) -> Row:
    row: Row = {
        "model": model,
        "image": path.name,
        "n_bytes": n_bytes,
        "bpp": round(bpp(n_bytes, x.shape[1], x.shape[0]), 6),
    }
    for key, metric in METRICS.items():
        try:
            row[key] = round(metric(x, x_hat, 255.0), 6)
        except ValueError:  # too small a picture for this metric
            row[key] = None
    return row


def _mean(values: list[Any]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.4f}" if known else "-"
