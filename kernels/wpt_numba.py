"""The compiled CPU path of `kernels/wpt.py`: 2-D, float32, symmetric filters of 9 and 7 taps (bior4.4).

The picture streams through the packet tree row by row: one read, one write, and between them a few rows of every
node, which stay in the cache.

    analysis    row --deinterleave--> columns, level by level --band row--> rows, level by level --> channels
    synthesis   channels --> rows, level by level --band row--> columns, level by level --interleave--> row

Inside, a row lies by its phases: sample ``P q + p`` at position q of phase p, ``P = 2**level``. Every filter tap of
either axis is then a shift of contiguous numbers, so one loop serves both axes and becomes vector instructions.
"""

from __future__ import annotations

import numpy as np
import torch
from codomain.kernels.compiled import compiled, even_cuts, run_threads
from codomain.kernels.matmul_numba import gather
from codomain.kernels.wpt import natural
from jaxtyping import Float
from numba import uintp
from torch import Tensor

PAD = 2  # margin of every phase, each side: the reach of the filters in units of two samples
SPLIT_ROWS, MERGE_ROWS = 9, 6  # rows that a node keeps: what one output needs, and what arrives at once
MARGIN = 4  # block rows before and after a strip, as many as `reach(level)` at any level
OPTIONS = {"fastmath": {"contract"}}
Taps = tuple[np.ndarray, np.ndarray]


