"""What the channels before say, compiled: the sums of `kernels/context.py` over them, and the memory of a chunk.

Most symbols are 0, so these sums are not gathered but handed out: every other symbol adds its products to the sums of
the five positions that look at it, for `LANES` channels at once.

Of the channel that is coded there are three grids: every fourth, second, single row and column. On these all neighbours
are at distance 1, and a phase is every other row and column. A grid has a frame of mirrored symbols, and holds the odd
columns of a row (from -1) before the even ones: the positions of a phase, and each of their neighbours, lie side by
side, as vectors.
"""

from __future__ import annotations

import threading
from math import prod
from typing import Any, NamedTuple

import numpy as np
from codomain.kernels.compiled import compiled
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

OPTIONS = {"boundscheck": False}
LANES = 8  # channels whose sums lie side by side: a vector of 256 bits
PAIR = 2 * LANES  # their values and their spreads
PHASES = 10
kept = threading.local()  # memory of each thread's last chunk
RING_READS = (
    (4, 0),
    (4, 1),
    (6, 0),
    (6, 1),
    (5, 0),
    (5, 1),
    (7, 0),
    (8, 0),
)  # argument, and how far on, of each neighbour


class Work(NamedTuple):
    """What coding a chunk of (d, h, w) remembers. Planes have frames; `starts` are int64, all else int32."""

    weights: np.ndarray  # (blocks, d, 5 * PAIR) what a channel says of `LANES` others, at five positions
    sums: np.ndarray  # ((h + 4) * (w + 2) * PAIR,) for the channels of a block
    places: np.ndarray  # (d, (h + 2) * (w + 3)) in ``sums`` of the symbols that are not 0, row by row, and
    sizes: np.ndarray  # the same shape: these symbols
    starts: np.ndarray  # (d, h + 3) where a row's begin
    ring: np.ndarray  # (2, phases, d, 8) weights of value and spread
    grids: tuple[np.ndarray, np.ndarray, np.ndarray]  # (rows + 2, 2, half of the columns) of the channel
    symbols: np.ndarray  # (h * w + LANES,) of the channel, in coding order
    value: np.ndarray  # the same: the value; then it, rounded
    spread: np.ndarray  # the same: the spread; then twice the table, and 1 more for a mirrored symbol


