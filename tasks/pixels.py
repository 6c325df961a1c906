"""Pixels: pictures with classes, decoded in the workers: the baseline of everything that learns from latents.

The same files are kept for validation as of the `.cdm` files made of these pictures, and windows and mirrors are those
of `tasks/latents.py`, so that nothing but the input differs.
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from codomain.codecs import media
from codomain.tasks.labelled import MIRRORED, Labelled, Stored, find, usual
from codomain.tasks.photographs import SUFFIXES
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

CELL = 8  # pixels between the places of windows: a latent of an image
JPEG = 90  # quality of pictures that are measured, or stored for a comparison


class Pixels(Labelled):
    """Batches of pictures in [-1, 1], (b, 3, h, w), from class folders or shards.

    Args:
        root: see `tasks/labelled.py`.
        batch_size: pictures a step.
        shrink: what both sides are divided by, 1, 2, 4 or 8; the field of view stays.
        shift: pixels, before they are shrunk, by which a training window is shorter than the picture, in eights.
        mirror: axes mirrored at random in training: "none", "horizontal" (left and right) or "both".
        workers: processes that decode; 0 decodes in this one.
        val_share: share kept for validation.
        cache: whether a process keeps what it has decoded, a byte a sample.
        limit: of the training files, take this many.

    Raises:
        ValueError: for files that are no pictures, missing labels, empty classes.
    """

    channels, ndim = 3, 2

    def __init__(
        self,
        root: Path,
        batch_size: int = 32,
        shrink: Literal[1, 2, 4, 8] = 1,
        shift: int = 32,
        mirror: Literal["none", "horizontal", "both"] = "horizontal",
        workers: int = 0,
        val_share: float = 0.2,
        cache: bool = False,
        limit: int | None = None,
    ) -> None:
        items, classes = find(root, SUFFIXES)
        sizes = []
        for item in items:
            try:
                sizes.append(_size(item.read()))
            except media.UNREADABLE as error:
                known = not isinstance(error, UnidentifiedImageError)
                raise ValueError(f"{item}: {error if known else 'not an image that can be read'}") from None
        whole = usual(sizes)
        if shift % CELL or not 0 <= shift < min(whole):
            raise ValueError(f"shift is a multiple of {CELL}, shorter than the sides, {whole}; found {shift}")
        self.shrink = shrink
        super().__init__(
            items,
            classes,
            window=[(n - shift) // shrink for n in whole],
            whole=[n // shrink for n in whole],
            cell=CELL // shrink,
            batch_size=batch_size,
            workers=workers,
            val_share=val_share,
            cache=cache,
            limit=limit,
        )
        self.mirrors = [partial(torch.flip, dims=(axis,)) for axis in MIRRORED[mirror]]

    def read(self, data: bytes) -> tuple[UInt8[Tensor, "3 h w"], int]:
        """Return a decoded picture, and no quality."""
        return read_picture(data, self.shrink), 0

    def to_signal(self, x: Shaped[Tensor, "b 3 h w"], quality: tuple[int, ...]) -> Float[Tensor, "b 3 h w"]:
        """Return samples in [-1, 1]."""
        return x.float() / 127.5 - 1

    def describe(self) -> dict[str, Any]:
        """Return what pictures are shrunk by."""
        return {"shrink": self.shrink}

    def stored(self, jpeg: int) -> Stored:
        """Return what a picture is in a file; shrunk ones as JPEG of their own."""
        found = super().stored(jpeg)
        if self.shrink > 1:
            sizes = [len(to_jpeg(self.read(item.read())[0], jpeg)) for item in self.val_items]
            found = found._replace(n_bytes=sum(sizes) / len(sizes))
        return found


def to_jpeg(picture: UInt8[Tensor, "c h w"], quality: int = JPEG) -> bytes:
    """Return the JPEG file of a picture of three channels, or one."""
    out = io.BytesIO()
    pixels = picture.permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(out, "JPEG", quality=quality)
    return out.getvalue()


def read_picture(data: bytes, shrink: int = 1) -> UInt8[Tensor, "3 h w"]:
    """Return an upright picture in 8 bits, on white where it is transparent; a shrunk one filtered as Pillow does.

    Raises:
        ValueError: if the bytes are no picture.
    """
    picture = media.read_image(data)
    pixels = picture.pixels.numpy()
    if picture.alpha is not None:
        white = 2**picture.depth - 1
        cover = picture.alpha.astype(np.float64) / white
        pixels = np.rint(white + (pixels - float(white)) * cover).astype(pixels.dtype)
    if picture.depth > 8:
        pixels = media.to_8_bits(pixels)
    if shrink > 1:
        _, height, width = pixels.shape
        size = max(1, width // shrink), max(1, height // shrink)
        small = Image.fromarray(pixels.transpose(1, 2, 0)).resize(size, Image.Resampling.LANCZOS)
        pixels = np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))
    return torch.from_numpy(pixels)


def _size(data: bytes) -> tuple[int, int]:
    """Height and width of a picture, upright, from its header."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(0x0112, 1) >= 5 else (height, width)
