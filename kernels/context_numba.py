"""`kernels/context.py`, compiled: the same numbers, bit for bit, a chunk at a time, without the GIL."""

from __future__ import annotations

import numpy as np
from codomain.kernels import rans_numba
from codomain.kernels.compiled import compiled
from codomain.kernels.context_sums_numba import (
    LANES,
    OPTIONS,
    PHASES,
    add_ring,
    keep,
    mirror,
    on_the_plane,
    place,
    previous,
    side,
)  # fmt: skip


@compiled(**OPTIONS)
def choose(symbols, work, floors, fraction, most, all_rows, coded):  # type: ignore[no-untyped-def]
    """Fill all_rows and coded, (d * h * w,), in coding order."""
    d, h, w = symbols.shape
    own, value, spread = work.symbols, work.value, work.spread
    for c in range(d):
        previous(c, h, w, work)
        n = 0
        for phase in range(PHASES):
            top, left, stride = on_the_plane(phase)
            for i in range(top, h, stride):
                row = symbols[c, i]
                for j in range(left, w, stride):
                    own[n] = row[j]
                    n += 1
        n = 0
        for phase in range(PHASES):
            end = predict(phase, c, n, h, w, floors[phase, c], fraction, work)
            put(phase, own[n:end], h, w, most, work)
            n = end
        row, target = all_rows[c * h * w :], coded[c * h * w :]
        for n in range(h * w):
            off = np.int32(own[n] - value[n])
            target[n] = -off if spread[n] & 1 else off
            row[n] = spread[n] >> 1
        keep(c, h, w, work)


@compiled(**OPTIONS)
def decode(  # type: ignore[no-untyped-def]
    words, states, escapes, peaks, coarse, held, offsets, escape, precision, work, floors, fraction, most, symbols
):  # fmt: skip
    """Fill ``symbols``, (d, h, w); return the words and escapes taken, or -1 escapes for bytes that are damaged."""
    d, h, w = symbols.shape
    own, value, spread = work.symbols, work.value, work.spread
    rows_taken, columns = np.empty(h * w, np.uint16), np.empty(h * w, np.uint16)
    cursor, taken = np.uint64(0), 0
    for c in range(d):
        previous(c, h, w, work)
        n = 0
        for phase in range(PHASES):
            end = predict(phase, c, n, h, w, floors[phase, c], fraction, work)
            row, column = rows_taken[n:end], columns[n:end]
            for m in range(end - n):
                row[m] = spread[n + m] >> 1
            cursor = rans_numba.decode(
                words, cursor, states, c * h * w + n, row, peaks, coarse, held, precision, column
            )
            for m in range(end - n):
                coded = np.int64(offsets[row[m]]) + np.int64(column[m])
                if column[m] == escape:
                    if taken == len(escapes):
                        return cursor, -1
                    coded = np.int64(escapes[taken])
                    taken += 1
                q = (-coded if spread[n + m] & 1 else coded) + value[n + m]
                if abs(q) > 1 << 30:
                    return cursor, -1
                own[n + m] = q
            put(phase, own[n:end], h, w, most, work)
            n = end
        n = 0
        for phase in range(PHASES):
            top, left, stride = on_the_plane(phase)
            for i in range(top, h, stride):
                row = symbols[c, i]
                for j in range(left, w, stride):
                    row[j] = own[n]
                    n += 1
        keep(c, h, w, work)
    return cursor, taken


@compiled(**OPTIONS)
def predict(phase, c, n, h, w, floor, fraction, work):  # type: ignore[no-untyped-def]
    """Finish value and spread of a phase, whose first position is ``n``; return where the next one begins."""
    s, top, left = place(phase)
    grid, width = work.grids[s], side(w, s)
    mirror(grid, width)
    flat, half, ring = grid.reshape(-1), grid.shape[2], work.ring.reshape(-1)
    of_value = (phase * work.ring.shape[2] + c) * 8
    of_spread = of_value + ring.size // 2
    m, first = (width - left + 1) // 2, n
    for i in range(top, side(h, s), 2):
        # the weights of neighbours that are not decoded are 0
        up, above = (2 * i + left) * half, (2 * i + 1 - left) * half + left
        here, down, below = up + 2 * half, up + 4 * half, above + 4 * half
        for j in range(0, m, LANES):
            at, count = n + j, m - j
            add_ring(
                work.value, at, count, flat, up + j, here + j, down + j, above + j, below + j, ring, of_value, False
            )
            add_ring(
                work.spread, at, count, flat, up + j, here + j, down + j, above + j, below + j, ring, of_spread, True
            )
        n += m
    rows(work.value[first:n], work.spread[first:n], floor, fraction)
    return n


@compiled(**OPTIONS)
def rows(value, spread, floor, fraction):  # type: ignore[no-untyped-def]
    """Round the value; turn the spread into twice the table, and 1 more for a mirrored symbol."""
    half = np.int32(1 << (fraction - 1))
    low, high = np.int32(1 << (fraction - 7)), np.int32((1 << (fraction + 7)) - 1)
    first = np.int32((127 + fraction - 7) * 4)  # exponent and two bits of the mantissa of the float that is ``low``
    for n in range(len(value)):
        v, s = value[n], np.int32(spread[n] + floor)
        near = np.int32((v + half) >> fraction)
        rest = np.int32(v - (near << fraction))
        s = min(max(s, low), high)
        # below 2**24 an integer is a float exactly, and its exponent the octave
        step = np.int32((np.float32(s).view(np.int32) >> 21) - first)
        value[n] = near
        spread[n] = np.int32((step * 4 + min(abs(rest) >> (fraction - 3), 3)) * 2 + (rest < 0))


@compiled(**OPTIONS)
def put(phase, symbols, h, w, most, work):  # type: ignore[no-untyped-def]
    """Enter the symbols of a phase into its grid; a grid that is complete, into the next."""
    s, top, left = place(phase)
    grid, height, width = work.grids[s], side(h, s), side(w, s)
    m, n = (width - left + 1) // 2, 0
    for i in range(top, height, 2):
        row = grid[i + 1, 1 - left, left:]
        for j in range(m):
            row[j] = min(max(symbols[n + j], np.int32(-most)), np.int32(most))
        n += m
    if phase % 3 == 0 and 0 < phase < 9:
        for i in range(height):
            row, target = grid[i + 1], work.grids[s + 1][2 * i + 1, 1]
            for j in range(width // 2):
                target[2 * j], target[2 * j + 1] = row[1, j], row[0, j + 1]
            if width % 2:
                target[width - 1] = row[1, width // 2]
