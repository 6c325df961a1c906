"""`kernels/context.py`, compiled: the same numbers, bit for bit, a chunk at a time, without the GIL.

Most symbols are 0, so what channels say of later ones is not summed up but handed out: every other symbol adds its
products to the sums of the five positions that look at it, for `LANES` channels at once. Of the channel itself there
are three grids: every fourth, second, single row and column. On these all neighbours are at distance 1, and a phase is
every other row and column. A grid has a frame of mirrored symbols, and holds the odd columns of a row (from -1) before
the even ones: the positions of a phase, and each of their neighbours, lie side by side, as vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from codomain.kernels import rans_numba
from codomain.kernels.compiled import compiled
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

OPTIONS = {"boundscheck": False}
LANES = 8  # channels whose sums lie side by side: a vector of 256 bits
PAIR = 2 * LANES  # their values and their spreads
PHASES = 10


class Work(NamedTuple):
    """What coding a chunk of (d, h, w) remembers. Planes have frames; all integers but `starts` are int32."""

    weights: np.ndarray  # (blocks, d, 5 * PAIR) what a channel says of `LANES` others, at five positions
    sums: np.ndarray  # ((h + 4) * (w + 2) * PAIR,) for the channels of a block
    places: np.ndarray  # (d, (h + 2) * (w + 2)) in ``sums`` of the symbols that are not 0, row by row, and
    sizes: np.ndarray  # the same shape: these symbols
    starts: np.ndarray  # (d, h + 3) where a row's begin
    ring: np.ndarray  # (2, phases, d, 8) weights of value and spread
    grids: tuple[np.ndarray, np.ndarray, np.ndarray]  # (rows + 2, 2, half of the columns) of the channel
    symbols: np.ndarray  # (h * w,) of the channel, in coding order
    value: np.ndarray  # (h * w,) in coding order: the value; then it, rounded
    spread: np.ndarray  # (h * w,) the spread; then twice the table, and 1 more for a mirrored symbol


@intrinsic  # type: ignore[untyped-decorator]
def add_product(typing: Any, sums: Any, at: Any, weights: Any, start: Any, q: Any) -> Any:
    """``sums[at : at + LANES] += weights[start : start + LANES] * q``, a vector: so short a loop would stay scalar."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(32), LANES)

        def pointer(array: int, index: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.bitcast(builder.gep(data, [args[index]]), vector.as_pointer())

        target = pointer(0, 1)
        factor = builder.insert_element(ir.Constant(vector, ir.Undefined), args[4], ir.IntType(32)(0))
        factor = builder.shuffle_vector(factor, factor, ir.Constant(vector, [0] * LANES))
        product = builder.mul(builder.load(pointer(2, 3), align=4), factor)
        builder.store(builder.add(builder.load(target, align=4), product), target, align=4)
        return context.get_dummy_value()

    return types.void(sums, types.intp, weights, types.intp, types.int32), generate


@compiled(**OPTIONS)
def prepare(d, h, w, value_weights, spread_weights, value_ring, spread_ring):  # type: ignore[no-untyped-def]
    """Return `Work` to begin with."""
    blocks, m = (d + LANES - 1) // LANES, (h + 2) * (w + 2)
    weights = np.zeros((blocks, d, 5, 2, LANES), np.int32)
    for c in range(d):
        for k in range(c):
            for t in range(5):
                weights[c // LANES, k, t, 0, c % LANES] = value_weights[c, k, t]
                weights[c // LANES, k, t, 1, c % LANES] = spread_weights[c, k, t]
    ring = np.empty((2, *value_ring.shape), np.int32)
    ring[0], ring[1] = value_ring, spread_ring
    return Work(
        weights.reshape(blocks, d, 5 * PAIR),
        np.empty((h + 4) * (w + 2) * PAIR, np.int32),
        np.empty((d, m), np.int32),
        np.empty((d, m), np.int32),
        np.zeros((d, h + 3), np.int64),
        ring,
        (empty(h, w, 0), empty(h, w, 1), empty(h, w, 2)),
        np.empty(h * w, np.int32),
        np.empty(h * w, np.int32),
        np.empty(h * w, np.int32),
    )


@compiled(**OPTIONS)
def side(n, grid):  # type: ignore[no-untyped-def]
    """Return how many of ``n`` rows or columns a grid has."""
    return (n + (4 >> grid) - 1) >> (2 - grid)


@compiled(**OPTIONS)
def empty(h, w, grid):  # type: ignore[no-untyped-def]
    """Return a grid without symbols."""
    return np.zeros((side(h, grid) + 2, 2, (side(w, grid) + 3) // 2), np.int32)


@compiled(**OPTIONS)
def place(phase):  # type: ignore[no-untyped-def]
    """Return the index of a phase's grid, and its top and left there."""
    if phase == 0:
        return 0, 0, 0
    return (phase - 1) // 3, int(phase % 3 != 2), int(phase % 3 != 0)


@compiled(**OPTIONS)
def on_the_plane(phase):  # type: ignore[no-untyped-def]
    """Return top, left and stride of a phase on the plane."""
    grid, top, left = place(phase)
    return top << (2 - grid), left << (2 - grid), 8 >> grid


@compiled(**OPTIONS)
def previous(c, h, w, work):  # type: ignore[no-untyped-def]
    """Fill value and spread with what the channels before ``c`` say."""
    if c % LANES == 0:
        work.sums[:] = 0
        hand_out(0, c, c // LANES, h, w, work)
    else:
        hand_out(c - 1, c, c // LANES, h, w, work)
    sums, value, spread = work.sums[c % LANES :], work.value, work.spread
    n = 0
    for phase in range(PHASES):
        top, left, stride = on_the_plane(phase)
        for i in range(top, h, stride):
            row = (i + 2) * (w + 2) + 1
            for j in range(left, w, stride):
                at = (row + j) * PAIR
                value[n], spread[n] = sums[at], sums[at + LANES]
                n += 1


@compiled(**OPTIONS)
def hand_out(first, last, block, h, w, work):  # type: ignore[no-untyped-def]
    """Add what the channels from ``first`` to before ``last`` say of those of a block."""
    sums, places, sizes, starts, row = work.sums, work.places, work.sizes, work.starts, (w + 2) * PAIR
    for i in range(h + 2):  # rows outside: three of the sums stay in the first cache
        for k in range(first, last):
            weights = work.weights[block, k]
            for n in range(starts[k, i], starts[k, i + 1]):
                q, here = sizes[k, n], np.int64(places[k, n])
                size = np.int32(abs(q))
                # those that have it above are below it
                for t, at in enumerate((here, here + row, here - row, here + PAIR, here - PAIR)):
                    add_product(sums, at, weights, t * PAIR, q)
                    add_product(sums, at + LANES, weights, t * PAIR + LANES, size)


@compiled(**OPTIONS)
def keep(c, h, w, work):  # type: ignore[no-untyped-def]
    """Remember the symbols of the finished channel that are not 0."""
    places, sizes, starts, grid = work.places[c], work.sizes[c], work.starts[c], work.grids[2]
    mirror(grid, w)
    n = 0
    for i in range(h + 2):
        starts[i] = n
        for parity in range(2):
            row, at = grid[i, parity], ((i + 1) * (w + 2) + parity) * PAIR
            for j in range(len(row)):
                places[n], sizes[n] = at + 2 * PAIR * j, row[j]
                n += row[j] != 0
    starts[h + 2] = n


@compiled(**OPTIONS)
def mirror(grid, width):  # type: ignore[no-untyped-def]
    """Fill the frame of a grid."""
    height = len(grid) - 2
    if height > 1:
        grid[0], grid[height + 1] = grid[2], grid[height - 1]
    if width > 1:
        end, odd = (width + 1) // 2, (width + 1) % 2
        for i in range(height + 2):
            grid[i, 0, 0], grid[i, odd, end] = grid[i, 0, 1], grid[i, odd, end - 1]


@compiled(**OPTIONS)
def predict(phase, c, n, h, w, floor, fraction, work):  # type: ignore[no-untyped-def]
    """Finish value and spread of a phase, whose first position is ``n``; return where the next one begins."""
    s, top, left = place(phase)
    grid, width = work.grids[s], side(w, s)
    a, b = work.ring[0, phase, c], work.ring[1, phase, c]
    mirror(grid, width)
    # the weights of neighbours that are not decoded are 0
    a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    m = (width - left + 1) // 2
    for i in range(top, side(h, s), 2):
        up, here, down = grid[i, left], grid[i + 1, left], grid[i + 2, left]
        above, below = grid[i, 1 - left, left:], grid[i + 2, 1 - left, left:]
        value, spread = work.value[n : n + m], work.spread[n : n + m]
        for j in range(m):
            value[j] += np.int32(
                a0 * up[j] + a1 * up[j + 1] + a2 * down[j] + a3 * down[j + 1]
                + a4 * here[j] + a5 * here[j + 1] + a6 * above[j] + a7 * below[j]
            )  # fmt: skip
        for j in range(m):
            spread[j] += np.int32(
                b0 * abs(up[j]) + b1 * abs(up[j + 1]) + b2 * abs(down[j]) + b3 * abs(down[j + 1])
                + b4 * abs(here[j]) + b5 * abs(here[j + 1]) + b6 * abs(above[j]) + b7 * abs(below[j])
            )  # fmt: skip
        rows(value, spread, floor, fraction)
        n += m
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


@compiled(**OPTIONS)
def choose(  # type: ignore[no-untyped-def]
    symbols, value_weights, spread_weights, value_ring, spread_ring, floors, fraction, most, all_rows, coded
):
    """Fill all_rows and coded, (d * h * w,), in coding order."""
    d, h, w = symbols.shape
    work = prepare(d, h, w, value_weights, spread_weights, value_ring, spread_ring)
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
    words, states, escapes, freqs, starts, slots, offsets, precision,
    value_weights, spread_weights, value_ring, spread_ring, floors, fraction, most, symbols,
):  # fmt: skip
    """Fill ``symbols``, (d, h, w); return the words and escapes taken, or -1 escapes for bytes that are damaged."""
    d, h, w = symbols.shape
    work = prepare(d, h, w, value_weights, spread_weights, value_ring, spread_ring)
    own, value, spread = work.symbols, work.value, work.spread
    rows_taken, columns = np.empty(h * w, np.uint16), np.empty(h * w, np.uint16)
    escape, cursor, taken = freqs.shape[1] - 1, np.uint64(0), 0
    for c in range(d):
        previous(c, h, w, work)
        n = 0
        for phase in range(PHASES):
            end = predict(phase, c, n, h, w, floors[phase, c], fraction, work)
            row, column = rows_taken[n:end], columns[n:end]
            for m in range(end - n):
                row[m] = spread[n + m] >> 1
            cursor = rans_numba.decode(
                words, cursor, states, c * h * w + n, row, freqs, starts, slots, precision, column
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
