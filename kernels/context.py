"""Context forms: what is predicted of a symbol from those that are decoded already; integers alone.

A channel is coded in ten passes over the plane, on grids that grow finer: every eighth row and column first; then, for
the spacing s = 4, 2, 1, the middles of the squares of side 2 s, the middles of their horizontal sides, and the middles
of their vertical sides. All positions of a pass are independent. Of a symbol of channel c, in fixed point with
`FRACTION` bits:

    value  = sum  value[c, k, t] * q[k, t]        channels k < c; t: here, above, below, left, right
           + sum  value_ring[p, c, j] * q[c, j]   the neighbours j in `RING`, s away, that earlier passes hold
    spread = the same with |q|, weights of its own, and floor[p, c]

The value is rounded; its remainder and the spread choose the table, and the sign of the remainder mirrors the symbol:

    row    = 4 * (log2 of the spread, four steps an octave) + |remainder| in eighths
    symbol = mirror * (q - round(value))

A neighbour outside the chunk is its mirror image: for the channel itself the one on the other side, for channels
before it the one across the edge; where that is outside too, 0. Symbols enter the forms clipped to +-`MOST`.
No number can overflow: `check` bounds the weights. Here is the specification, in numpy; `context_numba.py` is the
same, compiled, and `context_triton.py`, all chunks of a file at once on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int8, Int16, Int32, Int64, UInt16, UInt32


class Phase(NamedTuple):
    """One pass: rows from ``top`` and columns from ``left``, every ``stride``; neighbours ``distance`` away."""

    top: int
    left: int
    stride: int
    distance: int
    corners: bool  # whether the diagonal neighbours are decoded
    sides: bool  # whether the others are


PHASES = (
    Phase(0, 0, 8, 0, False, False),
    *(
        phase
        for s in (4, 2, 1)
        for phase in (
            Phase(s, s, 2 * s, s, True, False), Phase(0, s, 2 * s, s, False, True), Phase(s, 0, 2 * s, s, True, True),
        )
    ),
)  # fmt: skip
PLUS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
RING = ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, -1), (0, 1), (-1, 0), (1, 0))
KNOWN = tuple((p.corners,) * 4 + (p.sides,) * 4 for p in PHASES)  # of RING, in each phase
FRACTION = 12  # bits after the point
MOST = 2047  # symbols beyond are as large as this, in a form
OCTAVES = 14  # of the spread, from 2**-7 of a step to 2**7
STEPS = 4  # tables an octave
REMAINDERS = 4  # tables a step of the spread
N_TABLES = OCTAVES * STEPS * REMAINDERS


class Forms(NamedTuple):
    """The weights of all forms."""

    value: Int16[np.ndarray, "d d 5"]
    spread: Int16[np.ndarray, "d d 5"]
    value_ring: Int16[np.ndarray, "p d 8"]
    spread_ring: Int16[np.ndarray, "p d 8"]


Weights = tuple[np.ndarray, np.ndarray]  # those of forms, as `packed` gives them


def check(forms: Forms) -> None:
    """Refuse weights that could overflow 32 bits, or look at what is not decoded yet.

    Raises:
        ValueError: if they could.
    """
    d = len(forms.value)
    ahead = np.triu(np.ones((d, d), bool))
    for plus, ring in ((forms.value, forms.value_ring), (forms.spread, forms.spread_ring)):
        total = np.abs(plus.astype(np.int64)).sum((1, 2)) + np.abs(ring.astype(np.int64)).sum(2).max(0)
        if (total * MOST >= 1 << 30).any():
            raise ValueError("context weights are too large: a form could overflow")
        if plus[ahead].any() or (ring * ~np.array(KNOWN)[:, None]).any():
            raise ValueError("context weights look at symbols that are not decoded yet")


def previous_reference(
    planes: Int32[np.ndarray, "d h2 w2"], c: int, forms: Forms
) -> tuple[Int32[np.ndarray, "h w"], Int32[np.ndarray, "h w"]]:
    """Return the parts of value and spread that come from the channels before ``c``."""
    h, w = planes.shape[1] - 2, planes.shape[2] - 2
    value, spread = np.zeros((2, h, w), np.int64)
    for k in range(c):
        for t, (i, j) in enumerate(PLUS):
            q = planes[k, 1 + i : 1 + i + h, 1 + j : 1 + j + w].astype(np.int64)
            value += forms.value[c, k, t] * q
            spread += forms.spread[c, k, t] * np.abs(q)
    return value.astype(np.int32), spread.astype(np.int32)


def neighbours(n: int, start: int, phase: Phase) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Return the indices before and behind the positions of a phase on an axis of ``n``; ``n`` where there is none."""
    at = np.arange(start, n, phase.stride)
    before, behind = at - phase.distance, at + phase.distance
    inside = [(side >= 0) & (side < n) for side in (before, behind)]
    mirrored = np.where(inside[0], before, behind), np.where(inside[1], behind, before)
    return tuple(np.where(inside[0] | inside[1], side, n) for side in mirrored)  # type: ignore[return-value]


