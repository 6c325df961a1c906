"""Matched: the quality of a baseline whose file has the bytes of another codec's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

TRIALS = 6  # of false position; it can stall on a bent curve, so then the interval is halved


@dataclass(frozen=True)
class Scale:
    """The qualities that a codec has: from ``low``, of the fewest bytes, to ``high`` in steps, up or down.

    Attributes:
        meaning: what they are, in one line.
        is_rate: whether bytes grow in proportion to them; else about exponentially.
    """

    low: float | int
    high: float | int
    step: float | int
    meaning: str
    is_rate: bool = False

    @property
    def last(self) -> int:
        """Index of the highest quality; that of the lowest is 0."""
        return round((self.high - self.low) / self.step)

    def at(self, index: int) -> float:
        """Return a quality."""
        return float(round(self.low + index * self.step, 6))

    def index(self, quality: float | int) -> int | None:
        """Return where a quality lies; None if it is none of them."""
        index = round((quality - self.low) / self.step)
        return index if 0 <= index <= self.last and abs(self.at(index) - quality) < 1e-6 else None

    def parse(self, name: str, text: str) -> float:
        """Return the quality that a text names.

        Raises:
            ValueError: if it names none.
        """
        try:
            quality = float(text)
        except ValueError:
            quality = float("nan")
        if not (quality == quality and abs(quality) < 1e9 and self.index(quality) is not None):
            raise ValueError(
                f"'{name}:{text}': expected {name}:{self.low:g} to {name}:{self.high:g}"
                f"{'' if abs(self.step) == 1 else f' in steps of {abs(self.step):g}'} ({self.meaning})"
            )
        return quality


def match(
    scale: Scale,
    compress: Callable[[float], bytes],
    n_bytes: int,
    sizes: dict[float, int],
    near: float,
    at_most: bool = False,
) -> tuple[float, bytes]:
    """Return the quality whose file is nearest to ``n_bytes``, and that file.

    Args:
        scale: of the codec.
        compress: quality -> file.
        n_bytes: the target.
        sizes: quality -> bytes, as far as known; filled by the search.
        near: share of the bytes; a file that is this near needs no further search.
        at_most: only files of at most ``n_bytes`` count; where there is none, the smallest.
    """
    files: dict[int, bytes] = {}

    def size(index: int) -> int:
        quality = scale.at(index)
        if quality not in sizes:
            files[index] = compress(quality)
            sizes[quality] = len(files[index])
        return sizes[quality]

    def off(index: int) -> float:
        return float("inf") if at_most and size(index) > n_bytes else float(abs(size(index) - n_bytes))

    low, high = 0, scale.last
    for quality, known in sizes.items():  # the nearest known qualities on either side
        index = scale.index(quality)
        if index is not None:
            low, high = (max(low, index), high) if known <= n_bytes else (low, min(high, index))
    trials = 0
    while high - low > 1 and size(low) < n_bytes < size(high) and min(off(low), off(high)) > near * n_bytes:
        below, above, trials = size(low), size(high), trials + 1
        share = 0.5
        if trials <= TRIALS:
            along = (lambda n: float(n)) if scale.is_rate else log
            share = (along(n_bytes) - along(below)) / (along(above) - along(below))
        middle = min(high - 1, max(low + 1, round(low + share * (high - low))))
        low, high = (middle, high) if size(middle) <= n_bytes else (low, middle)
    best = min((low, high), key=off)
    return scale.at(best), files.get(best) or compress(scale.at(best))
