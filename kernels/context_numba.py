"""`kernels/context.py`, compiled: the same numbers, bit for bit, a chunk at a time, without the GIL."""

from __future__ import annotations

import numpy as np
from codomain.kernels import rans_numba
from codomain.kernels.compiled import compiled

OPTIONS = {"boundscheck": False}


@compiled(**OPTIONS)
def previous(planes, sizes, c, value_weights, spread_weights, value, spread):  # type: ignore[no-untyped-def]
    """Fill value and spread, (h, w), with what the channels before ``c`` say; ``sizes`` is \\|planes\\|."""
    h, w = value.shape
    for i in range(h):
        v, s = value[i], spread[i]
        for j in range(w):
            v[j] = 0
            s[j] = 0
        for k in range(c):
            for t in range(5):
                a, b = np.int32(value_weights[c, k, t]), np.int32(spread_weights[c, k, t])
                row, start = i + 1 + (t == 2) - (t == 1), 1 + (t == 4) - (t == 3)
                if a != 0:
                    q = planes[k, row, start : start + w]
                    for j in range(w):
                        v[j] += np.int32(a * q[j])
                if b != 0:
                    q = sizes[k, row, start : start + w]
                    for j in range(w):
                        s[j] += np.int32(b * q[j])


@compiled(**OPTIONS)
def rows(own, value, spread, one, value_ring, spread_ring, floor, fraction, row, nearest, mirror):  # type: ignore[no-untyped-def]
    """Fill row, nearest and mirror for the positions of one phase; return how many."""
    h, w = value.shape
    top, left, stride, e, corners, sides = one
    n, half = 0, np.int32(1 << (fraction - 1))
    low, high = np.int32(1 << (fraction - 7)), np.int32((1 << (fraction + 7)) - 1)
    first = (127 + fraction - 7) * 4  # exponent and two bits of the mantissa of the float that is ``low``
    a, b = value_ring.astype(np.int32), spread_ring.astype(np.int32)
    for i in range(top, h, stride):
        up, down = (i - e if i >= e else i + e), (i + e if i + e < h else i - e)
        lost_rows = i < e and i + e >= h
        for j in range(left, w, stride):
            v, s = value[i, j], np.int32(spread[i, j] + floor)
            before, behind = (j - e if j >= e else j + e), (j + e if j + e < w else j - e)
            lost = j < e and j + e >= w
            if corners and not (lost or lost_rows):
                q0, q1, q2, q3 = own[up, before], own[up, behind], own[down, before], own[down, behind]
                v += np.int32(a[0] * q0 + a[1] * q1 + a[2] * q2 + a[3] * q3)
                s += np.int32(b[0] * abs(q0) + b[1] * abs(q1) + b[2] * abs(q2) + b[3] * abs(q3))
            if sides and not lost:
                q0, q1 = own[i, before], own[i, behind]
                v += np.int32(a[4] * q0 + a[5] * q1)
                s += np.int32(b[4] * abs(q0) + b[5] * abs(q1))
            if sides and not lost_rows:
                q0, q1 = own[up, j], own[down, j]
                v += np.int32(a[6] * q0 + a[7] * q1)
                s += np.int32(b[6] * abs(q0) + b[7] * abs(q1))
            near = np.int32((v + half) >> fraction)
            rest = np.int32(v - (near << fraction))
            s = min(max(s, low), high)
            # below 2**24 an integer is a float exactly, and its exponent the octave
            step = (np.float32(s).view(np.int32) >> 21) - first
            row[n] = step * 4 + min(abs(rest) >> (fraction - 3), 3)
            nearest[n] = near
            mirror[n] = -1 if rest < 0 else 1
            n += 1
    return n


@compiled(**OPTIONS)
def fill(plane, size):  # type: ignore[no-untyped-def]
    """Mirror a finished channel across its edges, and take its magnitudes; both (h + 2, w + 2)."""
    h, w = plane.shape[0] - 2, plane.shape[1] - 2
    if h > 1:
        plane[0], plane[h + 1] = plane[2], plane[h - 1]
    if w > 1:
        plane[:, 0], plane[:, w + 1] = plane[:, 2], plane[:, w - 1]
    for i in range(h + 2):
        for j in range(w + 2):
            size[i, j] = abs(plane[i, j])


