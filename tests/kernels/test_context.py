from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from codomain.kernels import context
from codomain.kernels.context import FRACTION, MOST, N_TABLES, PHASES, Forms


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 3), (9, 8), (17, 26)])
@pytest.mark.parametrize("scale", [0.3, 20.0])
def test_compiled_equals_the_specification(make_forms: Callable[..., Forms], h: int, w: int, scale: float) -> None:
    d, forms = 6, make_forms(6)
    rng = np.random.default_rng(1)
    symbols = np.round(rng.laplace(0, scale, (d, h, w))).astype(np.int32)
    symbols[0, 0, 0] = -(2**30)
    floors = rng.integers(1, 900, (len(PHASES), d)).astype(np.int32)
    packed = context.packed(forms)
    context.choose(symbols[:, ::-1] * 3 + 1, packed, floors)  # what an earlier chunk leaves in memory does not count
    rows, coded = context.choose(symbols, packed, floors)
    at = 0
    for c, phase, row, nearest, mirror in context.steps_reference(symbols, forms, floors):
        assert np.array_equal(rows[at : at + len(row)], row)
        assert np.array_equal(coded[at : at + len(row)], (symbols[c][context.part(phase)].ravel() - nearest) * mirror)
        at += len(row)
    assert at == symbols.size
    assert rows.max() < N_TABLES


def test_against_sums_written_out(make_forms: Callable[..., Forms]) -> None:
    """One symbol in the middle of a plane of 3 x 3, in plain Python integers."""
    d, c, forms = 3, 2, make_forms(3, 5)
    q = np.random.default_rng(2).integers(-9, 10, (d, 3, 3)).astype(np.int32)
    phase = next(p for p, one in enumerate(PHASES) if (one.top, one.left) == (1, 1))
    floors = np.full((len(PHASES), d), 123, np.int32)
    found = {(c, p): step for c, p, *step in context.steps_reference(q, forms, floors)}
    row, nearest, mirror = found[c, phase]
    v, s = 0, 123
    for k in range(c):
        for t, (i, j) in enumerate(((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))):
            v += int(forms.value[c, k, t]) * int(q[k, 1 + i, 1 + j])
            s += int(forms.spread[c, k, t]) * abs(int(q[k, 1 + i, 1 + j]))
    for t, (i, j) in enumerate(((-1, -1), (-1, 1), (1, -1), (1, 1))):
        v += int(forms.value_ring[phase, c, t]) * int(q[c, 1 + i, 1 + j])
        s += int(forms.spread_ring[phase, c, t]) * abs(int(q[c, 1 + i, 1 + j]))
    assert nearest[0] == round(v / 2**FRACTION + 1e-9)
    remainder = v / 2**FRACTION - nearest[0]
    assert mirror[0] == (-1 if remainder < 0 else 1)
    assert row[0] % 4 == min(3, int(abs(remainder) * 8))
    low = 2.0 ** (row[0] // 16 - 7.0) * (1 + (row[0] // 4 % 4) / 4)
    assert low <= s / 2**FRACTION < low * 1.25


def test_steps_read_a_decoder_s_symbols(make_forms: Callable[..., Forms]) -> None:
    """The specification looks at symbols only after they were filled in: an encoder may give them all at once."""
    forms, floors = make_forms(5), np.full((len(PHASES), 5), 60, np.int32)
    symbols = np.round(np.random.default_rng(3).laplace(0, 3, (5, 6, 7))).astype(np.int32)
    filled = np.zeros_like(symbols)
    whole, lazy = (context.steps_reference(q, forms, floors) for q in (symbols, filled))
    for (c, phase, *expected), (_, _, *found) in zip(whole, lazy, strict=True):
        for a, b in zip(expected, found, strict=True):
            assert np.array_equal(a, b)
        filled[c][context.part(phase)] = symbols[c][context.part(phase)]


def test_every_position_is_coded_once_after_what_it_looks_at() -> None:
    h, w = 19, 22
    when = np.full((h, w), -1)
    for phase in range(len(PHASES)):
        assert (when[context.part(phase)] == -1).all()
        when[context.part(phase)] = phase
    assert (when >= 0).all()
    for phase, one in enumerate(PHASES):
        for known, (di, dj) in zip(context.KNOWN[phase], context.RING, strict=True):
            for i in range(one.top, h, one.stride):
                for j in range(one.left, w, one.stride):
                    a, b = i + di * one.distance, j + dj * one.distance
                    if known and 0 <= a < h and 0 <= b < w:
                        assert when[a, b] < phase


def test_weights_that_look_ahead_or_overflow(make_forms: Callable[..., Forms]) -> None:
    context.check(make_forms(4))
    ahead = make_forms(4)
    ahead.value[1, 2, 0] = 1
    unknown = make_forms(4)
    unknown.spread_ring[1, 0, 7] = 1  # below, in a phase that knows corners alone
    for forms in (ahead, unknown):
        with pytest.raises(ValueError, match="not decoded yet"):
            context.check(forms)
    d = 200
    large = Forms(*(np.zeros(s, np.int16) for s in ((d, d, 5), (d, d, 5), (len(PHASES), d, 8), (len(PHASES), d, 8))))
    large.value[-1, :-1] = 32767
    with pytest.raises(ValueError, match="overflow"):
        context.check(large)
    assert 32767 * 5 * 3 * MOST < 2**30
