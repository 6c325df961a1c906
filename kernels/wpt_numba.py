"""The compiled CPU path of `kernels/wpt.py`: 2-D, float32, symmetric filters of 9 and 7 taps (bior4.4).

Blocks of columns, then rows, pass all levels of their axis within the cache: two reads and two writes of
the picture in all. Rows are split into even and odd samples first, so that every loop runs over neighbours.
Natural band order costs nothing: it is where the second axis writes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from threading import Thread

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

BLOCK = 128  # columns at a time: long enough for vectors, short enough for the cache
PAD = 4  # margin of a row, beyond the reach of the filters
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
Taps = tuple[np.ndarray, np.ndarray]


def analyse(x: Float[Tensor, "b c h w"], level: int, taps: Taps, periodic: bool) -> Float[Tensor, "b d gh gw"]:
    """`wpt`; ``taps`` are the halves, centre first, of the analysis filters (5 low, 4 high)."""
    b, c, h, w = x.shape
    side = 1 << level
    planes = x.contiguous().numpy().reshape(b * c, h, w)
    bands = np.empty((h, w), np.float32)  # rows in the order (band along h, k)
    out = np.empty((b * c, side * side, h // side, w // side), np.float32)
    run = _runner(h * w)
    for plane, target in zip(planes, out, strict=True):
        run(_analyse_columns, -(-w // BLOCK), plane, bands, level, *taps, periodic)
        run(_analyse_rows, h, bands, _natural(level), target, level, *taps, periodic)
    return torch.from_numpy(out).reshape(b, -1, h // side, w // side)


def synthesise(X: Float[Tensor, "b d gh gw"], level: int, taps: Taps, periodic: bool) -> Float[Tensor, "b c h w"]:
    """`iwpt`; ``taps`` are the halves, centre first, of the synthesis filters (4 low, 5 high)."""
    b, d, gh, gw = X.shape
    side = 1 << level
    h, w = gh * side, gw * side
    sources = X.contiguous().numpy().reshape(b * d // side**2, side * side, gh, gw)
    bands = np.empty((h, w), np.float32)
    out = np.empty((len(sources), h, w), np.float32)
    run = _runner(h * w)
    for source, plane in zip(sources, out, strict=True):
        run(_synthesise_rows, h, source, _natural(level), bands, level, *taps, periodic)
        run(_synthesise_columns, -(-w // BLOCK), bands, plane, level, *taps, periodic)
    return torch.from_numpy(out).reshape(b, -1, h, w)


@cache
def _natural(level: int) -> np.ndarray:
    """Channel of (band along h, band along w): their bits interleaved, w's the higher one of each level."""
    v, h = np.meshgrid(np.arange(1 << level), np.arange(1 << level), indexing="ij")
    index = np.zeros_like(v)
    for bit in range(level):
        index |= (v >> bit & 1) << (2 * bit) | (h >> bit & 1) << (2 * bit + 1)
    return index