def rows_reference(
    own: Int32[np.ndarray, "h w"],
    value: Int32[np.ndarray, "h w"],
    spread: Int32[np.ndarray, "h w"],
    c: int,
    phase: int,
    forms: Forms,
    floor: int,
) -> tuple[UInt16[np.ndarray, " n"], Int32[np.ndarray, " n"], Int8[np.ndarray, " n"]]:
    """Return table, rounded value and mirror of every position of one phase, row by row."""
    one, at = PHASES[phase], part(phase)
    (up, down), (left, right) = (neighbours(n, s, one) for n, s in zip(own.shape, (one.top, one.left), strict=True))
    here = [np.arange(s, n, one.stride) for n, s in zip(own.shape, (one.top, one.left), strict=True)]
    v, s = value[at].astype(np.int64), spread[at].astype(np.int64) + floor
    known = np.pad(own, (0, 1)).astype(np.int64)  # what is nowhere is 0
    for n, (di, dj) in enumerate(RING):
        q = known[np.ix_((up, here[0], down)[di + 1], (left, here[1], right)[dj + 1])]
        v = v + forms.value_ring[phase, c, n] * q
        s = s + forms.spread_ring[phase, c, n] * np.abs(q)
    nearest = (v + (1 << (FRACTION - 1))) >> FRACTION
    remainder = v - (nearest << FRACTION)
    s = np.clip(s, 1 << (FRACTION - 7), (1 << (FRACTION - 7 + OCTAVES)) - 1)
    octave = np.frexp(s.astype(np.float64))[1] - 1  # of an integer below 2**53: exact
    step = (octave - (FRACTION - 7)) * STEPS + ((s >> (octave - 2)) & 3)
    eighths = np.minimum(np.abs(remainder) >> (FRACTION - 3), REMAINDERS - 1)
    mirror = np.where(remainder < 0, -1, 1).astype(np.int8)
    return (step * REMAINDERS + eighths).astype(np.uint16).ravel(), nearest.astype(np.int32).ravel(), mirror.ravel()


def steps_reference(
    symbols: Int32[np.ndarray, "d h w"], forms: Forms, floors: Int32[np.ndarray, "p d"]
) -> Iterator[tuple[int, int, UInt16[np.ndarray, " n"], Int32[np.ndarray, " n"], Int8[np.ndarray, " n"]]]:
    """Yield channel, phase, and table, prediction and mirror of its symbols, in coding order.

    ``symbols`` of a step are read after it was taken: a decoder fills them in between.
    """
    d, h, w = symbols.shape
    planes = np.zeros((d, h + 2, w + 2), np.int32)
    for c in range(d):
        value, spread = previous_reference(planes, c, forms)
        own = planes[c, 1:-1, 1:-1]
        for phase in range(len(PHASES)):
            yield c, phase, *rows_reference(own, value, spread, c, phase, forms, int(floors[phase, c]))
            np.clip(symbols[c][part(phase)], -MOST, MOST, out=own[part(phase)])
        if h > 1:
            planes[c, [0, -1]] = planes[c, [2, -3]]
        if w > 1:
            planes[c, :, [0, -1]] = planes[c, :, [2, -3]]


def part(phase: int) -> tuple[slice, slice]:
    """Return the rows and columns of a phase."""
    top, left, stride, *_ = PHASES[phase]
    return slice(top, None, stride), slice(left, None, stride)


def packed(forms: Forms) -> Weights:
    """Return the weights in the order that the compiled functions take them in; a caller keeps them."""
    from codomain.kernels import context_sums_numba

    return context_sums_numba.packed(*forms)


def choose(
    symbols: Int32[np.ndarray, "d h w"], weights: Weights, floors: Int32[np.ndarray, "p d"]
) -> tuple[UInt16[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Return the table and the coded integer of every symbol, in coding order; compiled."""
    from codomain.kernels import context_numba, context_sums_numba

    rows, coded = np.empty(symbols.size, np.uint16), np.empty(symbols.size, np.int32)
    work = context_sums_numba.prepare(symbols.shape, weights)
    context_numba.choose(symbols, work, floors, FRACTION, MOST, rows, coded)
    return rows, coded


def decode(
    words: UInt16[np.ndarray, " m"],
    states: UInt32[np.ndarray, " lanes"],
    escapes: Int32[np.ndarray, " e"],
    index: tuple[np.ndarray, ...],
    offsets: Int32[np.ndarray, " c"],
    escape: int,
    precision: int,
    weights: Weights,
    floors: Int32[np.ndarray, "p d"],
    symbols: Int32[np.ndarray, "d h w"],
) -> tuple[int, int]:
    """Fill ``symbols`` from a payload of `kernels/rans.py`; compiled.

    Args:
        words, states: of the payload; states end as the decoder does. ``words`` ends in one 0 that is not of it.
        escapes: values that stand for escaped symbols, in coding order.
        index, offsets, escape, precision: of the tables; see `codecs/coder.py`.
        weights, floors: of the model.
        symbols: the result.

    Returns:
        words and escapes that were taken; -1 escapes if there were too few, or a symbol is beyond 2**30.
    """
    from codomain.kernels import context_numba, context_sums_numba

    work = context_sums_numba.prepare(symbols.shape, weights)
    cursor, taken = context_numba.decode(
        words, states, escapes, *index, offsets, escape, precision, work, floors, FRACTION, MOST, symbols
    )
    return int(cursor), int(taken)
