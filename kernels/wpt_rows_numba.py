"""The compiled CPU path of `kernels/wpt.py` for signals of one axis: float32, bior4.4.

A signal streams through the packet tree a tile at a time: some blocks of ``2**level`` samples and the few around them
that they depend on, which stay in the cache through all levels. One read, one write.

    analysis    samples --transpose--> phases, level by level --> bands
    synthesis   bands, level by level --> phases --transpose--> samples

Inside, a tile lies by its phases, as a row does in `wpt_numba`. Tiles begin at the same places whatever the number of
threads, and so every number is made by the same operations.
"""

from __future__ import annotations

import numpy as np
import torch
from codomain.kernels.compiled import compiled, run_threads
from codomain.kernels.wpt_numba import MARGIN, OPTIONS, PAD, Taps, _merge_row, _split_row, cut_rows
from jaxtyping import Float
from numba import uintp
from torch import Tensor

SAMPLES, BLOCKS = 1 << 16, 64  # of a tile: about the first, not less than the second; multiples of a vector
SQUARE = 8  # blocks transposed at a time: their lines stay in the nearest cache


def analyse(x: Float[Tensor, "b c t"], level: int, taps: Taps, periodic: bool) -> Float[Tensor, "b d blocks"]:
    """`wpt`; ``taps`` are the halves, centre first, of the analysis filters (5 low, 4 high)."""
    b, c, t = x.shape
    rows = x.contiguous().numpy().reshape(b * c, t)
    out = np.empty((b * c, 1 << level, t >> level), np.float32)
    cuts = cut_rows(b * c * -(-(t >> level) // _inner(level)), rows.size)
    run_threads(_analyse, cuts, rows, out, level, *map(tuple, taps), periodic, _inner(level))
    return torch.from_numpy(out).reshape(b, -1, t >> level)


def synthesise(X: Float[Tensor, "b d blocks"], level: int, taps: Taps, periodic: bool) -> Float[Tensor, "b c t"]:
    """`iwpt`; ``taps`` are the halves, centre first, of the synthesis filters (4 low, 5 high)."""
    b, d, blocks = X.shape
    c = d >> level
    bands = X.contiguous().numpy().reshape(b * c, 1 << level, blocks)
    out = np.empty((b * c, blocks << level), np.float32)
    cuts = cut_rows(b * c * -(-blocks // _inner(level)), out.size)
    run_threads(_synthesise, cuts, bands, out, level, *map(tuple, taps), periodic, _inner(level))
    return torch.from_numpy(out).reshape(b, c, blocks << level)


def _inner(level: int) -> int:
    """Blocks that a tile is for; those on both sides make it a round number."""
    return max(BLOCKS, SAMPLES >> level) - 2 * MARGIN


@compiled(**OPTIONS)
def _tile(number, inner, blocks, periodic):  # type: ignore[no-untyped-def]
    """First block of a tile, blocks, and the blocks [top, bottom) that it is for.

    A signal of one tile is extended as it should be. What a tile makes up at an end inside the signal is not kept.
    """
    top = number * inner
    bottom = min(blocks, top + inner)
    if blocks <= inner:
        return 0, blocks, top, bottom
    if periodic:
        return top - MARGIN, bottom - top + 2 * MARGIN, top, bottom
    start = max(0, top - MARGIN)
    return start, min(blocks, bottom + MARGIN) - start, top, bottom


@compiled(**OPTIONS)
def _analyse(first, last, x, out, level, lo, hi, periodic, inner):  # type: ignore[no-untyped-def]
    """Tiles [first, last), counted through all rows."""
    side, blocks = 1 << level, x.shape[1] >> level
    tiles = (blocks + inner - 1) // inner
    size = (min(inner, blocks) + 2 * (MARGIN + PAD)) << level
    s, bands = np.zeros(2 * size, np.float32), np.empty(size, np.float32)
    at, put = np.empty(9, np.uint64), np.empty(side, np.uint64)
    for number in range(first, last):
        row, target = x[number // tiles], out[number // tiles]
        start, count, top, bottom = _tile(number % tiles, inner, blocks, periodic)
        _gather(row, s, level, start, count, blocks)
        for f in range(side):
            put[f] = f * count
        _split_row(s, 0, size, bands, put, level, count, lo, hi, periodic and blocks <= inner, at)
        for f in range(side):
            a = f * count + top - start
            target[f, top:bottom] = bands[a : a + bottom - top]


@compiled(**OPTIONS)
def _synthesise(first, last, X, out, level, lo, hi, periodic, inner):  # type: ignore[no-untyped-def]
    side, blocks = 1 << level, X.shape[2]
    tiles = (blocks + inner - 1) // inner
    size = (min(inner, blocks) + 2 * (MARGIN + PAD)) << level
    s, at = np.zeros(3 * size, np.float32), np.empty(9, np.uint64)
    for number in range(first, last):
        bands = X[number // tiles]
        start, count, top, bottom = _tile(number % tiles, inner, blocks, periodic)
        for f in range(side):
            a = f * (count + 2 * PAD) + PAD
            for k in range(max(0, -start)):
                s[a + k] = bands[f, (start + k) % blocks]
            low, high = max(0, start), min(blocks, start + count)
            s[a + low - start : a + high - start] = bands[f, low:high]
            for k in range(high - start, count):
                s[a + k] = bands[f, (start + k) % blocks]
        _merge_row(s, 0, size, 2 * size, level, count, lo, hi, periodic and blocks <= inner, at)
        _scatter(s, 2 * size, out[number // tiles], level, start, count, top, bottom)


@compiled(**OPTIONS)
def _gather(row, s, level, start, count, blocks):  # type: ignore[no-untyped-def]
    """Blocks from ``start`` on to phases at s[0]."""
    stride, side = uintp(count + 2 * PAD), uintp(1 << level)
    for q in range(0, count, SQUARE):
        if q + SQUARE <= count and start + q >= 0 and start + q + SQUARE <= blocks:
            a, b = uintp(q + PAD), uintp((start + q) << level)
            for p in range(side):
                for i in range(uintp(SQUARE)):
                    s[a + p * stride + i] = row[b + i * side + p]
        else:
            for k in range(q, min(q + SQUARE, count)):
                a, b = uintp(k + PAD), uintp((start + k) % blocks << level)
                for p in range(side):
                    s[a + p * stride] = row[b + p]


@compiled(**OPTIONS)
def _scatter(s, at, row, level, start, count, top, bottom):  # type: ignore[no-untyped-def]
    """Undo `_gather` for blocks [top, bottom), from phases at s[at]."""
    stride, side = uintp(count + 2 * PAD), uintp(1 << level)
    for q in range(top, bottom, SQUARE):
        a, b = uintp(at + q - start + PAD), uintp(q << level)
        if q + SQUARE <= bottom:
            for p in range(side):
                for i in range(uintp(SQUARE)):
                    row[b + i * side + p] = s[a + p * stride + i]
        else:
            for i in range(uintp(bottom - q)):
                for p in range(side):
                    row[b + i * side + p] = s[a + p * stride + i]