def _runner(samples: int) -> Callable[..., None]:
    """Return what runs a kernel over its blocks, on as many threads as torch would use."""
    threads = min(torch.get_num_threads(), 1 + samples // 50_000)

    def run(kernel: Callable[..., None], blocks: int, *arguments: object) -> None:
        cuts = [blocks * i // threads for i in range(threads + 1)]
        others = [Thread(target=kernel, args=(a, z, *arguments)) for a, z in pairwise(cuts[1:])]
        for thread in others:
            thread.start()
        kernel(0, cuts[1], *arguments)
        for thread in others:
            thread.join()

    return run


@njit(**OPTIONS)
def _extend(i, n, periodic):  # type: ignore[no-untyped-def]
    """The map E of `kernels/wpt.py`, on indices of the interleaved sequence of ``n``."""
    if 0 <= i < n:
        return i
    if periodic:
        return i % n
    i = i % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@njit(**OPTIONS)
def _split(src, dst, count, base, n, lo, hi, periodic):  # type: ignore[no-untyped-def]
    """One level: rows [base, base + n) of src to low rows, then high rows, of dst."""
    half = n // 2
    for k in range(half):
        i = 2 * k
        r0, r1, l1 = base + i, base + _extend(i + 1, n, periodic), base + _extend(i - 1, n, periodic)
        r2, l2 = base + _extend(i + 2, n, periodic), base + _extend(i - 2, n, periodic)
        r3, l3 = base + _extend(i + 3, n, periodic), base + _extend(i - 3, n, periodic)
        r4, l4 = base + _extend(i + 4, n, periodic), base + _extend(i - 4, n, periodic)
        low, high = base + k, base + half + k
        for c in range(count):
            dst[low, c] = (
                lo[0] * src[r0, c] + lo[1] * (src[l1, c] + src[r1, c]) + lo[2] * (src[l2, c] + src[r2, c])
                + lo[3] * (src[l3, c] + src[r3, c]) + lo[4] * (src[l4, c] + src[r4, c])
            )  # fmt: skip
        for c in range(count):  # centred on i + 1
            dst[high, c] = (
                hi[0] * src[r1, c] + hi[1] * (src[r0, c] + src[r2, c])
                + hi[2] * (src[l1, c] + src[r3, c]) + hi[3] * (src[l2, c] + src[r4, c])
            )  # fmt: skip


@njit(**OPTIONS)
def _merge(src, dst, count, base, n, lo, hi, periodic):  # type: ignore[no-untyped-def]
    """Undo `_split`: low and high rows of src to rows [base, base + n) of dst."""
    half = n // 2
    high = base + half
    for k in range(half):
        i = 2 * k  # interleaved index; even ones are low, odd ones high, on either side of an end
        l0, h0 = base + k, high + k
        lr, ll = base + _extend(i + 2, n, periodic) // 2, base + _extend(i - 2, n, periodic) // 2
        lrr = base + _extend(i + 4, n, periodic) // 2
        hl, hr = high + _extend(i - 1, n, periodic) // 2, high + _extend(i + 3, n, periodic) // 2
        hll, hrr = high + _extend(i - 3, n, periodic) // 2, high + _extend(i + 5, n, periodic) // 2
        for c in range(count):
            dst[base + i, c] = (
                lo[0] * src[l0, c] + lo[2] * (src[ll, c] + src[lr, c])
                + hi[1] * (src[hl, c] + src[h0, c]) + hi[3] * (src[hll, c] + src[hr, c])
            )  # fmt: skip
        for c in range(count):
            dst[base + i + 1, c] = (
                lo[1] * (src[l0, c] + src[lr, c]) + lo[3] * (src[ll, c] + src[lrr, c])
                + hi[0] * src[h0, c] + hi[2] * (src[hl, c] + src[hr, c]) + hi[4] * (src[hll, c] + src[hrr, c])
            )  # fmt: skip


@njit(**OPTIONS)
def _split_all(a, b, count, level, lo, hi, periodic):  # type: ignore[no-untyped-def]
    """All levels, from a to b to a ...; returns the one that holds the result."""
    n = len(a)
    for j in range(level):
        size = n >> j
        for s in range(1 << j):
            _split(a, b, count, s * size, size, lo, hi, periodic)
        a, b = b, a
    return a


@njit(**OPTIONS)
def _merge_all(a, b, count, level, lo, hi, periodic):  # type: ignore[no-untyped-def]
    """Undo `_split_all`."""
    n = len(a)
    for j in range(level - 1, -1, -1):
        size = n >> j
        for s in range(1 << j):
            _merge(a, b, count, s * size, size, lo, hi, periodic)
        a, b = b, a
    return a


@njit(**OPTIONS)
def _analyse_columns(first, last, x, out, level, lo, hi, periodic):  # type: ignore[no-untyped-def]
    n, width = x.shape
    a, b = np.empty((n, BLOCK), np.float32), np.empty((n, BLOCK), np.float32)
    for block in range(first, last):
        start = block * BLOCK
        count = min(BLOCK, width - start)
        for i in range(n):  # a copy: nine rows of a wide picture would fall on the same cache sets
            for c in range(count):
                a[i, c] = x[i, start + c]
        done = _split_all(a, b, count, level, lo, hi, periodic)
        for i in range(n):
            for c in range(count):
                out[i, start + c] = done[i, c]


@njit(**OPTIONS)
def _synthesise_columns(first, last, X, out, level, lo, hi, periodic):  # type: ignore[no-untyped-def]
    n, width = out.shape
    a, b = np.empty((n, BLOCK), np.float32), np.empty((n, BLOCK), np.float32)
    for block in range(first, last):
        start = block * BLOCK
        count = min(BLOCK, width - start)
        for i in range(n):
            for c in range(count):
                a[i, c] = X[i, start + c]
        done = _merge_all(a, b, count, level, lo, hi, periodic)
        for i in range(n):
            for c in range(count):
                out[i, start + c] = done[i, c]


@njit(**OPTIONS)
def _extend_row(row, n, parity, periodic):  # type: ignore[no-untyped-def]
    """Fill the margins of row[PAD : PAD + n], the samples of one parity of an interleaved sequence."""
    for j in range(1, PAD):
        row[PAD - j] = row[PAD + _extend(parity - 2 * j, 2 * n, periodic) // 2]
        row[PAD + n - 1 + j] = row[PAD + _extend(parity + 2 * (n - 1 + j), 2 * n, periodic) // 2]


@njit(**OPTIONS)
def _analyse_rows(first, last, x, channels, out, level, lo, hi, periodic):  # type: ignore[no-untyped-def]
    """Rows of x are (band along h, row); ``channels`` says where each pair of bands goes."""
    n = x.shape[1]
    height, width = out.shape[1], out.shape[2]
    even, odd = np.empty(n // 2 + 2 * PAD, np.float32), np.empty(n // 2 + 2 * PAD, np.float32)
    a, b = np.empty(n, np.float32), np.empty(n, np.float32)
    l0, l1, l2, l3, l4 = lo
    h0, h1, h2, h3 = hi
    for row in range(first, last):
        a[:] = x[row]
        for j in range(level):
            half = n >> (j + 1)
            for s in range(0, n, 2 * half):
                # views, indexed by k alone: numba's check for negative indices would forbid vectors
                e, o, source = even[PAD:], odd[PAD:], a[s : s + 2 * half]
                for k in range(half):
                    e[k], o[k] = source[2 * k], source[2 * k + 1]
                _extend_row(even, half, 0, periodic)
                _extend_row(odd, half, 1, periodic)
                ell, el, er, err = even[PAD - 2 :], even[PAD - 1 :], even[PAD + 1 :], even[PAD + 2 :]
                oll, ol, orr = odd[PAD - 2 :], odd[PAD - 1 :], odd[PAD + 1 :]
                low, high = b[s : s + half], b[s + half : s + 2 * half]
                for k in range(half):
                    low[k] = (
                        l0 * e[k] + l1 * (ol[k] + o[k]) + l2 * (el[k] + er[k])
                        + l3 * (oll[k] + orr[k]) + l4 * (ell[k] + err[k])
                    )  # fmt: skip
                for k in range(half):
                    high[k] = h0 * o[k] + h1 * (e[k] + er[k]) + h2 * (ol[k] + orr[k]) + h3 * (el[k] + err[k])
            a, b = b, a
        for band in range(1 << level):
            out[channels[row // height, band], row % height] = a[band * width : (band + 1) * width]


@njit(**OPTIONS)
def _synthesise_rows(first, last, X, channels, out, level, lo, hi, periodic):  # type: ignore[no-untyped-def]
    n = out.shape[1]
    height, width = X.shape[1], X.shape[2]
    low, high = np.empty(n // 2 + 2 * PAD, np.float32), np.empty(n // 2 + 2 * PAD, np.float32)
    a, b = np.empty(n, np.float32), np.empty(n, np.float32)
    l0, l1, l2, l3 = lo
    h0, h1, h2, h3, h4 = hi
    for row in range(first, last):
        for band in range(1 << level):
            a[band * width : (band + 1) * width] = X[channels[row // height, band], row % height]
        for j in range(level - 1, -1, -1):
            half = n >> (j + 1)
            for s in range(0, n, 2 * half):
                low[PAD : PAD + half] = a[s : s + half]
                high[PAD : PAD + half] = a[s + half : s + 2 * half]
                _extend_row(low, half, 0, periodic)
                _extend_row(high, half, 1, periodic)
                c, cl, cr, crr = low[PAD:], low[PAD - 1 :], low[PAD + 1 :], low[PAD + 2 :]
                d, dll, dl, dr, drr = (
                    high[PAD:],
                    high[PAD - 2 :],
                    high[PAD - 1 :],
                    high[PAD + 1 :],
                    high[PAD + 2 :],
                )
                target = b[s : s + 2 * half]
                for k in range(half):
                    x0 = l0 * c[k] + l2 * (cl[k] + cr[k]) + h1 * (dl[k] + d[k]) + h3 * (dll[k] + dr[k])
                    x1 = (
                        l1 * (c[k] + cr[k]) + l3 * (cl[k] + crr[k])
                        + h0 * d[k] + h2 * (dl[k] + dr[k]) + h4 * (dll[k] + drr[k])
                    )  # fmt: skip
                    target[2 * k], target[2 * k + 1] = x0, x1
            a, b = b, a
        out[row] = a
