"""Target: the quality of one file for a wanted size, rate or distortion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LOWEST, HIGHEST = 4, 400  # indices of quality
WITHIN = 0.02  # of a target of size, and dB of one of distortion: what counts as met
UNITS = {"bytes": "bytes", "bpp": "bits per pixel", "kbps": "kilobits per second", "psnr": "dB"}


@dataclass(frozen=True)
class Target:
    """What a file shall have: at most so many "bytes" or so much "bpp" or "kbps", or at least so much "psnr" in dB.

    Raises:
        ValueError: for anything that is not positive.
    """

    what: str
    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"a target is a positive number of {UNITS[self.what]}; found {self.value:g}")


def find_quality(
    target: Target, compress: Callable[[float], bytes], measure: Callable[[bytes], float]
) -> tuple[float, bytes]:
    """Return a quality, in quarters, and its file: the best that is not larger than a target of size, or the smallest
    that is not worse than one of distortion; at most a quarter of `WITHIN` away where a quality is.

    Sizes grow almost exponentially with quality, and decibels linearly, so a few trials of false position do.

    Args:
        target: what is wanted.
        compress: quality -> file.
        measure: file -> bytes, bits per pixel, kilobits per second or dB.

    Raises:
        ValueError: if no quality meets the target; says what the nearest one gives.
    """
    of_size = target.what != "psnr"
    wanted = math.log(target.value) if of_size else target.value
    near = WITHIN / 4 if of_size else WITHIN
    files: dict[int, bytes] = {}
    values: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in files:
            files[index] = compress(index / 4)
            found = measure(files[index])
            values[index] = math.log(found) if of_size else found
        return values[index]

    def result(index: int) -> tuple[float, bytes]:
        return index / 4, files[index]

    def miss(index: int, end: str) -> ValueError:
        value = math.exp(at(index)) if of_size else at(index)
        unit = UNITS[target.what]
        return ValueError(
            f"a target of {target.value:g} {unit} cannot be met: quality {index // 4}, {end}, gives {value:.6g}"
        )

    low, high = LOWEST, HIGHEST
    if at(low) > wanted:
        if of_size:
            raise miss(low, "the smallest")
        return result(low)
    if at(high) <= wanted:
        if not of_size and at(high) < wanted:
            raise miss(high, "the highest")
        return result(high)
    while high - low > 1 and (wanted - at(low) if of_size else at(high) - wanted) > near:
        share = (wanted - at(low)) / (at(high) - at(low))
        if len(files) > 6 or not math.isfinite(at(high)):  # false position alone can stall on a bent curve
            share = 0.5
        index = min(high - 1, max(low + 1, round(low + share * (high - low))))
        low, high = (index, high) if at(index) <= wanted else (low, index)
    return result(low if of_size or at(low) == wanted else high)
