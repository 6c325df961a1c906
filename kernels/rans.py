"""Lane-interleaved range asymmetric numeral systems (rANS): the arithmetic of the entropy coder.

Each of ``lanes`` states x is a 32-bit number at or above 2**16. Symbol i of a payload belongs to lane
``i % lanes``. With P the precision and [start, start + freq) the slots of a symbol, decoding is

    slot = x mod 2**P                    the symbol is the one whose slots hold it
    x    = freq * (x >> P) + slot - start
    if x < 2**16:  x = x << 16 | next word          one word is always enough, since P <= 16

for i = 0, 1, 2, ...; all lanes read from the one sequence of 16-bit words. Encoding runs backwards from
x = 2**16 in every lane, with the inverse steps: a decoder that ends elsewhere was given other bytes.

`encode_reference` and `decode_reference` are the specification, in numpy, one group of lanes at a time;
`encode` and `decode` run compiled and give the same bytes; `rans_triton.py` gives them too, many payloads at once on a
GPU.

Source: Duda, "Asymmetric numeral systems", 2013; interleaving: Giesen, "Interleaved entropy coders", 2014.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, UInt16, UInt32, UInt64

START = 1 << 16
MAX_LANES = 16


def lanes_for(n: int) -> int:
    """Return the number of lanes for ``n`` symbols: a power of two; a lane costs about 3 bytes."""
    return min(MAX_LANES, 1 << max(0, (n >> 14).bit_length() - 1))


def encode(
    symbols: Int32[np.ndarray, " n"],
    rows: UInt16[np.ndarray, " n"],
    offsets: Int32[np.ndarray, " c"],
    entries: UInt64[np.ndarray, "c k 2"],
    precision: int,
    lanes: int,
) -> tuple[UInt32[np.ndarray, " lanes"], UInt16[np.ndarray, " m"], Int32[np.ndarray, " e"]]:
    """Code each symbol with table ``rows[i]``; return the states and the words for `decode`, and what is escaped.

    ``entries`` are those of `entries`, which a caller keeps with its tables; ``lanes`` a power of two.
    """
    from codomain.kernels import rans_numba

    words, escaped = np.empty(len(symbols) + 1, np.uint16), np.empty(len(symbols), np.int32)
    states = np.full(lanes, START, np.uint32)
    first, free = rans_numba.encode(symbols, rows, offsets, entries, precision, states, words, escaped)
    return states, words[first:], escaped[free:]


def decode(
    words: UInt16[np.ndarray, " m"],
    cursor: int,
    states: UInt32[np.ndarray, " lanes"],
    position: int,
    rows: UInt16[np.ndarray, " n"],
    index: tuple[UInt64[np.ndarray, " c"], UInt32[np.ndarray, "c b"], UInt64[np.ndarray, " held"]],
    precision: int,
) -> tuple[UInt16[np.ndarray, " n"], int]:
    """Decode the next ``len(rows)`` symbols.

    Args:
        words: all of the payload's words, and one 0 behind them.
        cursor: words already used.
        states: changed in place.
        position: symbols already decoded.
        rows: table of each symbol; the caller checks that they are below c.
        index: of the tables, as `index` makes it, which a caller keeps with them.
        precision: of the tables.

    Returns:
        The columns, and the new cursor; a cursor beyond the words means that the words ran out.
    """
    from codomain.kernels import rans_numba

    columns = np.empty(len(rows), np.uint16)
    cursor = rans_numba.decode(words, cursor, states, position, rows, *index, precision, columns)
    return columns, int(cursor)


def inverses(freqs: UInt32[np.ndarray, "c k"]) -> UInt64[np.ndarray, "c k"]:
    """Return ``m << 8 | s`` such that ``x // freq == x * m >> s``, for the x that a coder divides.

    With b = ceil(log2 freq), s = 32 + b and m = ceil(2**s / freq), so that m * freq = 2**s + e with
    0 <= e < freq <= 2**b. The quotient is exact when x * e < 2**s, which holds as x < 2**32. The product fits 64
    bits: x < freq << (32 - P), hence x * m < 2**(32 - P) * (2**s + freq) <= 2**64. m has at most 33 bits.
    (Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.)
    """
    f = np.maximum(freqs, 1).astype(np.uint64)
    b = np.zeros_like(f)
    for bit in range(17):
        b += f > np.uint64(1 << bit)
    s = np.uint64(32) + b
    m = ((np.uint64(1) << s) + f - np.uint64(1)) // f
    return m << np.uint64(8) | s


def entries(freqs: UInt32[np.ndarray, "c k"], starts: UInt32[np.ndarray, "c k"]) -> UInt64[np.ndarray, "c k 2"]:
    """Return what an encoder needs of each column, side by side: m of `inverses` (0 where the table does not hold
    the column), and ``freq << 32 | start << 8 | s``.
    """
    packed = inverses(freqs)
    f, start = freqs.astype(np.uint64), starts.astype(np.uint64)
    m = np.where(f > 0, packed >> np.uint64(8), np.uint64(0))
    return np.stack([m, f << np.uint64(32) | start << np.uint64(8) | packed & np.uint64(0xFF)], -1)


def index(
    freqs: UInt32[np.ndarray, "c k"], starts: UInt32[np.ndarray, "c k"], precision: int
) -> tuple[UInt64[np.ndarray, " c"], UInt32[np.ndarray, "c b"], UInt64[np.ndarray, " held"]]:
    """Return what a decoder needs to find columns by their slots: small, for it is read all over.

    Returns:
        The most frequent column of each table, which is tried first; for each of 2**8 parts of the slots or more, as
        many as a table has columns, the place of the first slot's column; and, one table behind the other, the columns
        that it holds, as ``column << 40 | freq << 16 | start``.
    """
    held = freqs > 0
    n = held.sum(1)
    rows, columns = np.nonzero(held)
    packed = np.arange(freqs.shape[1], dtype=np.uint64) << np.uint64(40)
    packed = packed | freqs.astype(np.uint64) << np.uint64(16) | starts
    bits = min(precision, max(8, int(n.mean()).bit_length())) if len(n) else 8
    firsts = np.arange(1 << bits) << (precision - bits)
    parts = [
        end - m + np.searchsorted(start[some], firsts, "right") - 1
        for start, some, m, end in zip(starts, held, n, n.cumsum(), strict=True)
    ]
    coarse = np.array(parts, np.uint32).reshape(len(freqs), 1 << bits)
    return np.take_along_axis(packed, freqs.argmax(1)[:, None], 1)[:, 0], coarse, packed[rows, columns]


def encode_reference(
    columns: UInt16[np.ndarray, " n"],
    rows: UInt16[np.ndarray, " n"],
    freqs: UInt32[np.ndarray, "c k"],
    starts: UInt32[np.ndarray, "c k"],
    precision: int,
    lanes: int,
) -> tuple[UInt32[np.ndarray, " lanes"], UInt16[np.ndarray, " m"]]:
    """`encode` of the columns that `columns_of` gives, as specified; it divides, without inverses."""
    f, s = freqs[rows, columns].astype(np.uint64), starts[rows, columns].astype(np.uint64)
    x = np.full(lanes, START, np.uint64)
    p = np.uint64(precision)
    words: list[np.ndarray] = []  # from the last to the first
    for first in reversed(range(0, len(columns), lanes)):
        fs, ss = f[first : first + lanes], s[first : first + lanes]
        lane = x[: len(fs)]  # a view: the last group may be short
        full = lane >= fs << (np.uint64(32) - p)
        words.append((lane[full] & np.uint64(0xFFFF))[::-1].astype(np.uint16))
        lane[full] >>= np.uint64(16)
        lane[:] = (lane // fs << p) + lane % fs + ss
    backwards = np.concatenate(words) if words else np.zeros(0, np.uint16)
    return x.astype(np.uint32), backwards[::-1].copy()


def decode_reference(
    words: UInt16[np.ndarray, " m"],
    cursor: int,
    states: UInt32[np.ndarray, " lanes"],
    position: int,
    rows: UInt16[np.ndarray, " n"],
    freqs: UInt32[np.ndarray, "c k"],
    starts: UInt32[np.ndarray, "c k"],
    slots: UInt16[np.ndarray, "c s"],
    precision: int,
) -> tuple[UInt16[np.ndarray, " n"], int]:
    """`decode`, as specified: ``slots`` holds the column of every slot."""
    lanes, mask = len(states), np.uint32((1 << precision) - 1)
    columns = np.empty(len(rows), np.uint16)
    done = 0
    while done < len(rows):
        lane = (position + done) % lanes
        count = min(lanes - lane, len(rows) - done)
        x = states[lane : lane + count]  # a view
        row = rows[done : done + count]
        slot = x & mask
        column = slots[row, slot]
        x[:] = freqs[row, column] * (x >> np.uint32(precision)) + slot - starts[row, column]
        low = x < START
        need = int(low.sum())
        if cursor + need >= len(words):
            return columns, len(words)
        x[low] = x[low] << np.uint32(16) | words[cursor : cursor + need]
        cursor += need
        columns[done : done + count] = column
        done += count
    return columns, cursor


def columns_of(
    symbols: Int32[np.ndarray, " n"],
    rows: UInt16[np.ndarray, " n"],
    offsets: Int32[np.ndarray, " c"],
    freqs: UInt32[np.ndarray, "c k"],
) -> tuple[UInt16[np.ndarray, " n"], int]:
    """Return the table column of each symbol, the last (the escape's) where no table holds it, and their number."""
    escape = freqs.shape[1] - 1
    columns = symbols.astype(np.int64) - offsets[rows]
    held = (columns >= 0) & (columns < escape)
    held[held] = freqs[rows[held], columns[held]] > 0
    return np.where(held, columns, escape).astype(np.uint16), int((~held).sum())


def symbols_of(
    columns: UInt16[np.ndarray, " n"],
    rows: UInt16[np.ndarray, " n"],
    offsets: Int32[np.ndarray, " c"],
    escape: int,
) -> tuple[Int32[np.ndarray, " n"], int]:
    """Return the symbol that each column stands for, and how many are the escape, whose symbols mean nothing."""
    from codomain.kernels import rans_numba

    symbols = np.empty(len(columns), np.int32)
    return symbols, int(rans_numba.symbols_of(columns, rows, offsets, escape, symbols))
