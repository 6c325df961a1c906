"""Footage: a whole clip in memory, as contenders are given it and as it is compared."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Footage:
    """Frames at a constant rate.

    Attributes:
        pixels: RGB, (f, h, w, 3), of 8 bits.
        rate: frames per second.
    """

    pixels: UInt8[np.ndarray, "f h w 3"]
    rate: Fraction


def read_footage(path: Path) -> Footage:
    """Return all frames of a file; a .npz file is one that `write_footage` wrote.

    Raises:
        ValueError: if the file is no video that can be read.
    """
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return Footage(stored["pixels"], Fraction(*stored["rate"].tolist()))
    from codomain.codecs.video import open_clip

    with open_clip(path) as clip:
        form = clip.form
        pixels = np.empty((form.frames, form.height, form.width, 3), np.uint8)
        for i, picture in enumerate(clip.frames(0, form.frames)):
            pixels[i] = picture
    return Footage(pixels, form.rate)


def write_footage(path: Path, x: Footage) -> None:
    """Write frames to a .npz file, exactly."""
    np.savez(path, pixels=x.pixels, rate=np.array(x.rate.as_integer_ratio()))
