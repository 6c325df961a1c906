"""Demo: one photograph through every model that ships, beside JPEG and WebP at the nearest number of bytes.

python -m codomain.codecs.demo PHOTO FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from codomain.codecs.baselines import Baseline
from codomain.codecs.load import load, names
from codomain.codecs.metrics import bpp, psnr
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

DETAIL = 96  # pixels of the enlarged square
ZOOM = 4


class Result(NamedTuple):
    """One row of the table and one column of the picture."""

    name: str
    n_bytes: int
    image: Image.Image
    encode_s: float
    decode_s: float


def main(photo: Path, folder: Path) -> None:
    """Print the table; leave the files and one picture, ``comparison.png``, in ``folder``."""
    with Image.open(photo) as opened:
        original = opened.convert("RGB")
    folder.mkdir(parents=True, exist_ok=True)
    x = np.asarray(original)
    table = Table(
        "codec", "bytes", "bpp", "PSNR dB", "encode MPix/s", "decode MPix/s",
        title=f"{photo.name}, {original.width} x {original.height}, {torch.get_num_threads()} threads",
    )  # fmt: skip
    sheets = []
    for name in names("image"):
        ours = _ours(name, photo, folder)
        rivals = [_rival(original, codec, ours.n_bytes) for codec in ("jpeg", "webp")]
        for result in (ours, *rivals):
            table.add_row(
                result.name, str(result.n_bytes), f"{bpp(result.n_bytes, *original.size):.3f}",
                f"{psnr(x, np.asarray(result.image), 255.0):.2f}",
                f"{x[..., 0].size / 1e6 / result.encode_s:.1f}", f"{x[..., 0].size / 1e6 / result.decode_s:.1f}",
                end_section=result is rivals[-1],
            )  # fmt: skip
        sheets.append(_compare(original, [ours, *rivals]))
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    for i, sheet in enumerate(sheets):
        whole.paste(sheet, (0, i * sheet.height))
    whole.save(folder / "comparison.png")
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    print(f"side by side: {folder / 'comparison.png'}")


def _ours(name: str, photo: Path, folder: Path) -> Result:
    """Real files, by the command line, each step in a fresh process; speeds warm, in this one."""
    coded, decoded = folder / f"{photo.stem}_{name}.cdm", folder / f"{photo.stem}_{name}.png"
    for command in (
        ["encode", photo, coded, "--model", name, "--force"],
        ["decode", coded, decoded, "--force"],
    ):
        subprocess.run([sys.executable, "-m", "codomain.codecs.cli", *map(str, command)], check=True)
    codec, data = load(name), coded.read_bytes()
    with Image.open(photo) as opened:
        x = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)[None].contiguous()
    with Image.open(decoded) as image:
        return Result(
            name, len(data), image.convert("RGB"),
            _seconds(lambda: codec.compress(x)), _seconds(lambda: codec.decompress(data, dtype=torch.uint8)),
        )  # fmt: skip


def _rival(original: Image.Image, name: str, n_bytes: int) -> Result:
    """The quality whose file is nearest to ``n_bytes``."""
    x = np.asarray(original)
    sizes = {q: len(Baseline(name, q).compress(x)) for q in range(1, 96)}
    codec = Baseline(name, min(sizes, key=lambda q: abs(sizes[q] - n_bytes)))
    data = codec.compress(x)
    return Result(
        f"{'JPEG' if name == 'jpeg' else 'WebP'} {codec.quality}", len(data), Image.fromarray(codec.decompress(data)),
        _seconds(lambda: codec.compress(x)), _seconds(lambda: codec.decompress(data)),
    )  # fmt: skip


def _seconds(run: Callable[[], object]) -> float:
    run()
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return median(taken)


def _compare(original: Image.Image, results: list[Result]) -> Image.Image:
    """Whole pictures above, the busiest square enlarged below."""
    x = np.asarray(original)
    columns = [("original", original)] + [
        (f"{r.name}   {r.n_bytes} bytes   {psnr(x, np.asarray(r.image), 255.0):.2f} dB", r.image) for r in results
    ]
    box, side = _busiest(x), DETAIL * ZOOM
    height, gap, line = round(side * original.height / original.width), 8, 22
    sheet = Image.new("RGB", (len(columns) * (side + gap) + gap, height + side + 3 * gap + line), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (title, image) in enumerate(columns):
        left = gap + i * (side + gap)
        draw.text((left, gap), title, "black", font)
        sheet.paste(image.resize((side, height), Image.Resampling.LANCZOS), (left, gap + line))
        detail = image.crop(box).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(detail, (left, 2 * gap + line + height))
    return sheet


def _busiest(x: np.ndarray) -> tuple[int, int, int, int]:
    grey = x.astype(np.float32).mean(2)
    best, box = -1.0, (0, 0, DETAIL, DETAIL)
    for top in range(0, max(1, x.shape[0] - DETAIL), DETAIL // 2):
        for left in range(0, max(1, x.shape[1] - DETAIL), DETAIL // 2):
            energy = float(np.abs(np.diff(grey[top : top + DETAIL, left : left + DETAIL])).mean())
            if energy > best:
                best, box = energy, (left, top, left + DETAIL, top + DETAIL)
    return box


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m codomain.codecs.demo PHOTO FOLDER")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
