"""`kernels/context.py` on a GPU: the same numbers, bit for bit, all chunks of a file in one launch.

An encoder knows every symbol: one program per chunk, channel and block of positions. A decoder is one program per
chunk, whose threads share the positions of a step and wait for each other between steps:

    for each channel   what the channels before say, at all positions
        for each phase   what the neighbours say, tables        wide: a position a thread
                         rANS                                   narrow: a lane a thread
                         symbols                                wide

Positions stand in coding order everywhere, phase by phase; `places_of` says where in the plane they are. Planes are
symbols clipped to +-`MOST`, not padded: what lies across an edge is looked up where it is mirrored from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from codomain.kernels import rans_triton
from codomain.kernels.context import FRACTION, MOST, OCTAVES, PHASES, REMAINDERS, part
from codomain.kernels.rans import MAX_LANES
from codomain.kernels.rans_triton import jobs_on, joined, padded, starts_of, unpadded
from jaxtyping import Int16, Int32, UInt16, UInt32
from torch import Tensor

BLOCK = 512  # positions that the threads of a program take at a time
NUM_WARPS = 8  # at most 128 registers a thread: two programs fit a multiprocessor
_FRACTION, _HALF, _EIGHTH = tl.constexpr(FRACTION), tl.constexpr(1 << (FRACTION - 1)), tl.constexpr(FRACTION - 3)
_MOST, _LEAST = tl.constexpr(MOST), tl.constexpr(-MOST)
_PHASES, _REMAINDERS = tl.constexpr(len(PHASES)), tl.constexpr(REMAINDERS)
_LOW, _HIGH = tl.constexpr(1 << (FRACTION - 7)), tl.constexpr((1 << (FRACTION - 7 + OCTAVES)) - 1)
_FIRST = tl.constexpr((127 + FRACTION - 7) * 4)  # exponent and two bits of the mantissa of the float that is `_LOW`


class Forms(NamedTuple):
    """Weights of `kernels/context.py`, on a device."""

    value: Int16[Tensor, "d d 5"]
    spread: Int16[Tensor, "d d 5"]
    value_ring: Int16[Tensor, "p d 8"]
    spread_ring: Int16[Tensor, "p d 8"]


@triton.jit
def _add(value, spread, plane, at, inside, a, b):  # type: ignore[no-untyped-def]
    """Add the symbols ``at`` to value and spread, with the weights that a and b point to."""
    q = tl.load(plane + at, mask=inside, other=0).to(tl.int32)
    return value + tl.load(a).to(tl.int32) * q, spread + tl.load(b).to(tl.int32) * tl.abs(q)


@triton.jit
def _previous(planes, i, j, inside, c, d, h, w, value_weights, spread_weights):  # type: ignore[no-untyped-def]
    """Return what the channels before ``c`` say of the positions (i, j)."""
    up, down = tl.where(i > 0, i - 1, 1), tl.where(i + 1 < h, i + 1, h - 2)
    left, right = tl.where(j > 0, j - 1, 1), tl.where(j + 1 < w, j + 1, w - 2)
    tall, wide = inside & (h > 1), inside & (w > 1)
    value, spread = i * 0, i * 0
    for k in range(c):
        plane, a, b = planes + k * h * w, value_weights + (c * d + k) * 5, spread_weights + (c * d + k) * 5
        value, spread = _add(value, spread, plane, i * w + j, inside, a, b)
        value, spread = _add(value, spread, plane, up * w + j, tall, a + 1, b + 1)
        value, spread = _add(value, spread, plane, down * w + j, tall, a + 2, b + 2)
        value, spread = _add(value, spread, plane, i * w + left, wide, a + 3, b + 3)
        value, spread = _add(value, spread, plane, i * w + right, wide, a + 4, b + 4)
    return value, spread


@triton.jit
def _ring(value, spread, plane, i, j, inside, e, h, w, a, b):  # type: ignore[no-untyped-def]
    """Add what the neighbours in the channel itself say, ``e`` away; those not decoded yet have no weight."""
    up, down = tl.where(i >= e, i - e, i + e), tl.where(i + e < h, i + e, i - e)
    left, right = tl.where(j >= e, j - e, j + e), tl.where(j + e < w, j + e, j - e)
    tall = inside & ((i >= e) | (i + e < h))
    wide = inside & ((j >= e) | (j + e < w))
    value, spread = _add(value, spread, plane, up * w + left, tall & wide, a, b)
    value, spread = _add(value, spread, plane, up * w + right, tall & wide, a + 1, b + 1)
    value, spread = _add(value, spread, plane, down * w + left, tall & wide, a + 2, b + 2)
    value, spread = _add(value, spread, plane, down * w + right, tall & wide, a + 3, b + 3)
    value, spread = _add(value, spread, plane, i * w + left, wide, a + 4, b + 4)
    value, spread = _add(value, spread, plane, i * w + right, wide, a + 5, b + 5)
    value, spread = _add(value, spread, plane, up * w + j, tall, a + 6, b + 6)
    return _add(value, spread, plane, down * w + j, tall, a + 7, b + 7)


@triton.jit
def _rounded(value):  # type: ignore[no-untyped-def]
    """Return the nearest integer, and the remainder."""
    nearest = (value + _HALF) >> _FRACTION
    return nearest, value - (nearest << _FRACTION)


@triton.jit
def _row(remainder, spread):  # type: ignore[no-untyped-def]
    """Return the table."""
    s = tl.minimum(tl.maximum(spread, _LOW), _HIGH)
    # below 2**24 an integer is a float exactly, and its exponent the octave
    step = (s.to(tl.float32).to(tl.int32, bitcast=True) >> 21) - _FIRST
    return step * _REMAINDERS + tl.minimum(tl.abs(remainder) >> _EIGHTH, _REMAINDERS - 1)


@triton.jit
def _choose_kernel(  # type: ignore[no-untyped-def]
    symbols, planes,  # (n,) of all chunks, each (d, h, w); planes are clipped
    places,  # all row, column and phase, each (h * w,)
    value_weights, spread_weights, value_ring, spread_ring, floors,
    distances,  # (p,)
    jobs,  # (b, 4): first symbol, h, w, places
    rows, coded,  # (n,) results, in coding order
    d, BLOCK: tl.constexpr,
):  # fmt: skip
    job, c = jobs + 4 * tl.program_id(0), tl.program_id(2)
    first, h, w = tl.load(job), tl.load(job + 1).to(tl.int32), tl.load(job + 2).to(tl.int32)
    m, n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), h * w
    if tl.program_id(1) * BLOCK < n:
        inside = m < n
        place = places + tl.load(job + 3) + m
        i = tl.load(place, mask=inside, other=0).to(tl.int32)
        j = tl.load(place + n, mask=inside, other=0).to(tl.int32)
        phase = tl.load(place + 2 * n, mask=inside, other=0).to(tl.int32)
        value, spread = _previous(planes + first, i, j, inside, c, d, h, w, value_weights, spread_weights)
        own, at = first + c.to(tl.int64) * n, phase * d + c
        value, spread = _ring(
            value, spread + tl.load(floors + at), planes + own, i, j, inside, tl.load(distances + phase), h, w,
            value_ring + at * 8, spread_ring + at * 8,
        )  # fmt: skip
        nearest, remainder = _rounded(value)
        tl.store(rows + own + m, _row(remainder, spread).to(tl.uint16), mask=inside)
        q = tl.load(symbols + own + i * w + j, mask=inside, other=0) - nearest
        tl.store(coded + own + m, tl.where(remainder < 0, -q, q), mask=inside)


@triton.jit
def _decode_step(  # type: ignore[no-untyped-def]
    x, lane, lanes, begin, end, busy, rows, columns, words, n_words, cursor, freqs, starts, slots, width,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Fill the columns from begin to end, the first ``busy`` lanes being taken; return states and cursor."""
    at = begin - busy
    m = at + lane
    inside = (lane < lanes) & (m >= begin) & (m < end)
    row = tl.load(rows + m, mask=inside, other=0)
    while at < end:
        next_inside = (lane < lanes) & (m + lanes < end)
        next_row = tl.load(rows + m + lanes, mask=next_inside, other=0)
        column, x, cursor = rans_triton.decode_group(
            x, row, inside, words, n_words, cursor, freqs, starts, slots, width, PRECISION
        )
        tl.store(columns + m, column, mask=inside)
        row, inside = next_row, next_inside
        m += lanes
        at += lanes
    return x, cursor


