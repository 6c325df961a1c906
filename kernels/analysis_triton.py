"""Analysis of a picture in Triton: one read of the pixels, one write of the integers.

A program makes the packets of 64 x 64 samples of each channel as `wpt_triton` does, turns them to (positions, bands),
multiplies them with the weights of that channel, and rounds the sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from codomain.kernels.wpt import Mode, natural
from codomain.kernels.wpt_triton import (
    HEAD,
    PLANE_CHUNK,
    PLANE_STAGES,
    TILE,
    WARPS,
    WINDOW,
    Map,
    _support,
    steps,
    tables,
    transform_tile,
)
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

# in chunks of 32: 210 registers a thread at 16 latents, 254 at 64; nothing spills
LEVEL = 3  # so that a tile has 64 positions of 64 bands
MOST = 64  # latents: their sums stay in registers


def takes(level: int, wavelet: str, d: int) -> bool:
    """Whether the kernel fits: three levels in one pass, and sums in registers."""
    return level == LEVEL == max(steps(level, wavelet), default=0) and d <= MOST


def analyse(
    x: Shaped[Tensor, "b c h w"],
    weight: Float[Tensor, "d bands"],
    bias: Float[Tensor, " d"],
    level: int,
    wavelet: str,
    mode: Mode,
    dtype: torch.dtype,
    limits: tuple[int, int],
    scaling: tuple[float, float],
) -> Integer[Tensor, "b d gh gw"]:
    """`analyse` of ``scaling[0] * x + scaling[1]``; beyond ``limits`` integers saturate."""
    (b, c, h, w), d, side = x.shape, len(weight), 1 << level
    gh, gw = -(-h // side), -(-w // side)
    padded = max(16, triton.next_power_of_2(d))
    order = torch.from_numpy(natural(level)).flatten().to(x.device)  # channel of each (band along h, along w)
    weights = weight.new_zeros(c, side * side, padded, dtype=torch.float32)
    weights[:, :, :d] = weight.float().reshape(d, c, -1)[:, :, order].permute(1, 2, 0)
    first = bias.new_zeros(padded, dtype=torch.float32)
    first[:d] = bias
    by = Map(level, wavelet, mode, False, False)
    (rows, row_skipped), (columns, column_skipped) = (tables(n * side, by, x.device) for n in (gh, gw))
    out = torch.empty(b, d, gh, gw, dtype=dtype, device=x.device)
    failed = torch.zeros(1, dtype=torch.int32, device=x.device)
    grid = (b * triton.cdiv(gh * side, TILE) * triton.cdiv(gw * side, TILE),)
    _analysis_kernel[grid](
        x, out, rows, columns, weights, first, failed, c, gh * side, gw * side, h, w, *_support(by),
        row_skipped, column_skipped, *x.stride(), *scaling, d, *map(float, limits),
        PERIODIC=mode == "periodization", LEVEL=level, TILE=TILE, WINDOW=WINDOW, HEAD=HEAD, CHUNK=PLANE_CHUNK,
        LATENTS=padded, num_warps=WARPS, num_stages=PLANE_STAGES,
    )  # fmt: skip
    if failed.item():
        raise ValueError("latents must be finite; found NaN or infinity in the signal")
    return out


@triton.jit
def _analysis_kernel(
    x, out, by_row, by_column, weights, bias, failed, channels, height, width, rows_held, columns_held, first, reach,
    row_skipped, column_skipped, x_batch, x_channel, x_row, x_column, scale, offset, d, least, most,
    PERIODIC: tl.constexpr, LEVEL: tl.constexpr, TILE: tl.constexpr, WINDOW: tl.constexpr, HEAD: tl.constexpr,
    CHUNK: tl.constexpr, LATENTS: tl.constexpr,
):  # fmt: skip
    # x (b, channels, rows_held, columns_held); out (b, d, gh, gw); weights (channels, side * side, LATENTS)
    SIDE: tl.constexpr = 1 << LEVEL
    BLOCKS: tl.constexpr = TILE >> LEVEL
    row_tiles, column_tiles = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    column_tile = tl.program_id(0) % column_tiles
    row_tile = tl.program_id(0) // column_tiles % row_tiles
    batch = (tl.program_id(0) // column_tiles // row_tiles).to(tl.int64)
    HALF: tl.constexpr = SIDE * SIDE // 2
    latent = tl.arange(0, LATENTS)
    weights += tl.arange(0, HALF)[:, None] * LATENTS + latent[None, :]
    y = tl.zeros((BLOCKS * BLOCKS, LATENTS), tl.float32) + tl.load(bias + latent)[None, :]
    x += batch * x_batch
    for _channel in range(channels):
        z = transform_tile(
            x, by_row, by_column, row_tile, column_tile,
            height, width, rows_held, columns_held, first, reach, row_skipped, column_skipped, x_row, x_column, 0,
            scale, offset, PERIODIC, True, LEVEL, TILE, WINDOW, HEAD, CHUNK,
        )  # fmt: skip
        z = tl.permute(tl.reshape(z, (BLOCKS, SIDE, BLOCKS, SIDE)), (0, 2, 1, 3))
        # two halves of the bands: a product of all 64 needs more registers than there are
        left, right = tl.split(tl.permute(tl.reshape(z, (BLOCKS * BLOCKS, 2, HALF)), (0, 2, 1)))
        y = tl.dot(left, tl.load(weights), y, input_precision="tf32x3")
        y = tl.dot(right, tl.load(weights + HALF * LATENTS), y, input_precision="tf32x3")
        weights += SIDE * SIDE * LATENTS
        x += x_channel
    position = tl.arange(0, BLOCKS * BLOCKS)
    row, column = row_tile * BLOCKS + position // BLOCKS, column_tile * BLOCKS + position % BLOCKS
    gh, gw = height >> LEVEL, width >> LEVEL
    inside = ((row < gh) & (column < gw))[:, None] & (latent < d)[None, :]
    finite = tl.abs(y) < float("inf")
    tl.store(failed + tl.zeros_like(y).to(tl.int32), 1, mask=inside & (finite == 0))
    y = tl.where(finite, y, 0.0)
    floor = tl.floor(y)
    rest = y - floor
    odd = floor - 2 * tl.floor(floor * 0.5)
    y = floor + tl.where((rest > 0.5) | ((rest == 0.5) & (odd != 0)), 1.0, 0.0)
    y = tl.minimum(tl.maximum(y, least), most)
    to = (batch * d + latent).to(tl.int64)[None, :] * gh * gw + (row.to(tl.int64) * gw + column)[:, None]
    tl.store(out + to, y.to(out.dtype.element_ty), mask=inside)
