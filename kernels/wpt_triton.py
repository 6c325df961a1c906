"""Triton path of `kernels/wpt.py`: analysis, synthesis and their adjoints, each one read and one write of the tensor.

Along an axis, up to three levels are one banded matrix, and so are the inverse and the transposes of both. A tile of 64
by 64 outputs is therefore two small matrix products with a window of 128 by 128 inputs,

    Z = R X C'        R: rows of the matrix of axis h, C: of axis w, both cut to the window

on tensor cores, in three TF32 products that keep the accuracy of float32. The boundary is in the matrices: tiles near
an end have their own, all others share one. Samples and packets differ only in where an index lies in memory; since
the channel of bands v along h and f along w has the bits of both interleaved, rows and columns have offsets of their
own there too.

A value that is not finite spreads over the tiles that see it.

Loops over a plane's window are not pipelined: with 8 warps and three stages, what Triton 3.6 makes of the nested
products reads out of bounds on an H100; in one stage it is right, and faster.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from codomain.kernels.wpt import Mode, _matrix
from jaxtyping import Float
from torch import Tensor

TILE, WINDOW = 64, 128  # outputs of a tile along an axis, and the inputs that it sees
WARPS = 4
# inputs multiplied at a time, and stages; at most 168 registers a thread and 29 KB a block. An axis in chunks of 32
# spills on sm_80; on an H100 a plane in chunks of 16 takes twice the time.
AXIS_CHUNK, AXIS_STAGES = 16, 3
PLANE_CHUNK, PLANE_STAGES = 32, 1
HEAD = 4  # tiles at either end that may have matrices of their own
PROXY = 9 * TILE  # an axis this long has every kind of tile


class Map(NamedTuple):
    """What an axis is multiplied by: the transform, its inverse, or the transpose of either."""

    level: int
    wavelet: str
    mode: Mode
    inverse: bool
    transposed: bool

    @property
    def splits(self) -> bool:
        """Whether samples go in and packets come out."""
        return self.inverse == self.transposed


def analyse(x: Float[Tensor, "b c *space"], level: int, wavelet: str, mode: Mode) -> Float[Tensor, "b d *grid"]:
    """`wpt` of one or two axes."""
    for step in steps(level, wavelet):
        x = _Separable.apply(x, Map(step, wavelet, mode, False, False))
    return x


def synthesise(X: Float[Tensor, "b d *grid"], level: int, wavelet: str, mode: Mode) -> Float[Tensor, "b c *space"]:
    """`iwpt` of one or two axes."""
    for step in reversed(steps(level, wavelet)):
        X = _Separable.apply(X, Map(step, wavelet, mode, True, False))
    return X


@cache
def steps(level: int, wavelet: str) -> tuple[int, ...]:
    """Split levels into those of one pass each; none if not even one level of such filters fits the window."""
    maps = ((False, False), (False, True), (True, False), (True, True))
    longest = 0
    while longest < 3 and all(_support(Map(longest + 1, wavelet, "periodization", *m))[1] <= WINDOW for m in maps):
        longest += 1
    if longest == 0:
        return ()
    return (longest,) * (level // longest) + (level % longest,) * (level % longest > 0)


class _Separable(torch.autograd.Function):
    """A map along every axis; backward applies the transposed map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: Map) -> Tensor:
        ctx.by = by
        return transform(x, by)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        by: Map = ctx.by
        return _Separable.apply(gradients[0], by._replace(transposed=not by.transposed)), None


