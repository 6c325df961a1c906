"""Colour: decoded frames <-> RGB of 8 bits, upright and scaled. Nothing here knows a file.

Numbers of matrices, primaries and transfer functions are those of ITU-T H.273; 2 is "unspecified".
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av import VideoFrame

BT709, UNSPECIFIED, BT601 = 1, 2, 6
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # H.273 -> swscale
LIMITED, FULL = 1, 2
UPRIGHT = (1, 0, 0, 1)


def matrix_of(width: int, height: int, tagged: int = UNSPECIFIED) -> int:
    """Return the matrix of a frame: the one it is tagged with, or what players assume of its size."""
    if tagged in MATRICES:
        return tagged
    return BT709 if width >= 1280 or height > 576 else BT601


def to_rgb(frame: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """Convert a decoded frame as its tags say; deeper samples are rounded, alpha is dropped.

    Raises:
        ValueError: for a pixel format that cannot be converted.
    """
    matrix = MATRICES[matrix_of(frame.width, frame.height, frame.colorspace)]
    full = frame.format.is_rgb or frame.format.name.startswith("yuvj") or frame.color_range == FULL
    try:
        rgb = frame.reformat(
            format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, src_color_range=FULL if full else LIMITED,
            dst_color_range=FULL, interpolation=_accurate(),
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise ValueError(f"frames of {frame.format.name} cannot be converted to RGB ({error})") from None
    return np.ascontiguousarray(rgb.to_ndarray())


def from_rgb(x: UInt8[np.ndarray, "h w 3"], pixel_format: str) -> VideoFrame:
    """Convert RGB to a frame that is tagged: of limited range where it is YUV, with the matrix of `matrix_of`."""
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(x), format="rgb24")
    is_yuv = pixel_format.startswith("yuv")
    matrix = MATRICES[matrix_of(x.shape[1], x.shape[0])]
    return frame.reformat(
        format=pixel_format, src_colorspace=matrix, dst_colorspace=matrix, src_color_range=FULL,
        dst_color_range=LIMITED if is_yuv else FULL, interpolation=_accurate(),
    )  # fmt: skip


def turn(x: UInt8[np.ndarray, "h w 3"], turned: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Turn or mirror a frame as (a, b, c, d) of a display matrix says: to x' = ax + cy, y' = bx + dy."""
    a, b, c, d = turned
    if a == 0:
        x, a, d = x.transpose(1, 0, 2), c, b
    return x[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def turned_by(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """Return what `turn` needs to show a frame upright; None where that is no multiple of 90 degrees."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = (int(n) for n in np.frombuffer(bytes(matrix), "<i4", 5))
    signs = (_sign(a), _sign(b), _sign(c), _sign(d))
    straight = b == c == 0 and a and d
    return signs if straight or (a == d == 0 and b and c) else None


def scaled_size(width: int, height: int, scale: Fraction) -> tuple[int, int]:
    """Return (width, height) of scaled frames.

    Where 1 / scale is an integer, so many pixels are averaged, fewer at the right and lower edge of a size that it
    does not divide; else sides are rounded.

    Raises:
        ValueError: if ``scale`` is not above 0 and at most 1.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"expected a scale above 0 and at most 1; found {scale}")
    if scale.numerator == 1:
        return -(-width // scale.denominator), -(-height // scale.denominator)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(x: UInt8[np.ndarray, "h w 3"], scale: Fraction) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Average areas, to `scaled_size`; means are rounded once, halves up."""
    if scale == 1:
        return x
    height, width, _ = x.shape
    if scale.numerator != 1:
        from PIL import Image

        size = scaled_size(width, height, scale)
        return np.array(Image.fromarray(np.ascontiguousarray(x)).resize(size, Image.Resampling.BOX))
    n = scale.denominator
    columns, rows = np.arange(0, width, n), np.arange(0, height, n)
    sums = np.add.reduceat(np.add.reduceat(x.astype(np.uint32), rows, 0), columns, 1).astype(np.int64)
    area = np.minimum(n, height - rows)[:, None, None] * np.minimum(n, width - columns)[None, :, None]
    means: np.ndarray = ((2 * sums + area) // (2 * area)).astype(np.uint8)
    return means


@cache
def _accurate() -> int:
    from av.video.reformatter import Interpolation as Flag

    return int(Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP | Flag.BITEXACT)


def _sign(n: int) -> int:
    return (n > 0) - (n < 0)