def packed(
    value: np.ndarray, spread: np.ndarray, value_ring: np.ndarray, spread_ring: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``weights`` and ``ring`` of `Work`."""
    d = len(value)
    blocks = -(-d // LANES)
    weights = np.zeros((blocks * LANES, d, 5, 2), np.int32)
    weights[:d, :, :, 0], weights[:d, :, :, 1] = value, spread
    weights = np.ascontiguousarray(weights.reshape(blocks, LANES, d, 5, 2).transpose(0, 2, 3, 4, 1))
    return weights.reshape(blocks, d, 5 * PAIR), np.stack((value_ring, spread_ring)).astype(np.int32)


def prepare(shape: tuple[int, ...], weights: tuple[np.ndarray, np.ndarray]) -> Work:
    """Return `Work` to begin with; a thread's next chunk of the same shape is worked on in the same memory.

    Whatever an earlier chunk left there is written before it is read, or counts 0 times. Not compiled: that would take
    longer than all the rest.
    """
    last = getattr(kept, "chunk", None)
    if last is None or last[0] != shape:
        d, h, w = shape
        sides = [(-(-h // s), -(-w // s)) for s in (4, 2, 1)]
        shapes = [(a + 2, 2, (b + 3) // 2) for a, b in sides]
        # vectors may be read, and written back, beyond the end
        quarter, half, whole = (np.zeros(prod(s) + LANES, np.int32)[: prod(s)].reshape(s) for s in shapes)
        work = Work(
            weights[0],
            np.empty((h + 4) * (w + 2) * PAIR, np.int32),
            np.empty((d, (h + 2) * (w + 3)), np.int32),
            np.empty((d, (h + 2) * (w + 3)), np.int32),
            np.zeros((d, h + 3), np.int64),
            weights[1],
            (quarter, half, whole),
            *np.zeros((3, h * w + LANES), np.int32),
        )
        last = kept.chunk = shape, work  # in one: an interrupt must not part them
    found: Work = last[1]
    return found._replace(weights=weights[0], ring=weights[1])


@intrinsic
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


@intrinsic
def add_ring(
    typing: Any, target: Any, at: Any, count: Any, grid: Any, up: Any, here: Any, down: Any, above: Any, below: Any,
    weights: Any, start: Any, is_spread: Any,
) -> Any:  # fmt: skip
    """Add to ``target[at : at + count]``, at most `LANES`, what the eight neighbours of as many positions say.

    ``up`` to ``below`` are where the first position's begin in ``grid``, ``start`` where the weights do; with
    ``is_spread`` symbols count by their size. A row has few positions: most of a loop over them would be scalar.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, zero = ir.IntType(32), ir.IntType(32)(0)
        vector = ir.VectorType(word, LANES)

        def pointer(array: int, index: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.gep(data, [index])

        def all_lanes(scalar: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, zero)
            return builder.shuffle_vector(one, one, ir.Constant(vector, [0] * LANES))

        wide = args[4].type
        places = [args[n] if not step else builder.add(args[n], wide(1)) for n, step in RING_READS]
        total = ir.Constant(vector, [0] * LANES)
        for j, place in enumerate(places):
            q = builder.load(builder.bitcast(pointer(3, place), vector.as_pointer()), align=4)
            size = builder.select(builder.icmp_signed("<", q, ir.Constant(vector, [0] * LANES)), builder.neg(q), q)
            q = builder.select(args[11], size, q)
            weight = all_lanes(builder.load(pointer(9, builder.add(args[10], wide(j)))))
            total = builder.add(total, builder.mul(q, weight))
        lanes = all_lanes(builder.trunc(args[2], word))
        inside = builder.icmp_signed("<", ir.Constant(vector, list(range(LANES))), lanes)
        total = builder.select(inside, total, ir.Constant(vector, [0] * LANES))
        to = builder.bitcast(pointer(0, args[1]), vector.as_pointer())
        builder.store(builder.add(builder.load(to, align=4), total), to, align=4)
        return context.get_dummy_value()

    index = types.intp
    return types.void(target, index, index, grid, *[index] * 5, weights, index, types.boolean), generate


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
def previous(c, h, w, work):  # type: ignore[no-untyped-def]
    """Fill value and spread with what the channels before ``c`` say."""
    if c % LANES == 0:
        work.sums.fill(0)
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
def keep(c, h, w, work):  # type: ignore[no-untyped-def]
    """Remember the symbols of the finished channel that are not 0."""
    places, sizes, starts, grid = work.places[c], work.sizes[c], work.starts[c], work.grids[2]
    mirror(grid, w)
    n = 0
    for i in range(h + 2):
        starts[i] = n
        for parity in range(2):
            row, at = grid[i, parity], ((i + 1) * (w + 2) + parity) * PAIR
            some = np.int32(0)
            for j in range(len(row)):
                some |= row[j]
            for j in range(len(row) if some else 0):
                places[n], sizes[n] = at + 2 * PAIR * j, row[j]
                n += row[j] != 0
    starts[h + 2] = n


@compiled(**OPTIONS)
def mirror(grid, width):  # type: ignore[no-untyped-def]
    """Fill the frame of a grid."""
    height = len(grid) - 2
    if height > 1:
        for parity in range(2):
            for j in range(grid.shape[2]):
                grid[0, parity, j] = grid[2, parity, j]
                grid[height + 1, parity, j] = grid[height - 1, parity, j]
    if width > 1:
        end, odd = (width + 1) // 2, (width + 1) % 2
        for i in range(height + 2):
            grid[i, 0, 0], grid[i, odd, end] = grid[i, 0, 1], grid[i, odd, end - 1]


@compiled(**OPTIONS)
def side(n, grid):  # type: ignore[no-untyped-def]
    """Return how many of ``n`` rows or columns a grid has."""
    return (n + (4 >> grid) - 1) >> (2 - grid)


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
