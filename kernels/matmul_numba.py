"""Small matrix products inside compiled loops: y += weights @ bands, a tile of y at a time in registers.

LLVM does not find this form by itself, and numba's own product needs a BLAS that may not be there. So the tile is
written in LLVM's instructions, on vectors of eight that it maps to what the machine has. Every element of y is
summed in the order of the bands, whatever its place: results do not depend on how a product is cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from codomain.kernels.compiled import compiled
from jaxtyping import Float
from llvmlite import ir
from numba import types, uintp
from numba.core import cgutils
from numba.extending import intrinsic

ROWS, COLUMNS = 6, 16  # of a tile: 12 vectors of sums, and 16 registers
LANES = 8


def packed(weights: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "blocks k rows"]:
    """Order weights as `gather` reads them, filled up with rows of zeros."""
    m, k = weights.shape
    blocks = np.zeros((-(-m // ROWS) * ROWS, k), np.float32)
    blocks[:m] = weights
    return np.ascontiguousarray(blocks.reshape(-1, ROWS, k).transpose(0, 2, 1))


@compiled()
def gather(weights, bands, y):  # type: ignore[no-untyped-def]
    """``y += weights @ bands`` for packed weights; y has `ROWS` rows a block, all rows a multiple of `COLUMNS`."""
    blocks, count, _ = weights.shape
    step, wide = uintp(4 * y.shape[1]), y.shape[1]
    to, of, by = y.ctypes.data, bands.ctypes.data, weights.ctypes.data
    for j in range(0, wide, COLUMNS):
        for m in range(blocks):
            at = uintp(to + 4 * (m * ROWS * wide + j))
            _multiply_tile(at, uintp(of + 4 * j), uintp(by + 4 * m * ROWS * count), step, uintp(count))


@intrinsic
def _multiply_tile(typing_context, y, bands, weights, step, count):  # type: ignore[no-untyped-def]
    """``y[m, j] += weights[k, m] * bands[k, j]`` at addresses; rows of y and bands are ``step`` bytes apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, bands, weights, step, count = arguments
        scalar, vector = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
        at = [(m, i) for m in range(ROWS) for i in range(COLUMNS // LANES)]

        def pointer(base: Any, offset: int, kind: Any) -> Any:
            return builder.inttoptr(builder.add(base, ir.Constant(base.type, offset)), kind.as_pointer())

        def place(m: int, i: int) -> Any:
            row = builder.add(y, builder.mul(step, ir.Constant(step.type, m)))
            return pointer(row, 4 * LANES * i, vector)

        sums = {}
        for tile in at:
            sums[tile] = cgutils.alloca_once(builder, vector)
            builder.store(builder.load(place(*tile), align=4), sums[tile])
        with cgutils.for_range(builder, count) as loop:
            row = builder.add(bands, builder.mul(loop.index, step))
            column = [builder.load(pointer(row, 4 * LANES * i, vector), align=4) for i in range(COLUMNS // LANES)]
            first = builder.add(weights, builder.mul(loop.index, ir.Constant(step.type, 4 * ROWS)))
            for m in range(ROWS):
                one = builder.load(pointer(first, 4 * m, scalar), align=4)
                single = builder.insert_element(ir.Constant(vector, ir.Undefined), one, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                weight = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)
                for i, values in enumerate(column):
                    product = builder.fmul(weight, values, flags=["contract"])
                    builder.store(builder.fadd(product, builder.load(sums[m, i]), flags=["contract"]), sums[m, i])
        for tile in at:
            builder.store(builder.load(sums[tile]), place(*tile), align=4)
        return context.get_dummy_value()

    return types.void(*[types.uintp] * 5), generate