def transform(x: Float[Tensor, "b c *space"], by: Map) -> Float[Tensor, "b d *grid"]:
    """Apply a map along the one or two axes of ``x``, of one pass."""
    ndim, side = x.dim() - 2, 1 << by.level
    if by.splits:
        channels, space = x.shape[1], list(x.shape[2:])
        out = x.new_empty(len(x), channels * side**ndim, *[n // side for n in space])
    else:
        channels, space = x.shape[1] // side**ndim, [n * side for n in x.shape[2:]]
        out = x.new_empty(len(x), channels, *space)
    columns, skipped = tables(space[-1], by, x.device)
    first, reach = _support(by)
    common = {
        "PERIODIC": by.mode == "periodization", "SPLITS": by.splits, "LEVEL": by.level,
        "TILE": TILE, "WINDOW": WINDOW, "HEAD": HEAD, "num_warps": WARPS,
    }  # fmt: skip
    if ndim == 1:
        signals = len(x) * channels
        grid = (triton.cdiv(signals, TILE) * triton.cdiv(space[0], TILE),)
        _axis_kernel[grid](
            x.contiguous(), out, columns, signals, space[0], first, reach, skipped,
            CHUNK=AXIS_CHUNK, num_stages=AXIS_STAGES, **common,
        )  # fmt: skip
        return out
    rows, row_skipped = tables(space[0], by, x.device)
    # of a batch, channel, row and column, and of a band
    plane = space[0] * space[1]
    packets = (channels * plane, plane, space[1] // side, 1, plane // side**2)
    given, made = ((*x.stride(), 0), packets) if by.splits else (packets, (*out.stride(), 0))
    grid = (len(x) * channels * triton.cdiv(space[0], TILE) * triton.cdiv(space[1], TILE),)
    _plane_kernel[grid](
        x if by.splits else x.contiguous(), out, rows, columns, channels, *space, first, reach, row_skipped, skipped,
        *given, *made, CHUNK=PLANE_CHUNK, num_stages=PLANE_STAGES, **common,
    )  # fmt: skip
    return out


@cache
def _support(by: Map) -> tuple[int, int]:
    """First input that a tile inside sees, counted from its first output, and how many inputs."""
    matrix = _axis_matrix(PROXY, by._replace(mode="periodization"))
    middle = PROXY // TILE // 2 * TILE
    (used,) = np.flatnonzero(np.abs(matrix[middle : middle + TILE]).max(0) > 1e-14)[None]
    return int(used[0]) - middle, int(used[-1] - used[0]) + 1


def _axis_matrix(n: int, by: Map) -> np.ndarray:
    matrix = _matrix(n >> by.level, by.level, by.wavelet, by.mode, by.inverse)
    return matrix.T if by.transposed else matrix


@cache
def tables(n: int, by: Map, device: torch.device) -> tuple[Float[Tensor, "tiles window tile"], int]:
    """Transposed matrices of the tiles of an axis of ``n``; tile i has number ``min(i, max(HEAD, i - skipped))``."""
    skipped = max(0, (n - PROXY) // TILE)
    n -= skipped * TILE
    matrix, (first, _) = _axis_matrix(n, by), _support(by)
    out = np.zeros((-(-n // TILE), WINDOW, TILE), np.float32)
    for tile, part in enumerate(out):
        rows = matrix[tile * TILE : (tile + 1) * TILE]
        index = tile * TILE + first + np.arange(WINDOW)
        index = index % n if by.mode == "periodization" else np.where(index < n, index, -1)
        seen, place = np.unique(index, return_index=True)  # an axis may be shorter than the window, and come twice
        seen, place = seen[seen >= 0], place[seen >= 0]
        part[place, : len(rows)] = rows[:, seen].T
        assert np.abs(np.delete(rows, seen, 1)).max(initial=0) < 1e-12
    with torch.inference_mode(False):
        return torch.from_numpy(out).to(device), skipped


@triton.jit
def _offsets(i, step, band, PACKETS: tl.constexpr, LEVEL: tl.constexpr, NDIM: tl.constexpr, SHIFT: tl.constexpr):
    """Where sample i, or block and band i, of an axis lies; the bits of a band stand NDIM apart."""
    if PACKETS:
        offset = (i >> LEVEL).to(tl.int64) * step
        for bit in tl.static_range(LEVEL):
            offset += (((i >> bit) & 1) << (NDIM * bit + SHIFT)).to(tl.int64) * band
    else:
        offset = i.to(tl.int64) * step
    return offset


@triton.jit
def _window(i, n, held, PERIODIC: tl.constexpr):
    """Index of input i of an axis of n, of which the first ``held`` exist and the last repeats; and whether it is."""
    if PERIODIC:
        i = (i % n + n) % n
        inside = i >= 0
    else:
        inside = (i >= 0) & (i < n)
    return tl.minimum(i, held - 1), inside


@triton.jit
def _axis_kernel(
    x, out, matrices, rows, n, first, reach, skipped,
    PERIODIC: tl.constexpr, SPLITS: tl.constexpr, LEVEL: tl.constexpr,
    TILE: tl.constexpr, WINDOW: tl.constexpr, HEAD: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    # x, out (rows, n): samples, or bands and blocks; matrices (tiles, WINDOW, TILE)
    tiles = (n + TILE - 1) // TILE
    tile = tl.program_id(0) % tiles
    row = (tl.program_id(0) // tiles) * TILE + tl.arange(0, TILE)
    base = row.to(tl.int64)[:, None] * n
    k, t = tl.arange(0, CHUNK), tl.arange(0, TILE)
    number = tl.minimum(tile, tl.maximum(HEAD, tile - skipped))
    matrices += number * (WINDOW * TILE) + k[:, None] * TILE + t[None, :]
    z = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, reach, CHUNK):
        at, inside = _window(tile * TILE + first + start + k, n, n, PERIODIC)
        at = _offsets(at, 1, n >> LEVEL, not SPLITS, LEVEL, 1, 0)
        seen = (row < rows)[:, None] & (inside & (start + k < reach))[None, :]
        values = tl.load(x + base + at[None, :], mask=seen, other=0).to(tl.float32)
        z = tl.dot(values, tl.load(matrices + start * TILE), z, input_precision="tf32x3")
    i = tile * TILE + t
    to = _offsets(i, 1, n >> LEVEL, SPLITS, LEVEL, 1, 0)
    tl.store(out + base + to[None, :], z.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (i < n)[None, :])


@triton.jit
def transform_tile(
    x, by_row, by_column, row_tile, column_tile, height, width, rows_held, columns_held, first, reach,
    row_skipped, column_skipped, row_step, column_step, band_step, scale, offset,
    PERIODIC: tl.constexpr, SPLITS: tl.constexpr, LEVEL: tl.constexpr,
    TILE: tl.constexpr, WINDOW: tl.constexpr, HEAD: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """(TILE, TILE) outputs of the plane at x, whose values are taken as ``scale * x + offset``."""
    t, k = tl.arange(0, TILE), tl.arange(0, CHUNK)
    number = tl.minimum(row_tile, tl.maximum(HEAD, row_tile - row_skipped))
    by_row += number * (WINDOW * TILE) + k[None, :] * TILE + t[:, None]
    number = tl.minimum(column_tile, tl.maximum(HEAD, column_tile - column_skipped))
    by_column += number * (WINDOW * TILE) + k[:, None] * TILE + t[None, :]
    z = tl.zeros((TILE, TILE), tl.float32)
    for left in range(0, reach, CHUNK):
        column, in_columns = _window(column_tile * TILE + first + left + k, width, columns_held, PERIODIC)
        column = _offsets(column, column_step, band_step, not SPLITS, LEVEL, 2, 1)
        in_columns = in_columns & (left + k < reach)
        part = tl.zeros((TILE, CHUNK), tl.float32)
        for top in range(0, reach, CHUNK):
            row, in_rows = _window(row_tile * TILE + first + top + k, height, rows_held, PERIODIC)
            row = _offsets(row, row_step, band_step, not SPLITS, LEVEL, 2, 0)
            seen = (in_rows & (top + k < reach))[:, None] & in_columns[None, :]
            values = tl.load(x + row[:, None] + column[None, :], mask=seen, other=0).to(tl.float32)
            values = tl.where(seen, values * scale + offset, 0.0)
            part = tl.dot(tl.load(by_row + top * TILE), values, part, input_precision="tf32x3")
        z = tl.dot(part, tl.load(by_column + left * TILE), z, input_precision="tf32x3")
    return z


@triton.jit
def _plane_kernel(
    x, out, by_row, by_column, channels, height, width, first, reach, row_skipped, column_skipped,
    x_batch, x_channel, x_row, x_column, x_band, out_batch, out_channel, out_row, out_column, out_band,
    PERIODIC: tl.constexpr, SPLITS: tl.constexpr, LEVEL: tl.constexpr,
    TILE: tl.constexpr, WINDOW: tl.constexpr, HEAD: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    # x, out: planes of (height, width), samples or packets; by_row, by_column (tiles, WINDOW, TILE)
    row_tiles, column_tiles = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    column_tile = tl.program_id(0) % column_tiles
    row_tile = tl.program_id(0) // column_tiles % row_tiles
    plane = tl.program_id(0) // column_tiles // row_tiles
    batch, channel = (plane // channels).to(tl.int64), (plane % channels).to(tl.int64)
    z = transform_tile(
        x + batch * x_batch + channel * x_channel, by_row, by_column, row_tile, column_tile, height, width,
        height, width, first, reach, row_skipped, column_skipped, x_row, x_column, x_band, 1.0, 0.0,
        PERIODIC, SPLITS, LEVEL, TILE, WINDOW, HEAD, CHUNK,
    )  # fmt: skip
    r, c = row_tile * TILE + tl.arange(0, TILE), column_tile * TILE + tl.arange(0, TILE)
    to_row = _offsets(r, out_row, out_band, SPLITS, LEVEL, 2, 0)
    to_column = _offsets(c, out_column, out_band, SPLITS, LEVEL, 2, 1)
    out += batch * out_batch + channel * out_channel
    inside = (r < height)[:, None] & (c < width)[None, :]
    tl.store(out + to_row[:, None] + to_column[None, :], z.to(out.dtype.element_ty), mask=inside)
