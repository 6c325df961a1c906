"""The compiled CPU path of `kernels/vq.py`: scores in registers, certified, the doubtful ones redone in float64.

With m the mean of the codes, and everything scaled by a power of two so that nothing over- or underflows,

    |x - c|^2 = |x - m|^2 - 2 score,      score = (x - m) . (c - m) - |c - m|^2 / 2

so the nearest code has the highest score; a cosine is the score of c / |c| with m = 0 and no last term. Scores are
float32 sums, 6 vectors by 16 codes at once, and never leave the registers: each vector keeps, in each of `LANES`
lanes, the highest score, whose it is, and the second highest. Rounding moves a score by at most

    bound = (d + 6) u (|x - m| C + C^2 / 2),      C = max |c - m|,  u = 2^-24        (Higham 2002, section 3.1)

(`_bound` adds what underflow and the float64 arithmetic of the definition may do). So the nearest code is among those
within twice the bound of the highest score. Mostly that is one code. Where there are several, all in different
lanes, those are compared in float64; where a lane might hide one behind its highest, all codes are.
"""

from __future__ import annotations

from math import frexp, inf, isfinite, ldexp, sqrt

import numpy as np
import torch
from codomain.kernels.compiled import compiled, even_cuts, run_threads
from jaxtyping import Int64, Shaped
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS, LANES = 6, 8  # a tile of 6 x 16 scores fills 12 of the 16 vector registers of AVX2
PANEL = 2 * LANES  # codes that lie side by side
BLOCK = 32 * ROWS  # vectors that share a panel while it is in the first cache
WORTH = 1 << 20  # multiplications worth a thread