def analyse(x: Float[Tensor, "b c h w"], level: int, taps: Taps, periodic: bool) -> Float[Tensor, "b d gh gw"]:
    """`wpt`; ``taps`` are the halves, centre first, of the analysis filters (5 low, 4 high)."""
    b, c, h, w = x.shape
    side = 1 << level
    planes = x.contiguous().numpy().reshape(b * c, h, w)
    out = np.empty((b * c, side * side, h // side, w // side), np.float32)
    cuts = cut_rows(b * c * h // side, planes.size)
    run_threads(_analyse, cuts, planes, out, level, *map(tuple, taps), periodic, natural(level))
    return torch.from_numpy(out).reshape(b, -1, h // side, w // side)


def synthesise(X: Float[Tensor, "b d gh gw"], level: int, taps: Taps, periodic: bool) -> Float[Tensor, "b c h w"]:
    """`iwpt`; ``taps`` are the halves, centre first, of the synthesis filters (4 low, 5 high)."""
    b, d, gh, gw = X.shape
    side = 1 << level
    c = d // side**2
    bands = X.contiguous().numpy().reshape(b * c, side * side, gh, gw)
    out = np.empty((b * c, gh * side, gw * side), np.float32)
    cuts = cut_rows(b * c * gh, out.size)
    run_threads(_synthesise, cuts, bands, out, level, *map(tuple, taps), periodic, natural(level))
    return torch.from_numpy(out).reshape(b, c, gh * side, gw * side)


def cut_rows(blocks: int, samples: int) -> list[int]:
    """Cut block rows into a part for every thread that torch would use and that the samples are worth."""
    return even_cuts(blocks, min(torch.get_num_threads(), 1 + samples // 50_000, blocks))


@compiled(**OPTIONS)
def _analyse(first, last, x, out, level, lo, hi, periodic, channels):  # type: ignore[no-untyped-def]
    """Block rows [first, last), counted through all planes."""
    gh, gw = x.shape[1] >> level, x.shape[2] >> level
    one, zero, s = np.float32(1), np.float32(0), workspace(gw, level)
    while first < last:
        plane, top = first // gh, first % gh
        bottom = min(gh, top + last - first)
        first += bottom - top
        stream(x[plane], top, bottom, gh, gw, level, lo, hi, periodic, one, zero, channels, s, out[plane], None, None)


@compiled(**OPTIONS)
def workspace(gw, level):  # type: ignore[no-untyped-def]
    """What `stream` works in: rings of the nodes above the leaves, two band rows, one more."""
    width = (gw + 2 * PAD) << level
    return np.zeros((((1 << level) - 1) * SPLIT_ROWS + 3) * width, np.float32)


@compiled(**OPTIONS)
def stream(  # type: ignore[no-untyped-def]
    x, top, bottom, gh, gw, level, lo, hi, periodic, scale, offset, channels, s, out, weights, y
):
    """Make packets of block rows [top, bottom) of the plane ``scale * x + offset``, whose last samples repeat.

    They go to out[channel, row]. With ``weights`` (one matrix per node), ``out`` is a place for the bands that come
    of one node instead, and y[row] gathers the products.
    """
    side = 1 << level
    stride = gw + 2 * PAD
    width = side * stride
    ring, bands = SPLIT_ROWS * width, (side - 1) * SPLIT_ROWS * width
    flat, at, put = out.reshape(-1), np.empty(9, np.uint64), np.empty(side, np.uint64)
    have = np.zeros(level + 1, np.int64)  # rows that have reached each depth
    start, rows = _strip(top, bottom, gh, periodic)
    rows <<= level
    while have[level] < bottom - start:
        depth = level  # the deepest first, so that rings stay short
        while depth and not _splittable(have[depth], have[depth - 1], rows >> (depth - 1)):
            depth -= 1
        k = have[depth]
        have[depth] += 1
        if depth == 0:
            row = x[min(((start << level) + k) % (gh << level), x.shape[0] - 1)]
            _deinterleave(row, s, k % SPLIT_ROWS * width, level, gw, scale, offset)
            continue
        for node in range(1 << (depth - 1)):
            source, target = (1 << (depth - 1)) - 1 + node, (1 << depth) - 1 + 2 * node
            for t in range(9):
                row = _extend(2 * k + t - 4, rows >> (depth - 1), False)
                at[t] = source * ring + row % SPLIT_ROWS * width
            if depth < level:
                low = target * ring + k % SPLIT_ROWS * width
                _split(s, uintp(low), uintp(low + ring), s, at, width, lo, hi)
            elif k >= top - start:
                _split(s, uintp(bands), uintp(bands + width), s, at, width, lo, hi)
                for i in range(2):
                    for f in range(side):
                        if weights is None:
                            put[f] = (channels[2 * node + i, f] * gh + start + k) * gw
                        else:
                            put[f] = (i * side + f) * out.shape[1]
                    _split_row(s, bands + i * width, bands + 2 * width, flat, put, level, gw, lo, hi, periodic, at)
                if weights is not None:
                    gather(weights[node], out, y[k - (top - start)])


@compiled(**OPTIONS)
def _synthesise(first, last, X, out, level, lo, hi, periodic, channels):  # type: ignore[no-untyped-def]
    side, (gh, gw) = 1 << level, X.shape[2:]
    stride = gw + 2 * PAD
    width = side * stride
    ring, work = MERGE_ROWS * width, (2 * side - 2) * MERGE_ROWS * width
    s = np.zeros(work + 2 * width, np.float32)  # rings of the nodes below the root, two rows
    at = np.empty(9, np.uint64)
    have = np.empty(level + 1, np.int64)
    while first < last:
        plane, top = first // gh, first % gh
        bottom = min(gh, top + last - first)
        first += bottom - top
        start, rows = _strip(top, bottom, gh, periodic)
        have[:] = 0
        while have[0] < (bottom - start) << level:
            depth = 1  # the shallowest first
            while depth <= level and not _mergeable(have[depth - 1] // 2, have[depth], rows << (level - depth)):
                depth += 1
            if depth > level:
                k = have[level]
                have[level] += 1
                for v in range(side):
                    for f in range(side):
                        a = work + f * stride + PAD
                        s[a : a + gw] = X[plane, channels[v, f], (start + k) % gh]
                    target = (side - 2 + v) * ring + k % MERGE_ROWS * width
                    _merge_row(s, work, work + width, target, level, gw, lo, hi, periodic, at)
                continue
            k = have[depth - 1] // 2
            have[depth - 1] += 2
            for node in range(1 << (depth - 1)):
                source, target = (1 << depth) - 2 + 2 * node, (1 << (depth - 1)) - 2 + node
                for t in range(9):  # low rows k-1 ... k+2, high rows k-2 ... k+2
                    high = t >= 4
                    row = _extend(2 * (k + t - (6 if high else 1)) + high, rows << (level - depth + 1), False) // 2
                    at[t] = (source + high) * ring + row % MERGE_ROWS * width
                if depth > 1:
                    even = target * ring + 2 * k % MERGE_ROWS * width  # an even number of rows: the odd one follows
                    _merge(s, uintp(even), uintp(even + width), s, at, width, lo, hi)
                elif 2 * k >= (top - start) << level:
                    _merge(s, uintp(work), uintp(work + width), s, at, width, lo, hi)
                    for i in range(2):
                        _interleave(s, work + i * width, out[plane, (start << level) + 2 * k + i], level, stride)


@compiled(**OPTIONS)
def _strip(top, bottom, blocks, periodic):  # type: ignore[no-untyped-def]
    """First block row and number of block rows that block rows [top, bottom) depend on.

    A strip that ends inside the picture is mirrored there too; the blocks that see this end are dropped.
    """
    if periodic:
        return top - MARGIN, bottom - top + 2 * MARGIN
    start = max(0, top - MARGIN)
    return start, min(blocks, bottom + MARGIN) - start


@compiled(**OPTIONS)
def _splittable(k, have, n):  # type: ignore[no-untyped-def]
    """Whether row k of both bands can be made from the first ``have`` of ``n`` rows."""
    return 2 * k < n and min(2 * k + 4, n - 1) < have


@compiled(**OPTIONS)
def _mergeable(k, have, n):  # type: ignore[no-untyped-def]
    """Whether rows 2k and 2k + 1 can be made from the first ``have`` of ``n`` rows of both bands."""
    return k < n and min(k + 2, n - 1) < have


@compiled(**OPTIONS)
def _extend(i, n, periodic):  # type: ignore[no-untyped-def]
    """The map E of `kernels/wpt.py`, on indices of the interleaved sequence of ``n``."""
    if 0 <= i < n:
        return i
    if periodic:
        return i % n
    i = i % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@compiled(**OPTIONS)
def _split(dst, low, high, src, at, count, lo, hi):  # type: ignore[no-untyped-def]
    """Filter nine neighbours, at src[at[t] + k], to one low and one high sample. Unsigned indices need no check."""
    l0, l1, l2, l3, l4 = lo
    h0, h1, h2, h3 = hi
    a, b, c, d, e, f, g, h, i = at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8]
    for k in range(uintp(count)):
        dst[low + k] = (
            l0 * src[e + k] + l1 * (src[d + k] + src[f + k]) + l2 * (src[c + k] + src[g + k])
            + l3 * (src[b + k] + src[h + k]) + l4 * (src[a + k] + src[i + k])
        )  # fmt: skip
        dst[high + k] = (
            h0 * src[f + k] + h1 * (src[e + k] + src[g + k])
            + h2 * (src[d + k] + src[h + k]) + h3 * (src[c + k] + src[i + k])
        )  # fmt: skip


@compiled(**OPTIONS)
def _merge(dst, even, odd, src, at, count, lo, hi):  # type: ignore[no-untyped-def]
    """Undo `_split`: four low and five high neighbours to two samples."""
    l0, l1, l2, l3 = lo
    h0, h1, h2, h3, h4 = hi
    a, b, c, d = at[0], at[1], at[2], at[3]
    p, q, r, t, u = at[4], at[5], at[6], at[7], at[8]
    for k in range(uintp(count)):
        dst[even + k] = (
            l0 * src[b + k] + l2 * (src[a + k] + src[c + k])
            + h1 * (src[q + k] + src[r + k]) + h3 * (src[p + k] + src[t + k])
        )  # fmt: skip
        dst[odd + k] = (
            l1 * (src[b + k] + src[c + k]) + l3 * (src[a + k] + src[d + k])
            + h0 * src[r + k] + h2 * (src[q + k] + src[t + k]) + h4 * (src[p + k] + src[u + k])
        )  # fmt: skip


@compiled(**OPTIONS)
def _split_row(s, a, b, out, put, level, gw, lo, hi, periodic, at):  # type: ignore[no-untyped-def]
    """All levels of the row at s[a], by phases, with the help of s[b]; band f goes to out[put[f]]."""
    stride = gw + 2 * PAD
    for depth in range(level):
        log = level - depth
        n, last = gw << log, (1 << log) - 1
        for node in range(1 << depth):
            base = a + (node << log) * stride + PAD
            for t in range(7):
                i = t - 4 if t < 4 else n + t - 4
                e = _extend(i, n, periodic)
                s[base + (i & last) * stride + (i >> log)] = s[base + (e & last) * stride + (e >> log)]
            for r in range(1 << (log - 1)):
                for t in range(9):
                    i = 2 * r + t - 4
                    at[t] = base + (i & last) * stride + (i >> log)
                if log == 1:
                    _split(out, put[2 * node], put[2 * node + 1], s, at, gw, lo, hi)
                else:
                    low = b + ((node << log) + r) * stride + PAD
                    _split(s, uintp(low), uintp(low + (stride << (log - 1))), s, at, gw, lo, hi)
        a, b = b, a


@compiled(**OPTIONS)
def _merge_row(s, a, b, target, level, gw, lo, hi, periodic, at):  # type: ignore[no-untyped-def]
    """Undo `_split_row`: the bands at s[a], with the help of s[b], to phases at s[target]."""
    stride = gw + 2 * PAD
    for depth in range(level - 1, -1, -1):
        log = level - 1 - depth  # of the phases of a child
        n, last = gw << log, (1 << log) - 1
        if depth == 0:
            b = target
        for node in range(1 << depth):
            base = a + (2 * node << log) * stride + PAD
            for high in range(2):
                child = base + (high << log) * stride
                for t in range(4):
                    i = t - 2 if t < 2 else n + t - 2
                    e = _extend(2 * i + high, 2 * n, periodic) // 2
                    s[child + (i & last) * stride + (i >> log)] = s[child + (e & last) * stride + (e >> log)]
            for r in range(1 << log):
                for t in range(9):
                    i = r + t - (1 if t < 4 else 6)
                    at[t] = base + ((t >= 4) << log) * stride + (i & last) * stride + (i >> log)
                even = b + ((2 * node << log) + 2 * r) * stride + PAD
                _merge(s, uintp(even), uintp(even + stride), s, at, gw, lo, hi)
        a, b = b, a


@compiled(**OPTIONS)
def _deinterleave(row, s, a, level, gw, scale, offset):  # type: ignore[no-untyped-def]
    for p in range(1 << level):
        start, phase, step = uintp(a + p * (gw + 2 * PAD) + PAD), uintp(p), uintp(1 << level)
        whole = len(row) >> level
        for q in range(uintp(whole)):
            s[start + q] = np.float32(row[q * step + phase]) * scale + offset
        for q in range(uintp(whole), uintp(gw)):
            s[start + q] = np.float32(row[min((q << level) + p, len(row) - 1)]) * scale + offset


@compiled(**OPTIONS)
def _interleave(s, a, row, level, stride):  # type: ignore[no-untyped-def]
    for p in range(1 << level):
        start, phase, step = uintp(a + p * stride + PAD), uintp(p), uintp(1 << level)
        for q in range(uintp(len(row) >> level)):
            row[q * step + phase] = s[start + q]
