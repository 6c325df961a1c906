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

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from codomain.kernels import context, rans
from codomain.kernels.context import Weights
from jaxtyping import Int32, Integer, Shaped, UInt16, UInt32

Ints = npt.NDArray[Any]  # integers; what is not is refused in words
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
        if (escape < 1).any():
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
    def entries(self) -> npt.NDArray[np.uint64]:
        """(c, k + 1, 2) what the encoder needs of each column."""
        return rans.entries(self.all_freqs, self.starts)

    @cached_property
    def index(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
        """What the decoder needs of the tables; see `kernels/rans.py`."""
        return rans.index(self.all_freqs, self.starts, self.precision)

    @cached_property
    def slots(self) -> npt.NDArray[np.uint16]:
        """(c, 2**precision) column of each slot."""
        columns = np.tile(np.arange(self.escape + 1, dtype=np.uint16), len(self))
        return np.repeat(columns, self.all_freqs.ravel()).reshape(len(self), 1 << self.precision)


def encode_symbols(symbols: Shaped[np.ndarray, "c n"], tables: Tables, backend: str = "numba") -> bytes:
    """Code row i of ``symbols`` with table i; any int32 is legal.

    Raises:
        ValueError: for another shape or dtype, or as many rows as there are not tables.
    """
    _check_symbols(symbols, tables)
    encoder = Encoder(tables, backend)
    encoder.push(symbols.reshape(-1), _rows(*symbols.shape))
    return encoder.finish()


def decode_symbols(
    data: bytes | memoryview, tables: Tables, n: int, backend: str = "numba"
) -> Int32[np.ndarray, "c n"]:
    """Return exactly the array that `encode_symbols` was given, ``n`` symbols a row.

    Raises:
        BitstreamError: if the bytes are not such a payload.
    """
    decoder = Decoder(data, tables, len(tables) * n, backend)
    symbols = decoder.pop(_rows(len(tables), n))
    decoder.finish()
    return symbols.reshape(len(tables), n)


class Encoder:
    """Codes in steps, each symbol with the table that ``rows`` names: what a context model needs."""

    def __init__(self, tables: Tables, backend: str = "numba") -> None:
        self.tables = tables
        self.reference = _is_reference(backend)
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def push(self, symbols: Int32[np.ndarray, " n"], rows: Integer[np.ndarray, " n"]) -> None:
        """Append symbols; rANS codes backwards, so the work is done in `finish`."""
        self.steps.append((symbols, _check_rows(rows, symbols, self.tables)))

    def finish(self) -> bytes:
        """Return the payload."""
        symbols = _concatenate([s for s, _ in self.steps], np.int32)
        rows = _concatenate([r for _, r in self.steps], np.uint16)
        tables, lanes = self.tables, rans.lanes_for(len(symbols))
        if self.reference:
            columns, _ = rans.columns_of(symbols, rows, tables.offsets, tables.all_freqs)
            escaped = symbols[columns == tables.escape]
            states, words = rans.encode_reference(
                columns, rows, tables.all_freqs, tables.starts, tables.precision, lanes
            )
        else:
            states, words, escaped = rans.encode(symbols, rows, tables.offsets, tables.entries, tables.precision, lanes)
        return write_payload(escaped, states, words)


class Decoder:
    """The inverse of `Encoder`: call `pop` with the same steps, then `finish`.

    Args:
        data: one payload.
        tables: those of the encoder.
        total: symbols in the payload, over all steps.

    Raises:
        BitstreamError: at once, or from `pop` or `finish`, if the bytes are not such a payload.
    """

    def __init__(self, data: bytes | memoryview, tables: Tables, total: int, backend: str = "numba") -> None:
        self.tables, self.total, self.position, self.cursor = tables, total, 0, 0
        self.reference = _is_reference(backend)
        lanes = rans.lanes_for(total)
        length, start = read_varint(data, 0)
        states = start + length
        if states + 4 * lanes > len(data):
            raise BitstreamError(f"payload of {len(data)} bytes ends before its {lanes} coder states")
        if (len(data) - states) % 2:
            raise BitstreamError("payload ends in half a word")
        self.escapes, self.next_escape = bytes(data[start:states]), 0
        self.states = np.frombuffer(data, "<u4", lanes, states).astype(np.uint32)
        self.n_words = (len(data) - states) // 2 - 2 * lanes
        self.words = np.zeros(self.n_words + 1, np.uint16)
        self.words[:-1] = np.frombuffer(data, "<u2", self.n_words, states + 4 * lanes)
        if (self.states < rans.START).any():
            raise BitstreamError("payload holds a coder state below 2**16")

    def pop(self, rows: Integer[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """Return the next symbols."""
        tables, rows = self.tables, _check_rows(rows, rows, self.tables)
        given = (self.words, self.cursor, self.states, self.position, rows)
        if self.reference:
            columns, self.cursor = rans.decode_reference(
                *given, tables.all_freqs, tables.starts, tables.slots, tables.precision
            )
        else:
            columns, self.cursor = rans.decode(*given, tables.index, tables.precision)
        if self.cursor > self.n_words:
            raise BitstreamError(f"payload ends early: {self.n_words} words are not enough")
        self.position += len(rows)
        symbols, escaped = rans.symbols_of(columns, rows, tables.offsets, tables.escape)
        if escaped:
            values, self.next_escape = _read_varints(self.escapes, self.next_escape, escaped)
            symbols[columns == tables.escape] = values
        return symbols

    def pop_all(self, symbols: Int32[np.ndarray, "d h w"], weights: Weights, floors: Int32[np.ndarray, "p d"]) -> None:
        """Fill ``symbols`` with all of the payload, each with the table that `kernels/context.py` chooses."""
        values, tables = self.take_escapes(), self.tables
        self.cursor, taken = context.decode(
            self.words, self.states, values, tables.index, tables.offsets, tables.escape, tables.precision,
            weights, floors, symbols,
        )  # fmt: skip
        self.position = symbols.size
        if taken != len(values) or self.cursor > self.n_words:
            raise BitstreamError("payload is damaged: it does not hold the symbols that it announces")

    def take_escapes(self) -> Int32[np.ndarray, " e"]:
        """Return all values that stand for escaped symbols, for a backend that decodes all at once."""
        if not self.escapes:
            return np.zeros(0, np.int32)
        n = int((np.frombuffer(self.escapes, np.uint8) < 0x80).sum())  # the last bytes of varints
        if n > self.total:
            raise BitstreamError(f"payload escapes {n} symbols; it holds {self.total}")
        values, self.next_escape = _read_varints(self.escapes, 0, n)
        return np.array(values, np.int32)

    def settle(self, cursor: int, states: UInt32[np.ndarray, " lanes"]) -> None:
        """Check where another backend ended that decoded all of the payload."""
        self.cursor, self.states, self.position = cursor, states, self.total
        self.finish()

    def finish(self) -> None:
        """Check that nothing is left and every lane is back at its start."""
        if self.position != self.total:
            raise ValueError(f"{self.total} symbols were announced; {self.position} were taken")
        if self.cursor != self.n_words or self.next_escape != len(self.escapes):
            raise BitstreamError("payload holds more than its symbols")
        if (self.states != rans.START).any():
            raise BitstreamError("payload is damaged: a coder lane does not end in its initial state")


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read one unsigned LEB128 varint of at most 64 bits; return it and where it ends.

    Raises:
        BitstreamError: if it runs past the end, is longer than 10 bytes, or not the shortest form.
    """
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise BitstreamError(f"number at byte {at} runs past the end")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value >> 64 or (byte == 0 and i > 0):
                break
            return value, at + i + 1
    raise BitstreamError(f"number at byte {at} is not a varint in its shortest form")


def write_varint(value: int) -> bytes:
    """Write an unsigned LEB128 varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_payload(
    escaped: Int32[np.ndarray, " e"], states: UInt32[np.ndarray, " lanes"], words: UInt16[np.ndarray, " m"]
) -> bytes:
    """Return a payload of escaped symbols, in coding order, and of what `kernels/rans.py` encoded."""
    escapes = _write_varints(escaped)
    little = (states.astype("<u4", copy=False), words.astype("<u2", copy=False))
    return b"".join((write_varint(len(escapes)), escapes, *(part.tobytes() for part in little)))


def _write_varints(symbols: Int32[np.ndarray, " n"]) -> bytes:
    wide = symbols.astype(np.int64)
    return b"".join(write_varint(int(z)) for z in (wide << 1) ^ (wide >> 63))


def _read_varints(data: bytes, at: int, n: int) -> tuple[Sequence[int], int]:
    values = []
    for _ in range(n):
        z, at = read_varint(data, at)
        if z >> 32:
            raise BitstreamError("escaped symbol is beyond int32")
        values.append((z >> 1) ^ -(z & 1))
    return values, at


def _rows(c: int, n: int) -> npt.NDArray[np.uint16]:
    return np.repeat(np.arange(c, dtype=np.uint16), n)


def _concatenate(arrays: list[np.ndarray], dtype: type) -> Ints:
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays or [np.zeros(0, dtype)])
    return np.ascontiguousarray(joined, dtype)


def _check_rows(rows: Ints, symbols: Ints, tables: Tables) -> npt.NDArray[np.uint16]:
    if rows.shape != symbols.shape or rows.ndim != 1:
        raise ValueError(f"each symbol needs one table: found {symbols.shape} symbols, {rows.shape} rows")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(tables):
        raise ValueError(f"there are {len(tables)} tables; found rows {rows.min()} to {rows.max()}")
    return rows.astype(np.uint16, copy=False)


def _check_symbols(symbols: Ints, tables: Tables) -> None:
    if symbols.ndim != 2 or symbols.dtype != np.int32 or len(symbols) != len(tables):
        raise ValueError(
            f"symbols are int32 ({len(tables)}, n), one row a table; found {symbols.dtype} {symbols.shape}"
        )


def _is_reference(backend: str) -> bool:
    if backend not in ("numba", "numpy"):
        raise ValueError(f"backend is 'numba' or 'numpy'; found {backend!r}")
    return backend == "numpy"


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
