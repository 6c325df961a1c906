"""The compiled backend of `kernels/rans.py`: the same bytes, a hundred times faster, without the GIL.

Imported only when coding starts; compiled once, then cached beside this file.
"""

from __future__ import annotations

import numpy as np
from codomain.kernels.compiled import compiled
from numba import uint64

OPTIONS = {"boundscheck": False}


@compiled(**OPTIONS)
def encode(columns, rows, freqs, starts, inverses, precision, states, words):  # type: ignore[no-untyped-def]
    """Fill ``words`` from its end; return the index of the first one. ``words[0]`` is scratch."""
    lanes, n = uint64(len(states)), uint64(len(columns))
    p, one, low16 = uint64(precision), uint64(1), uint64(0xFFFF)
    whole, room = one << p, uint64(32) - p
    last = uint64(len(words)) - one  # where the next word goes; unsigned indices need no wrap-around
    lane = (n - one) % lanes
    for j in range(n):
        i = n - one - uint64(j)
        row, column = rows[i], columns[i]
        f, inverse = uint64(freqs[row, column]), inverses[row, column]
        x = uint64(states[lane])
        # no branch: which lanes emit is noise, and half of such branches would be mispredicted
        full = uint64(x >= f << room)
        words[last] = np.uint16(x & low16)
        last -= full
        x >>= full << uint64(4)
        q = (x * (inverse >> uint64(8))) >> (inverse & uint64(0xFF))
        states[lane] = np.uint32(x + q * (whole - f) + uint64(starts[row, column]))
        lane = lanes - one if lane == uint64(0) else lane - one
    return last + one


@compiled(**OPTIONS)
def decode(words, cursor, states, position, rows, freqs, starts, slots, precision, columns):  # type: ignore[no-untyped-def]
    """Fill ``columns``; return the new cursor. ``words`` ends in one 0 that is not part of the payload."""
    lanes, n_words = uint64(len(states)), uint64(len(words)) - uint64(1)
    p, one, start = uint64(precision), uint64(1), uint64(65536)
    mask = (one << p) - one
    lane, at = uint64(position) % lanes, uint64(cursor)
    for j in range(uint64(len(rows))):
        i = uint64(j)
        row = rows[i]
        x = uint64(states[lane])
        slot = x & mask
        column = slots[row, slot]
        columns[i] = column
        x = uint64(freqs[row, column]) * (x >> p) + slot - uint64(starts[row, column])
        # no branch: which lanes refill is noise, and half of such branches would be mispredicted
        low = uint64(x < start)
        x = x << (low << uint64(4)) | low * uint64(words[min(at, n_words)])
        at += low
        states[lane] = np.uint32(x)
        lane += one
        if lane == lanes:
            lane = uint64(0)
    return at


@compiled(**OPTIONS)
def symbols_of(columns, rows, offsets, escape, symbols):  # type: ignore[no-untyped-def]
    """Fill ``symbols``; return how many are escaped."""
    escaped = 0
    for i in range(len(columns)):
        symbols[i] = offsets[rows[i]] + np.int32(columns[i])
        escaped += columns[i] == escape
    return escaped


@compiled(**OPTIONS)
def columns_of(symbols, rows, offsets, freqs, columns):  # type: ignore[no-untyped-def]
    """Fill ``columns``; return how many are the escape."""
    escape = freqs.shape[1] - 1
    escaped = 0
    for i in range(len(symbols)):
        row = rows[i]
        column = np.int64(symbols[i]) - np.int64(offsets[row])
        if column < 0 or column >= escape or freqs[row, column] == 0:
            column = escape
            escaped += 1
        columns[i] = column
    return escaped
