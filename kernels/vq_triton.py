"""The GPU path of `kernels/vq.py`: as `kernels/vq_numba.py`, on tensor cores, with the residual in registers.

A program takes BN vectors of one group through all stages. In each it holds (BN, BK) lanes: tile after tile of BK
codes is scored by matrix products, and each lane keeps its highest score, whose it is, and its second highest.
Then the certificate of `vq_numba`: nearly always one code is within twice the rounding bound of the highest score.
Else the lanes within it are compared in float64; where a lane might hide one behind its highest, all codes are.

A score is three products of float16, x scaled to components of at most 1. With a = a1 + a2, no more than
2^-22 |a| + 2^-25 left over, a1 b1 + a1 b2 + a2 b1 lacks (3 + sqrt(d) / 2) 2^-22 |x||c| at most. Tensor cores add with
truncation, which takes less than 2^-23 |x||c| for each of 17 terms in each of 3 d / 16 steps. So rounding moves a
score by less than (3 d + 16) 2^-22 (|x||c| + |c|^2 / 2), x and c centred.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64, Integer
from torch import Tensor

NONE = tl.constexpr(2**31 - 1)  # no code


def search(
    x: Float[Tensor, "n gd"], books: Float[Tensor, "g s k d"], cosine: bool, wanted: bool
) -> tuple[Int64[Tensor, "n g s"], Float[Tensor, "n gd"], Float[Tensor, " n"], Int64[Tensor, "g s k"]]:
    """Return codes and, if ``wanted``, quantized vectors, squared errors and counts.

    ``books`` are contiguous, float32 or float64; ``x`` has any float dtype and any strides.

    Raises:
        ValueError: if the codes have more than `MOST` components, which registers would not hold.
    """
    (n, width), (g, stages, k, d) = x.shape, books.shape
    if d > MOST:
        raise ValueError(f"codes of at most {MOST} components fit a GPU's registers; found {d}")
    codes = torch.empty(n, g, stages, dtype=torch.int64, device=x.device)
    rows = n if wanted else 0
    x_hat = torch.empty(rows, width, dtype=books.dtype, device=x.device)
    error = torch.empty(rows, g, dtype=torch.float64, device=x.device)
    counts = torch.zeros(g, stages, k, dtype=torch.int64, device=x.device)
    if n:
        x = x if x.stride(1) == 1 else x.contiguous()
        pairs, bias, mean, frame = _prepare(books, cosine)
        launch = _launch(n * g, d, books.dtype == torch.float64)
        with torch.cuda.device_of(x):
            _search_kernel[triton.cdiv(n, launch.BN), g](
                x, books, *pairs, bias, mean, frame, codes, x_hat, error, counts, n, k, stages, x.stride(0),
                D=d, BD=launch.BD, BN=launch.BN, BK=launch.BK, COSINE=cosine, WANTED=wanted,
                num_warps=launch.warps, num_stages=launch.depth,
            )  # fmt: skip
    return codes, x_hat, error.sum(1).to(books.dtype), counts


def segment_sums(
    x: Float[Tensor, "n d"], codes: Integer[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "k d"], Int64[Tensor, " k"]]:
    """Return the sums and counts of the vectors of every code: sorted, then added in a fixed order."""
    ordered, order = codes.long().sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(k + 1, device=x.device))
    d = x.shape[1]
    sums = torch.empty(k, d, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    block = min(64, triton.next_power_of_2(max(d, 1)))
    if sums.numel():
        with torch.cuda.device_of(x):
            _sums_kernel[k, triton.cdiv(d, block)](x, order, starts, sums, d, *x.stride(), BR=32, BD=block, num_warps=4)
    return sums, starts.diff()


class Launch(NamedTuple):
    """Tile sizes; vectors, codes, components."""

    BN: int
    BK: int
    BD: int
    warps: int
    depth: int


def _launch(n: int, d: int, wide: bool = False) -> Launch:
    """Tiles that fit the registers; smaller ones for few vectors, so that there is work for all processors."""
    BD = max(16, triton.next_power_of_2(d))
    many, few = TILES[BD]
    BN, BK, warps, depth = few if wide or n < PROCESSORS * many[0] else many
    return Launch(BN, BK, BD, warps, depth)


PROCESSORS = 132  # of an H100
# Chosen among those that ptxas compiles without spills up to 64 components (128: some 350 bytes;
# from 256 on, where every warp holds the vectors as operands, there are some) by their times on an H100.
TILES = {  # components: vectors, codes, warps, tiles in flight, for many and for few vectors
    16: ((32, 128, 8, 3), (32, 128, 8, 3)), 32: ((64, 32, 8, 3), (32, 32, 8, 2)), 64: ((32, 128, 8, 3), (32, 64, 8, 3)),
    128: ((32, 128, 8, 3), (16, 32, 4, 3)), 256: ((64, 32, 8, 2), (16, 32, 4, 2)), 512: ((16, 32, 4, 2),) * 2,
    1024: ((16, 16, 8, 2),) * 2,
}  # fmt: skip
MOST = max(TILES)


def _prepare(books: Float[Tensor, "g s k d"], cosine: bool) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
    """Return centred and scaled codes, as pairs of float16; biases, float32; means and (scale, C), as books."""
    finite = books.isfinite().all(-1, keepdim=True)
    c = torch.where(finite, books.double(), 0.0)
    mean = (c.sum(2, keepdim=True) / finite.sum(2, keepdim=True).clamp_min(1)).to(books.dtype)
    mean = torch.where(mean.isfinite(), mean, 0.0) if not cosine else torch.zeros_like(mean)
    c = torch.where(finite, c - mean, 0.0)
    norm = c.square().sum(-1, keepdim=True).sqrt()
    largest = norm.amax(2, keepdim=True)
    if cosine:
        scale, by = torch.ones_like(largest), torch.where(norm > 0, 1 / norm, 0.0)
        bias, largest = torch.zeros_like(norm), torch.where(largest.isfinite(), 1.0, torch.inf)
    else:
        usable = torch.where(largest.isfinite(), largest, 0.0)
        exponent, most = usable.frexp().exponent, 126 if books.dtype == torch.float32 else 1000
        scale = torch.ldexp(torch.ones_like(largest), -exponent.clamp(-most, most))  # C is 1/2 to 1, but for extremes
        by, bias = scale, -0.5 * (norm * scale).square()
        largest = torch.where(exponent.abs() <= most, largest * scale, torch.inf)
    bias = torch.where(finite, bias, -torch.inf)
    c = c * by
    high = c.half()
    frame = torch.cat((scale, largest), -1)[:, :, 0].to(books.dtype).contiguous()
    return (high, (c - high.double()).half()), bias[..., 0].float(), mean[:, :, 0].contiguous(), frame


@triton.jit
def _distance(x, c, COSINE: tl.constexpr):
    """Squared distances (rows,), or negative cosines times \\|x\\|, of (rows, BD), in float64; NaN is infinity."""
    x, c = x.to(tl.float64), c.to(tl.float64)
    if COSINE:
        norm = tl.sum(c * c, 1)
        total = -tl.sum(x * c, 1) / tl.where(norm > 0, tl.sqrt(norm), 1.0)
        total = tl.where(norm < float("inf"), total, float("inf"))
    else:
        total = tl.sum((x - c) * (x - c), 1)
    return tl.where(total == total, total, float("inf"))


@triton.jit
def _compare(x, C, left, D: tl.constexpr, BD: tl.constexpr, COSINE: tl.constexpr):
    """The nearest to x (BD,) among the codes ``left``, each once, or NONE."""
    i = tl.arange(0, BD)
    least, found = tl.full((1,), float("inf"), tl.float64), tl.zeros((1,), tl.int32)
    j = tl.min(left, 0)
    while j < NONE:  # in ascending order
        c = tl.load(C + j.to(tl.int64) * D + i, mask=i < D, other=0.0)
        distance = _distance(x[None, :], c[None, :], COSINE)
        found = tl.where(distance < least, j, found)
        least = tl.minimum(least, distance)
        left = tl.where(left == j, NONE, left)
        j = tl.min(left, 0)
    return tl.max(found, 0)


@triton.jit
def _scan(x, C, k, D: tl.constexpr, BD: tl.constexpr, COSINE: tl.constexpr):
    """The nearest to x (BD,) among all codes of C: the definition."""
    WIDTH: tl.constexpr = 2048 // BD if BD < 1024 else 2
    lane, i = tl.arange(0, WIDTH), tl.arange(0, BD)
    least, which = tl.full((WIDTH,), float("inf"), tl.float64), tl.zeros((WIDTH,), tl.int32)
    for t in range(0, tl.cdiv(k, WIDTH)):
        code = t * WIDTH + lane
        inside = code < k
        c = tl.load(C + code[:, None].to(tl.int64) * D + i, mask=inside[:, None] & (i < D), other=0.0)
        distance = tl.where(inside, _distance(x[None, :], c, COSINE), float("inf"))
        which = tl.where(distance < least, t, which)
        least = tl.minimum(least, distance)
    return tl.min(tl.where(least == tl.min(least, 0), which * WIDTH + lane, NONE), 0)


@triton.jit
def _search_kernel(
    X,  # (n, g * D), rows of any stride
    C,  # (g, stages, k, D): the codes
    P1, P2,  # (g, stages, k, D) float16: the sum is centred and scaled
    BIAS,  # (g, stages, k) float32: minus half the squared norms of that
    MEAN,  # (g, stages, D), dtype of C
    FRAME,  # (g, stages, 2), dtype of C: scale, greatest norm
    CODES,  # (n, g, stages) int64
    X_HAT,  # (n, g * D), dtype of C
    ERROR,  # (n, g) float64
    COUNTS,  # (g, stages, k) int64, zeros
    n, k, stages, stride_n,
    D: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    COSINE: tl.constexpr, WANTED: tl.constexpr,
):  # fmt: skip
    """BN vectors of one group, all stages."""
    g, groups = tl.program_id(1), tl.num_programs(1)
    here, lane, i = tl.arange(0, BN), tl.arange(0, BK), tl.arange(0, BD)
    row = tl.program_id(0).to(tl.int64) * BN + here
    inside = (row < n)[:, None] & (i < D)
    r = tl.load(X + row[:, None] * stride_n + g * D + i, mask=inside, other=0.0).to(C.dtype.element_ty)
    out = X_HAT + row[:, None] * groups * D + g * D + i
    for s in range(0, stages):
        stage = (g * stages + s).to(tl.int64)
        book, bias = C + stage * k * D, BIAS + stage * k
        scale, largest = tl.load(FRAME + 2 * stage), tl.load(FRAME + 2 * stage + 1).to(tl.float32)
        centred = r - tl.load(MEAN + stage * D + i, mask=i < D, other=0.0)
        finite = (tl.sum(tl.where(r - r == 0, 0, 1), 1) == 0) & (row < n)
        top = tl.max(tl.abs(centred), 1)
        fits = finite & ((top == 0) | (top > 1e-37) & (top < 1e37))  # no score is NaN, then
        top = tl.where(fits & (top > 0), top, 1.0)
        q = tl.where(fits[:, None], centred / top[:, None], 0.0).to(tl.float32)
        size = (top * scale).to(tl.float32)  # of the scores; they decide nothing for a cosine but the bound
        if COSINE:
            size = tl.full((BN,), 1.0, tl.float32)
        norm = tl.sqrt(tl.sum(q * q, 1)) * size
        q1 = q.to(tl.float16)
        q2 = (q - q1.to(tl.float32)).to(tl.float16)
        best, second = tl.full((BN, BK), float("-inf"), tl.float32), tl.full((BN, BK), float("-inf"), tl.float32)
        which = tl.zeros((BN, BK), tl.int32)
        offset = lane[None, :] * D + i[:, None]
        for t in range(0, tl.cdiv(k, BK)):
            known, at = t * BK + lane < k, (stage * k + t * BK) * D
            mask = known[None, :] & (i < D)[:, None]
            p1, p2 = tl.load(P1 + at + offset, mask=mask, other=0.0), tl.load(P2 + at + offset, mask=mask, other=0.0)
            score = tl.dot(q1, p1, tl.dot(q1, p2, tl.dot(q2, p1))) * size[:, None]
            score += tl.load(bias + t * BK + lane, mask=known, other=float("-inf"))[None, :]
            second = tl.maximum(second, tl.minimum(best, score))
            which = tl.where(score > best, t, which)
            best = tl.maximum(best, score)

        # how far two scores may have moved towards each other, as `vq_numba._bound`
        rounding = norm * largest + 0.5 * largest * largest
        margin = (3 * BD + 16) * 2.0**-22 * rounding + BD * 2.0**-120
        margin = 2.02 * (margin + (BD + 6) * 2.0**-53 * (norm + largest) * (norm + largest))
        threshold = (tl.max(best, 1) - tl.where(fits, margin, float("inf")))[:, None]
        maybe = tl.where(best < threshold, 0, 1)  # NaN is a maybe
        many = tl.sum(maybe, 1)
        hidden = tl.sum(tl.where(second < threshold, 0, 1), 1) > 0
        code = which * BK + lane[None, :]
        found = tl.where(finite, tl.min(tl.where(maybe > 0, code, NONE), 1), 0)

        doubtful = tl.where(finite & (hidden | (many > 1)), here, BN)
        one = tl.min(doubtful, 0)
        while one < BN:
            mine = here == one
            x = tl.sum(tl.where(mine[:, None], r, 0.0), 0)
            if tl.max(tl.where(mine & hidden, 1, 0), 0) > 0:
                nearest = _scan(x, book, k, D, BD, COSINE)
            else:
                left = tl.min(tl.where(mine[:, None] & (maybe > 0), code, NONE), 0)
                nearest = _compare(x, book, left, D, BD, COSINE)
            found = tl.where(mine, nearest, found)
            doubtful = tl.where(mine, BN, doubtful)
            one = tl.min(doubtful, 0)

        tl.store(CODES + (row * groups + g) * stages + s, found.to(tl.int64), mask=row < n)
        chosen = tl.load(book + found[:, None].to(tl.int64) * D + i, mask=inside, other=0.0)
        r -= chosen
        if WANTED:
            tl.atomic_add(COUNTS + stage * k + found, 1, mask=row < n)  # integers: any order gives the same
            if s > 0:
                chosen += tl.load(out, mask=inside, other=0.0)  # written by this thread
            tl.store(out, chosen, mask=inside)
    if WANTED:
        r64 = r.to(tl.float64)
        tl.store(ERROR + row * groups + g, tl.sum(r64 * r64, 1), mask=row < n)


@triton.jit
def _sums_kernel(
    X,  # (n, d), any strides
    ORDER,  # (n,) int64: vectors of code 0, of code 1, ...
    STARTS,  # (k + 1,) int64
    SUMS,  # (k, d)
    d, stride_n, stride_d, BR: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """BD components of one code's sum, BR vectors at a time."""
    code, i = tl.program_id(0).to(tl.int64), tl.program_id(1) * BD + tl.arange(0, BD)
    first, last = tl.load(STARTS + code), tl.load(STARTS + code + 1)
    total = tl.zeros((BD,), tl.float64)
    for block in range(0, tl.cdiv(last - first, BR)):
        at = first + block * BR + tl.arange(0, BR)
        row = tl.load(ORDER + at, mask=at < last, other=0)
        x = tl.load(
            X + row[:, None] * stride_n + i.to(tl.int64) * stride_d, mask=(at < last)[:, None] & (i < d), other=0.0
        )
        total += tl.sum(x.to(tl.float64), 0)
    tl.store(SUMS + code * d + i, total, mask=i < d)
