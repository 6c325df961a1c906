"""The compiled backend of `kernels/rans.py`: the same bytes, a hundred times faster, without the GIL.

Imported only when coding starts; compiled once, then cached beside this file.
"""

from __future__ import annotations

import numpy as np
from codomain.kernels.compiled import compiled
from numba import int64, uint64

OPTIONS = {"boundscheck": False}


@compiled(**OPTIONS)
def encode(symbols, rows, offsets, entries, precision, states, words, escaped):  # type: ignore[no-untyped-def]
    """Fill ``words`` and ``escaped`` from their ends; return the indices of the first ones. ``words[0]`` is scratch."""
    lanes, n, width = uint64(len(states)), uint64(len(symbols)), uint64(entries.shape[1])
    p, one, low8, low16, low24 = uint64(precision), uint64(1), uint64(0xFF), uint64(0xFFFF), uint64(0xFFFFFF)
    whole, room, escape = one << p, uint64(32) - p, width - one
    flat = entries.reshape(-1, 2)
    last, free = uint64(len(words)) - one, uint64(len(escaped))  # where the next word goes; unsigned: no wrap-around
    for j in range(n):
        i = n - one - uint64(j)
        row = uint64(rows[i])
        column = uint64(int64(symbols[i]) - int64(offsets[row]))  # below the first: beyond the last
        at = row * width + min(column, escape)
        if column >= escape or flat[at, 0] == 0:
            at = row * width + escape
            free -= one
            escaped[free] = symbols[i]
        inverse, rest = flat[at, 0], flat[at, 1]
        f, lane = rest >> uint64(32), i & (lanes - one)
        x = uint64(states[lane])
        # no branch: which lanes emit is noise, and half of such branches would be mispredicted
        full = uint64(x >= f << room)
        words[last] = np.uint16(x & low16)
        last -= full
        x >>= full << uint64(4)
        q = (x * inverse) >> (rest & low8)
        states[lane] = np.uint32(x + q * (whole - f) + (rest >> uint64(8) & low24))
    return last + one, free


@compiled(**OPTIONS)
def decode(words, cursor, states, position, rows, peaks, coarse, held, precision, columns):  # type: ignore[no-untyped-def]
    """Fill ``columns``; return the new cursor. ``words`` ends in one 0 that is not part of the payload."""
    lanes, n_words = uint64(len(states)), uint64(len(words)) - uint64(1)
    p, one, start = uint64(precision), uint64(1), uint64(65536)
    mask, low16, low24 = (one << p) - one, uint64(0xFFFF), uint64(0xFFFFFF)
    shift = uint64(0)
    while uint64(coarse.shape[1]) << shift <= mask:
        shift += one
    lane, at = uint64(position) % lanes, uint64(cursor)
    for j in range(uint64(len(rows))):
        i = uint64(j)
        row = uint64(rows[i])
        x = uint64(states[lane])
        slot = x & mask
        found = peaks[row]  # known before the state is: mostly it is this one, and nothing waits for the tables
        rest = slot - (found & low16)  # below the start: beyond the end, as it is unsigned
        if rest >= found >> uint64(16) & low24:
            place = uint64(coarse[row, slot >> shift])
            found = held[place]
            rest = slot - (found & low16)
            while rest >= found >> uint64(16) & low24:
                place += one
                found = held[place]
                rest = slot - (found & low16)
        columns[i] = found >> uint64(40)
        x = (found >> uint64(16) & low24) * (x >> p) + rest
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
