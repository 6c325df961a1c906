"""Entropy coding: integer symbols and integer tables to bytes and back. No floats enter this file.

    symbols --index into the table row, escape what it does not hold--> rANS lanes --> bytes

One payload:

    varint   bytes of the escape section
    escapes  per escaped symbol, in coding order: zigzag varint (LEB128, at most 5 bytes)
    states   lanes x uint32, little-endian: where the decoder starts
    words    uint16, little-endian, to the end of the payload

The lanes and their arithmetic are specified in `kernels/rans.py`. A payload is valid only if the decoder
uses every byte of it and every lane comes back to its initial state.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from codomain.kernels import rans

Ints = npt.NDArray[np.integer]
INT32 = np.iinfo(np.int32)


class BitstreamError(ValueError):
    """Bytes that are not what they should be."""


class Tables:
    """Integer frequency tables, one per row; what a row does not hold is coded by its escape.

    Args:
        freqs: (c, k) ints >= 0; row sums below or at ``2**precision``, the rest is the escape's. 0: not held.
        offsets: (c,) ints; column j of row i stands for the value ``offsets[i] + j``.
        precision: 8 to 16.

    Raises:
        ValueError: for anything that is not such a table.
    """

    def __init__(self, freqs: Ints, offsets: Ints, precision: int) -> None:
        freqs, offsets = np.asarray(freqs), np.asarray(offsets)
        if freqs.ndim != 2 or offsets.shape != freqs.shape[:1]:
            raise ValueError(f"tables are (c, k) with (c,) offsets; found {freqs.shape}, {offsets.shape}")
        if freqs.dtype.kind not in "iu" or offsets.dtype.kind not in "iu":
            raise ValueError(f"tables are integers; found {freqs.dtype} and {offsets.dtype}")
        if not 8 <= precision <= 16:
            raise ValueError(f"precision is 8 to 16; found {precision}")
        if freqs.shape[1] >= 1 << precision or (freqs < 0).any() or (freqs > 1 << precision).any():
            raise ValueError(f"expected fewer than 2**{precision} frequencies of 0 to 2**{precision}")
        total = freqs.sum(1, dtype=np.int64)
        escape = (1 << precision) - total
        if (escape < 0).any() or ((escape == 0) & True).any():
            raise ValueError(f"a row must leave its escape at least 1 of {1 << precision}; sums are {total}")
        if len(offsets) and (offsets.min() < INT32.min or int(offsets.max()) + freqs.shape[1] > INT32.max):
            raise ValueError("offsets must keep every value within int32")
        self.precision = precision
        self.offsets = offsets.astype(np.int32)
        self.freqs = freqs.astype(np.int32)
        self.all_freqs = np.concatenate((freqs, escape[:, None]), 1).astype(np.uint32)  # (c, k + 1)

    @classmethod
    def from_counts(cls, counts: Ints, offset: Ints, precision: int = 14) -> Tables:
        """Scale counts to frequencies by exact integer arithmetic: the same tables on every machine.

        Args:
            counts: (c, k) ints >= 0; a 0 leaves its value to the escape.
            offset: (c,) value of the first column.
            precision: frequencies and escape sum to ``2**precision``.

        Raises:
            ValueError: for negative counts, or more than ``2**precision - 1`` non-zero ones in a row.
        """
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.dtype.kind not in "iu" or (counts < 0).any():
            raise ValueError(f"counts are (c, k) non-negative ints; found {counts.shape} {counts.dtype}")
        budget = (1 << precision) - 1
        freqs = np.zeros(counts.shape, np.int64)
        for row, count in zip(freqs, counts, strict=True):
            (held,) = np.nonzero(count)
            if len(held) > budget:
                raise ValueError(f"precision={precision} holds {budget} values a row; found {len(held)}")
            row[held] = _apportion([int(v) for v in count[held]], budget)
        return cls(freqs, np.asarray(offset), precision)

    def __len__(self) -> int:
        return len(self.freqs)

    @property
    def escape(self) -> int:
        """Column of the escape."""
        return self.freqs.shape[1]

    @cached_property
    def starts(self) -> npt.NDArray[np.uint32]:
        """(c, k + 1) first slot of each column."""
        ends = self.all_freqs.cumsum(1, dtype=np.uint32)
        return np.ascontiguousarray(ends - self.all_freqs)

    @cached_property
    def slots(self) -> npt.NDArray[np.uint16]:
        """(c, 2**precision) column of each slot."""
        columns = np.arange(self.escape + 1, dtype=np.uint16)
        return np.stack([np.repeat(columns, row) for row in self.all_freqs]) if len(self) else np.zeros(
            (0, 1 << self.precision), np.uint16
        )


def _apportion(counts: list[int], budget: int) -> list[int]:
    """Split ``budget`` in proportion to counts, each at least 1; Python ints, so no count is too large."""
    if not counts:
        return []
    total = sum(counts)
    freqs = [max(1, c * budget // total) for c in counts]
    by_size = sorted(range(len(counts)), key=lambda i: (-counts[i], i))
    spare = budget - sum(freqs)
    while spare > 0:  # at most one each in a round; the largest first, where it costs least
        for i in by_size[:spare]:
            freqs[i] += 1
        spare = budget - sum(freqs)
    while spare < 0:  # the minimum of 1 took too much: take it back where a unit is the smallest share
        i = max(by_size, key=lambda j: (freqs[j], -j))
        give = min(-spare, max(1, freqs[i] // 64))
        freqs[i] -= give
        spare += give
    return freqs