@compiled(**OPTIONS)
def choose(  # type: ignore[no-untyped-def]
    symbols, value_weights, spread_weights, value_ring, spread_ring, floors, passes, fraction, most, all_rows, coded
):
    """Fill all_rows and coded, (d * h * w,), in coding order."""
    d, h, w = symbols.shape
    planes, sizes = np.zeros((d, h + 2, w + 2), np.int32), np.zeros((d, h + 2, w + 2), np.int32)
    for c in range(d):
        for i in range(h):
            for j in range(w):
                planes[c, 1 + i, 1 + j] = min(max(symbols[c, i, j], -most), most)
    value, spread = np.empty((h, w), np.int32), np.empty((h, w), np.int32)
    nearest, mirror = np.empty(h * w, np.int32), np.empty(h * w, np.int8)
    at = 0
    for c in range(d):
        previous(planes, sizes, c, value_weights, spread_weights, value, spread)
        for phase in range(len(passes)):
            one = passes[phase]
            n = rows(
                planes[c, 1 : h + 1, 1 : w + 1], value, spread, one,
                value_ring[phase, c], spread_ring[phase, c], floors[phase, c], fraction,
                all_rows[at:], nearest, mirror,
            )  # fmt: skip
            m = 0
            for i in range(one[0], h, one[2]):
                for j in range(one[1], w, one[2]):
                    coded[at + m] = (symbols[c, i, j] - nearest[m]) * mirror[m]
                    m += 1
            at += n
        fill(planes[c], sizes[c])


@compiled(**OPTIONS)
def decode(  # type: ignore[no-untyped-def]
    words, states, escapes, freqs, starts, slots, offsets, precision,
    value_weights, spread_weights, value_ring, spread_ring, floors, passes, fraction, most, symbols,
):  # fmt: skip
    """Fill ``symbols``, (d, h, w); return the words and escapes taken, or -1 escapes for bytes that are damaged."""
    d, h, w = symbols.shape
    planes, sizes = np.zeros((d, h + 2, w + 2), np.int32), np.zeros((d, h + 2, w + 2), np.int32)
    value, spread = np.empty((h, w), np.int32), np.empty((h, w), np.int32)
    row, columns = np.empty(h * w, np.uint16), np.empty(h * w, np.uint16)
    nearest, mirror = np.empty(h * w, np.int32), np.empty(h * w, np.int8)
    escape, position, cursor, taken = freqs.shape[1] - 1, 0, np.uint64(0), 0
    for c in range(d):
        previous(planes, sizes, c, value_weights, spread_weights, value, spread)
        for phase in range(len(passes)):
            one = passes[phase]
            n = rows(
                planes[c, 1 : h + 1, 1 : w + 1], value, spread, one,
                value_ring[phase, c], spread_ring[phase, c], floors[phase, c], fraction,
                row, nearest, mirror,
            )  # fmt: skip
            cursor = rans_numba.decode(
                words, cursor, states, position, row[:n], freqs, starts, slots, precision, columns[:n]
            )
            position += n
            m = 0
            for i in range(one[0], h, one[2]):
                for j in range(one[1], w, one[2]):
                    coded = np.int64(offsets[row[m]]) + np.int64(columns[m])
                    if columns[m] == escape:
                        if taken == len(escapes):
                            return cursor, -1
                        coded = np.int64(escapes[taken])
                        taken += 1
                    q = coded * mirror[m] + nearest[m]
                    if abs(q) > 1 << 30:
                        return cursor, -1
                    symbols[c, i, j] = q
                    planes[c, 1 + i, 1 + j] = min(max(q, -most), most)
                    m += 1
        fill(planes[c], sizes[c])
    return cursor, taken