@triton.jit
def _decode_kernel(  # type: ignore[no-untyped-def]
    words,  # (m,) of all chunks
    states,  # (b, LANES), changed in place
    escapes,  # (e,) of all chunks
    freqs, starts, slots, offsets,  # tables
    places,  # all row, column and phase, each (h * w,)
    value_weights, spread_weights, value_ring, spread_ring, floors,
    phases,  # (p, 4): top, left, stride, distance
    jobs,  # (b, 9): first symbol, h, w, places, lanes, first word, words, first escape, escapes
    scratch,  # (n / d, 4) of all chunks: value, spread, table, column of one channel
    symbols, planes,  # (n,) results of all chunks, each (d, h, w); planes are 0 before
    used,  # (b, 2) result: words and escapes
    d, width, PRECISION: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    job = jobs + 9 * b
    first, h, w = tl.load(job), tl.load(job + 1).to(tl.int32), tl.load(job + 2).to(tl.int32)
    lanes, n_words, n_escapes = tl.load(job + 4).to(tl.int32), tl.load(job + 6).to(tl.int32), tl.load(job + 8)
    n = h * w
    places += tl.load(job + 3)
    words += tl.load(job + 5)
    escapes += tl.load(job + 7)
    symbols += first
    planes += first
    values = scratch + 4 * (first // d)
    spreads, rows, columns = values + n, values + 2 * n, values + 3 * n
    lane, block = tl.arange(0, LANES), tl.arange(0, BLOCK)
    x = tl.load(states + b * LANES + lane)
    largest = tl.zeros([BLOCK], tl.int64)
    position, cursor, taken = n * 0, n * 0, n * 0
    for c in range(d):
        for at in range(0, n, BLOCK):
            m = at + block
            i = tl.load(places + m, mask=m < n, other=0).to(tl.int32)
            j = tl.load(places + n + m, mask=m < n, other=0).to(tl.int32)
            value, spread = _previous(planes, i, j, m < n, c, d, h, w, value_weights, spread_weights)
            tl.store(values + m, value, mask=m < n)
            tl.store(spreads + m, spread, mask=m < n)
        tl.debug_barrier()
        own, begin = c * n, n * 0
        for phase in range(_PHASES):
            top, left = tl.load(phases + 4 * phase), tl.load(phases + 4 * phase + 1)
            stride, distance = tl.load(phases + 4 * phase + 2), tl.load(phases + 4 * phase + 3)
            weights = phase * d + c
            end = begin + (tl.maximum(h - top, 0) + stride - 1) // stride * (
                (tl.maximum(w - left, 0) + stride - 1) // stride
            )
            floor = tl.load(floors + weights)
            for at in range(begin, end, BLOCK):
                m = at + block
                i = tl.load(places + m, mask=m < end, other=0).to(tl.int32)
                j = tl.load(places + n + m, mask=m < end, other=0).to(tl.int32)
                value = tl.load(values + m, mask=m < end, other=0)
                spread = tl.load(spreads + m, mask=m < end, other=0) + floor
                value, spread = _ring(
                    value, spread, planes + own, i, j, m < end, distance, h, w,
                    value_ring + weights * 8, spread_ring + weights * 8,
                )  # fmt: skip
                _, remainder = _rounded(value)
                tl.store(values + m, value, mask=m < end)
                tl.store(rows + m, _row(remainder, spread), mask=m < end)
            tl.debug_barrier()
            x, cursor = _decode_step(
                x, lane, lanes, begin, end, position % lanes, rows, columns, words, n_words, cursor,
                freqs, starts, slots, width, PRECISION,
            )  # fmt: skip
            tl.debug_barrier()
            for at in range(begin, end, BLOCK):
                m = at + block
                i = tl.load(places + m, mask=m < end, other=0).to(tl.int32)
                j = tl.load(places + n + m, mask=m < end, other=0).to(tl.int32)
                row = tl.load(rows + m, mask=m < end, other=0)
                column = tl.load(columns + m, mask=m < end, other=0)
                escaped = (m < end) & (column == width - 1)
                one = escaped.to(tl.int32)
                which = taken + tl.cumsum(one, 0) - one
                taken += tl.sum(one, 0)
                escape = tl.load(escapes + which, mask=escaped & (which < n_escapes), other=0)
                coded = tl.where(escaped, escape, tl.load(offsets + row) + column).to(tl.int64)
                nearest, remainder = _rounded(tl.load(values + m, mask=m < end, other=0))
                q = tl.where(m < end, tl.where(remainder < 0, -coded, coded) + nearest, 0)
                largest = tl.maximum(largest, tl.abs(q))
                tl.store(symbols + own + i * w + j, q.to(tl.int32), mask=m < end)
                clipped = tl.minimum(tl.maximum(q, _LEAST), _MOST)
                tl.store(planes + own + i * w + j, clipped.to(tl.int16), mask=m < end)
            tl.debug_barrier()
            position += end - begin
            begin = end
    tl.store(states + b * LANES + lane, x)
    tl.store(used + 2 * b, cursor)
    broken = (taken > n_escapes) | (tl.max(largest, 0) > 1 << 30)
    tl.store(used + 2 * b + 1, tl.where(broken, -1, taken))


def choose(
    symbols: Int32[Tensor, " n"],
    grids: Sequence[tuple[int, int]],
    forms: Forms,
    floors: Int32[Tensor, "p d"],
) -> tuple[UInt16[Tensor, " n"], Int32[Tensor, " n"]]:
    """Return the table and the coded integer of every symbol, in coding order.

    Args:
        symbols: of all chunks, one behind the other, each (d, h, w).
        grids: h and w of each chunk.
        forms, floors: of the model.
    """
    device, d = symbols.device, len(forms.value)
    rows = torch.empty(len(symbols), dtype=torch.uint16, device=device)
    coded, planes = torch.empty_like(symbols), symbols.clamp(-MOST, MOST).to(torch.int16)
    sizes = [h * w for h, w in grids]
    places, where = places_of(grids, device)
    jobs = jobs_on(device, starts_of([d * n for n in sizes]), *zip(*grids, strict=True), where)
    distances = torch.tensor([phase.distance for phase in PHASES], dtype=torch.int32, device=device)
    _choose_kernel[(len(grids), triton.cdiv(max(sizes), BLOCK), d)](
        symbols, planes, places, *forms, floors, distances, jobs, rows, coded, d, BLOCK=BLOCK, num_warps=NUM_WARPS
    )
    return rows, coded


def decode(
    words: Sequence[UInt16[np.ndarray, " m"]],
    states: Sequence[UInt32[np.ndarray, " lanes"]],
    escapes: Sequence[Int32[np.ndarray, " e"]],
    grids: Sequence[tuple[int, int]],
    tables: rans_triton.Tables,
    forms: Forms,
    floors: Int32[Tensor, "p d"],
) -> tuple[Int32[Tensor, " n"], list[tuple[int, int]], list[UInt32[np.ndarray, " lanes"]]]:
    """Return the symbols of many chunks, one behind the other, each (d, h, w).

    Args:
        words, states, escapes: of each chunk's payload, as `kernels/context.py` takes them, but that nothing stands
            behind the words.
        grids: h and w of each chunk.
        tables, forms, floors: of the model.

    Returns:
        Also words and escapes that each chunk took, -1 escapes if there were too few or a symbol is beyond 2**30; and
        the states where each ended.
    """
    device, d, b = floors.device, len(forms.value), len(grids)
    sizes = [h * w for h, w in grids]
    lanes, n_words, n_escapes = ([len(part) for part in parts] for parts in (states, words, escapes))
    places, where = places_of(grids, device)
    jobs = jobs_on(
        device, starts_of([d * n for n in sizes]), *zip(*grids, strict=True), where, lanes,
        starts_of(n_words), n_words, starts_of(n_escapes), n_escapes,
    )  # fmt: skip
    scratch = torch.empty(4 * sum(sizes), dtype=torch.int32, device=device)
    symbols = torch.empty(d * sum(sizes), dtype=torch.int32, device=device)
    used = torch.empty(b, 2, dtype=torch.int32, device=device)
    all_states = padded(states, device)
    _decode_kernel[(b,)](
        joined(words, np.uint16, device), all_states, joined(escapes, np.int32, device),
        tables.freqs, tables.starts, tables.slots, tables.offsets, places, *forms, floors,
        torch.tensor([phase[:4] for phase in PHASES], dtype=torch.int32, device=device), jobs,
        scratch, symbols, torch.zeros_like(symbols, dtype=torch.int16), used,
        d, tables.freqs.shape[1], PRECISION=tables.precision, LANES=MAX_LANES, BLOCK=BLOCK,
        num_warps=NUM_WARPS, num_stages=1,
    )  # fmt: skip
    return symbols, [(cursor, taken) for cursor, taken in used.tolist()], unpadded(all_states, lanes)


def places_of(grids: Sequence[tuple[int, int]], device: torch.device) -> tuple[Int16[Tensor, " n"], list[int]]:
    """Return row, column and phase, each (h * w,), of all positions in coding order, for each grid that occurs; and
    where those of each chunk begin.
    """
    parts, begins, at = [], {}, 0
    for h, w in dict.fromkeys(grids):
        here = np.stack((*np.indices((h, w), np.int16), np.zeros((h, w), np.int16)))
        for phase in range(len(PHASES)):
            here[2][part(phase)] = phase
        parts += [np.concatenate([axis[part(p)].ravel() for p in range(len(PHASES))]) for axis in here]
        begins[h, w] = at
        at += 3 * h * w
    return joined(parts, np.int16, device), [begins[grid] for grid in grids]
