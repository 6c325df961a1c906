"""The compiled backend of `kernels/rans.py`: the same bytes, a hundred times faster, without the GIL.

Imported only when coding starts; compiled once, then cached beside this file.
"""
# ruff: noqa: UP018

from __future__ import annotations

import numpy as np
from numba import njit, uint64

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@njit(**OPTIONS)  # type: ignore[untyped-decorator]
def encode(columns, rows, freqs, starts, precision, states, words):  # type: ignore[no-untyped-def]
    """Fill ``words`` from its end; return the index of the first one."""
    lanes = len(states)
    n = len(columns)
    free = len(words)
    p = uint64(precision)
    room = uint64(32) - p
    lane = (n - 1) % lanes
    for i in range(n - 1, -1, -1):
        row, column = rows[i], columns[i]
        f = uint64(freqs[row, column])
        x = uint64(states[lane])
        if x >= f << room:
            free -= 1
            words[free] = np.uint16(x & uint64(0xFFFF))
            x >>= uint64(16)
        # both fit 32 bits, where division is twice as fast
        q = np.uint32(x) // np.uint32(f)
        states[lane] = np.uint32((uint64(q) << p) + (x - uint64(q) * f) + uint64(starts[row, column]))
        lane = lanes - 1 if lane == 0 else lane - 1
    return free


@njit(**OPTIONS)  # type: ignore[untyped-decorator]
def decode(words, cursor, states, position, rows, freqs, starts, slots, precision, columns):  # type: ignore[no-untyped-def]
    """Fill ``columns``; return the new cursor. ``words`` ends in one 0 that is not part of the payload."""
    lanes = len(states)
    p = uint64(precision)
    mask = (uint64(1) << p) - uint64(1)
    lane = position % lanes
    n_words = len(words) - 1
    for i in range(len(rows)):
        row = rows[i]
        x = uint64(states[lane])
        slot = x & mask
        column = slots[row, slot]
        columns[i] = column
        x = uint64(freqs[row, column]) * (x >> p) + slot - uint64(starts[row, column])
        # no branch: which lanes refill is noise, half of such branches would be mispredicted
        low = uint64(x < uint64(65536))
        x = x << (low << uint64(4)) | low * uint64(words[min(cursor, n_words)])
        cursor += np.int64(low)
        states[lane] = np.uint32(x)
        lane += 1
        if lane == lanes:
            lane = 0
    return cursor


@njit(**OPTIONS)  # type: ignore[untyped-decorator]
def symbols_of(columns, rows, offsets, escape, symbols):  # type: ignore[no-untyped-def]
    """Fill ``symbols``; return how many are escaped."""
    escaped = 0
    for i in range(len(columns)):
        symbols[i] = offsets[rows[i]] + np.int32(columns[i])
        escaped += columns[i] == escape
    return escaped


@njit(**OPTIONS)  # type: ignore[untyped-decorator]
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