def search(
    x: Shaped[np.ndarray, "n gd"], books: Shaped[np.ndarray, "g s k d"], cosine: bool, wanted: bool
) -> tuple[
    Int64[np.ndarray, "n g s"], Shaped[np.ndarray, "n gd"], Shaped[np.ndarray, " n"], Int64[np.ndarray, "g s k"]
]:
    """Return codes and, if ``wanted``, quantized vectors, squared errors and counts.

    Vectors and codebooks are of one dtype, float32 or float64.
    """
    (n, width), (g, stages, k, d) = x.shape, books.shape
    codes = np.empty((n, g, stages), np.int64)
    x_hat = np.empty((n if wanted else 0, width), x.dtype)
    error = np.empty(n if wanted else 0, x.dtype)
    panels = np.empty((g, stages, -(-k // PANEL), d + 1, PANEL), np.float32)
    frames = np.empty((g, stages, d + 2))
    for i in range(g):
        for s in range(stages):
            _prepare(books[i, s], cosine, panels[i, s], frames[i, s])
    threads = max(1, min(torch.get_num_threads(), -(-n // ROWS), n * width * stages * k // WORTH))
    run_threads(_search, even_cuts(n, threads), x, books, cosine, panels, frames, codes, x_hat, error)
    counts = np.zeros((g, stages, k), np.int64)
    for i, s in np.ndindex(g, stages if wanted else 0):
        counts[i, s] = np.bincount(codes[:, i, s], minlength=k)
    return codes, x_hat, error, counts


def segment_sums(
    x: Shaped[np.ndarray, "n d"], codes: Int64[np.ndarray, " n"], k: int
) -> tuple[Shaped[np.ndarray, "k d"], Int64[np.ndarray, " k"]]:
    """Return the sums and counts of the vectors of every code; a thread owns its codes."""
    order, starts = np.empty(len(codes), np.int64), np.zeros(k + 1, np.int64)
    _sort(codes, order, starts)
    sums = np.empty((k, x.shape[1]), x.dtype)
    threads = max(1, min(torch.get_num_threads(), k, x.size // WORTH))
    # equal shares of vectors, not of codes
    inner = np.searchsorted(starts, even_cuts(len(codes), threads)[1:-1])
    run_threads(_sums, [0, *np.minimum(inner, k).tolist(), k], x, order, starts, sums)
    return sums, np.diff(starts)


@intrinsic
def _tile(typing, x, x_at, panel, panel_at, d, best, second, which, at, first):  # type: ignore[no-untyped-def]
    """Score ROWS vectors, (d, ROWS) from ``x_at``, against a panel, bias and (d, PANEL); update the lanes of each.

    Written in LLVM's vectors: the compiler finds no such tile by itself. ``first`` is the number of the panel's first
    lane group, counted through the codebook.
    """
    signature = types.void(x, x_at, panel, panel_at, d, best, second, which, at, first)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        f32, i32, word = ir.FloatType(), ir.IntType(32), ir.IntType(64)
        vector, numbers = ir.VectorType(f32, LANES), ir.VectorType(i32, LANES)
        x, panel, best, second, which = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2, 5, 6, 7)
        )
        x_at, panel_at, d, at, first = (arguments[i] for i in (1, 3, 4, 8, 9))

        def call(name, *operands):  # type: ignore[no-untyped-def]
            kind = ir.FunctionType(vector, [vector] * len(operands))
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
            return builder.call(function, operands, fastmath=("nnan",))  # `_pack` sees to that

        def place(base, index, kind):  # type: ignore[no-untyped-def]
            return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())

        def load(base, index, kind=vector):  # type: ignore[no-untyped-def]
            return builder.load(place(base, index, kind), align=4)

        def spread(scalar, kind):  # type: ignore[no-untyped-def]
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, i32(0))
            return builder.shuffle_vector(
                one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
            )

        biases = [load(panel, builder.add(panel_at, word(v * LANES))) for v in range(2)]
        before, loop, after = builder.block, *(builder.append_basic_block() for _ in range(2))
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(word)
        i.add_incoming(word(0), before)
        scores = [[builder.phi(vector) for _ in range(2)] for _ in range(ROWS)]
        row = builder.add(panel_at, builder.mul(builder.add(i, word(1)), word(PANEL)))
        column = builder.add(x_at, builder.mul(i, word(ROWS)))
        c = [load(panel, builder.add(row, word(v * LANES))) for v in range(2)]
        for r in range(ROWS):
            value = spread(load(x, builder.add(column, word(r)), f32), vector)
            for v in range(2):
                scores[r][v].add_incoming(biases[v], before)
                scores[r][v].add_incoming(call("fmuladd", value, c[v], scores[r][v]), loop)
        following = builder.add(i, word(1))
        i.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, d), loop, after)
        sums = [[scores[r][v].incomings[1][0] for v in range(2)] for r in range(ROWS)]

        builder.position_at_end(after)
        group = builder.trunc(first, i32) if first.type != i32 else first
        left, right = spread(group, numbers), spread(builder.add(group, i32(1)), numbers)

        for r in range(ROWS):
            here = builder.add(at, word(r * LANES))
            b, s, w = load(best, here), load(second, here), load(which, here, numbers)
            high, low = call("maxnum", *sums[r]), call("minnum", *sums[r])
            mine = builder.select(builder.fcmp_ordered(">", sums[r][1], sums[r][0]), right, left)
            w = builder.select(builder.fcmp_ordered(">", high, b), mine, w)
            s = call("maxnum", s, call("maxnum", low, call("minnum", high, b)))
            b = call("maxnum", high, b)
            for base, value, kind in ((best, b, vector), (second, s, vector), (which, w, numbers)):
                builder.store(value, place(base, here, kind), align=4)
        return context.get_dummy_value()

    return signature, generate


@compiled()
def _prepare(codes, cosine, panels, frame):  # type: ignore[no-untyped-def]
    """Fill panels (k / PANEL, d + 1, PANEL), bias first, and frame: mean (d,), scale, C."""
    k, d = codes.shape
    norms = np.where(_repeats(codes), np.nan, 0.0)  # NaN for codes that are never chosen
    frame[:] = 0
    finite = 0
    for j in range(k):
        for i in range(d):
            norms[j] += np.float64(codes[j, i]) - np.float64(codes[j, i])
        if norms[j] == 0:
            finite += 1
            for i in range(d):
                frame[i] += codes[j, i]
    for i in range(d):
        frame[i] /= max(finite, 1)
        if cosine or not isfinite(frame[i]):
            frame[i] = 0
    largest = 0.0
    for j in range(k):
        for i in range(d):
            norms[j] += (np.float64(codes[j, i]) - frame[i]) ** 2
        norms[j] = sqrt(norms[j])
        largest = max(largest, norms[j])
    scale = 1.0 if cosine else _power(largest)
    frame[d], frame[d + 1] = scale, (1.0 if cosine and largest < inf else largest * scale)
    for p in range(len(panels)):
        for lane in range(PANEL):
            j = p * PANEL + lane
            chosen = j < k and norms[min(j, k - 1)] <= inf
            norm = norms[j] if chosen else 0.0
            by = (1 / norm if norm > 0 else 0.0) if cosine else scale
            panels[p, 0, lane] = (0.0 if cosine else -0.5 * (norm * scale) ** 2) if chosen else -inf
            for i in range(d):
                panels[p, 1 + i, lane] = (np.float64(codes[j, i]) - frame[i]) * by if chosen else 0.0


@compiled()
def _repeats(codes):  # type: ignore[no-untyped-def]
    """Which codes equal an earlier one; dead codes often do, and no score would tell them apart."""
    k, d = codes.shape
    size = 2
    while size < 2 * k:
        size *= 2
    table, repeated = np.full(size, -1, np.int32), np.zeros(k, np.bool_)
    for j in range(k):
        mix = np.uint64(0)
        for i in range(d):  # -0 is 0
            mix = (mix ^ np.uint64(np.float64(codes[j, i] + 0).view(np.uint64))) * np.uint64(0x9E3779B97F4A7C15)
            mix ^= mix >> np.uint64(32)
        at = np.int64(mix & np.uint64(size - 1))
        while table[at] >= 0 and not repeated[j]:
            other, i = table[at], 0
            while i < d and codes[j, i] == codes[other, i]:
                i += 1
            repeated[j] = i == d
            at = (at + 1) & (size - 1)
        if not repeated[j]:
            table[at] = j
    return repeated


@compiled()
def _power(largest):  # type: ignore[no-untyped-def]
    """The power of two that brings a magnitude to [1/2, 1); 1 for none."""
    return ldexp(1.0, -max(-1000, frexp(largest)[1])) if 0 < largest < inf else 1.0


@compiled()
def _bound(norm, largest, d):  # type: ignore[no-untyped-def]
    """How far two scores may have moved towards each other: in float32, by underflow, and in the definition."""
    rounding = norm * largest + 0.5 * largest * largest
    return 2.02 * (d + 6) * (rounding * 2.0**-24 + 2.0**-125 + (norm + largest) ** 2 * 2.0**-53)


@compiled()
def _search(first, last, x, books, cosine, panels, frames, codes, x_hat, error):  # type: ignore[no-untyped-def]
    """Vectors [first, last), all groups and stages, block by block."""
    g, stages, _, d = books.shape
    residual = np.empty((BLOCK, d), x.dtype)
    packed, norms, total = np.zeros(BLOCK * d, np.float32), np.empty(BLOCK), np.empty(BLOCK)
    best, second = np.empty(BLOCK * LANES, np.float32), np.empty(BLOCK * LANES, np.float32)
    which = np.empty(BLOCK * LANES, np.int32)
    for top in range(first, last, BLOCK):
        m = min(BLOCK, last - top)
        total[:] = 0
        for group in range(g):
            part = x[top : top + m, group * d : (group + 1) * d]
            for r in range(m):
                for i in range(d):
                    residual[r, i] = part[r, i]
            for s in range(stages):
                frame = frames[group, s]
                _pack(residual[:m], cosine, frame, packed, norms)
                best[:], second[:], which[:] = -inf, -inf, 0
                flat = panels[group, s].reshape(-1)
                for p in range(panels.shape[2]):
                    for r in range(0, m, ROWS):
                        _tile(packed, r * d, flat, p * (d + 1) * PANEL, d, best, second, which, r * LANES, 2 * p)
                for r in range(m):
                    lanes = slice(r * LANES, (r + 1) * LANES)
                    code = 0
                    if norms[r] >= 0:
                        margin = _bound(norms[r], frame[d + 1], d)
                        code = _decide(
                            residual[r], books[group, s], cosine, best[lanes], second[lanes], which[lanes], margin
                        )
                    codes[top + r, group, s] = code
                    for i in range(d):
                        residual[r, i] -= books[group, s, code, i]
            if len(error):
                _finish(part, books[group], codes[top : top + m, group], x_hat[top : top + m], group * d, total)
        for r in range(m if len(error) else 0):
            error[top + r] = total[r]


@compiled()
def _finish(x, books, codes, x_hat, at, total):  # type: ignore[no-untyped-def]
    """Sum the chosen codes into ``x_hat``, columns from ``at``, and add to the squared errors, ``total``."""
    for r in range(len(x)):
        for i in range(x.shape[1]):
            value = books[0, codes[r, 0], i]
            for s in range(1, len(books)):
                value += books[s, codes[r, s], i]
            x_hat[r, at + i] = value
            total[r] += (np.float64(x[r, i]) - np.float64(value)) ** 2


@compiled()
def _pack(x, cosine, frame, packed, norms):  # type: ignore[no-untyped-def]
    """Fill (rows / ROWS, d, ROWS), centred and scaled; norms are those of it, infinity for what float32 cannot hold.

    Where x is not finite they are -1.
    """
    d = x.shape[1]
    for r in range(len(x)):
        at, largest, total = r // ROWS * ROWS * d + r % ROWS, np.float64(0), np.float64(0)
        for i in range(d):
            value = np.float64(x[r, i])
            total += value - value  # NaN for NaN and infinity
            largest = max(largest, abs(value - frame[i]))
        norms[r] = inf if total == 0 else -1.0
        scale = _power(largest) if cosine else frame[d]
        fits = total == 0 and largest * scale < 2.0**90  # no score is NaN, then
        for i in range(d):
            value = (np.float64(x[r, i]) - frame[i]) * scale if fits else np.float64(0)
            packed[at + i * ROWS] = value
            total += value * value
        if fits:
            norms[r] = sqrt(total)


@compiled()
def _decide(x, book, cosine, best, second, which, margin):  # type: ignore[no-untyped-def]
    """Return the nearest code of a vector, from its lanes if they tell, else from all codes."""
    highest = -inf
    for lane in range(LANES):
        highest = max(highest, best[lane])
    threshold = highest - margin
    found, candidates = np.int64(-1), 0
    for lane in range(LANES):  # comparisons that NaN passes, for then nothing is certain
        if not second[lane] < threshold:
            return _nearest(x, book, cosine)
        if not best[lane] < threshold:
            candidates += 1
            found = np.int64(which[lane]) * LANES + lane
    if candidates == 1:
        return found
    least, found = inf, np.int64(0)
    for lane in range(LANES):
        if not best[lane] < threshold:
            j = np.int64(which[lane]) * LANES + lane
            distance = _distance(x, book[j], cosine)
            if distance < least or (distance == least and j < found):
                least, found = distance, j
    return found


@compiled()
def _nearest(x, book, cosine):  # type: ignore[no-untyped-def]
    """The definition."""
    least, found = inf, 0
    for j in range(len(book)):
        distance = _distance(x, book[j], cosine)
        if distance < least:
            least, found = distance, j
    return found


@compiled()
def _distance(x, code, cosine):  # type: ignore[no-untyped-def]
    """Squared distance, or negative cosine times \\|x\\|; no multiply-add, so that all backends agree to the bit."""
    total, norm = np.float64(0), np.float64(0)
    for i in range(len(x)):
        a, b = np.float64(x[i]), np.float64(code[i])
        if cosine:
            total -= a * b
            norm += b * b
        else:
            total += (a - b) * (a - b)
    if cosine and norm > 0:
        total /= sqrt(norm)
    return total


@compiled()
def _sort(codes, order, starts):  # type: ignore[no-untyped-def]
    """Fill order, the vectors of every code in their order, and starts (k + 1,)."""
    for code in codes:
        starts[code + 1] += 1
    for j in range(1, len(starts)):
        starts[j] += starts[j - 1]
    at = starts[:-1].copy()
    for i in range(len(codes)):
        order[at[codes[i]]] = i
        at[codes[i]] += 1


@compiled()
def _sums(first, last, x, order, starts, sums):  # type: ignore[no-untyped-def]
    """The sums of codes [first, last)."""
    d = x.shape[1]
    total = np.empty(d)
    for j in range(first, last):
        total[:] = 0
        for n in range(starts[j], starts[j + 1]):
            row = x[order[n]]
            for i in range(d):
                total[i] += row[i]
        for i in range(d):
            sums[j, i] = total[i]
