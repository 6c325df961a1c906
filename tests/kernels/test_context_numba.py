from __future__ import annotations

import numpy as np
from codomain.kernels import context_numba
from codomain.kernels.context import FRACTION, N_TABLES, PHASES


def test_places_are_those_of_the_specification() -> None:
    """A position and its neighbours, on the grid of its phase and on the plane."""
    assert len(PHASES) == context_numba.PHASES
    for phase, one in enumerate(PHASES):
        assert context_numba.on_the_plane(phase) == (one.top, one.left, one.stride)
        assert one.distance in (0, 4 >> context_numba.place(phase)[0])


def test_grids_hold_every_position_once() -> None:
    """The symbols of each phase come back from the grids, which feed each other."""
    h, w = 19, 22
    zero = np.zeros((1, 1, 5), np.int16), np.zeros((1, 1, 5), np.int16)
    ring = np.zeros((len(PHASES), 1, 8), np.int16)
    work = context_numba.prepare(1, h, w, *zero, ring, ring)
    plane = np.arange(1, h * w + 1, dtype=np.int32).reshape(h, w)
    for phase, one in enumerate(PHASES):
        symbols = plane[one.top :: one.stride, one.left :: one.stride].ravel()
        context_numba.put(phase, symbols, h, w, 400, work)
    context_numba.mirror(work.grids[2], w)
    framed = np.pad(plane.clip(-400, 400), 1, mode="reflect")
    for parity in (0, 1):
        assert np.array_equal(work.grids[2][:, parity], framed[:, parity::2])
    context_numba.keep(0, h, w, work)
    assert np.array_equal(np.diff(work.starts[0]), np.full(h + 2, w + 2))


def test_sums_take_products_as_vectors() -> None:
    sums, weights = np.arange(40, dtype=np.int32), np.arange(100, 140, dtype=np.int32)
    expected = sums.copy()
    expected[5 : 5 + context_numba.LANES] += weights[11 : 11 + context_numba.LANES] * -3
    add(sums, weights)
    assert np.array_equal(sums, expected)


@context_numba.compiled()
def add(sums, weights):  # type: ignore[no-untyped-def]
    context_numba.add_product(sums, 5, weights, 11, np.int32(-3))


def test_steps_of_the_spread_are_exact_at_their_borders() -> None:
    """The octave is read off a float: below 2**24 that is exact, and nothing else may decide."""
    borders = np.array([(4 + m) << e for e in range(FRACTION - 9, FRACTION + 5) for m in range(4)], np.int32)
    assert len(borders) == N_TABLES // 4
    found = []
    for spread in (borders - 1, borders.copy(), borders + 1):
        context_numba.rows(np.zeros_like(spread), spread, 0, FRACTION)
        assert (spread % 2 == 0).all()
        found.append(spread // 8)
    expected = np.arange(len(borders))
    assert (found[0][1:] == expected[1:] - 1).all()
    assert (found[1] == expected).all()
    after = np.append(borders[1:], 1 << 30)
    assert (found[2] == np.where(borders + 1 < after, expected, expected + 1)).all()


def test_a_remainder_below_zero_mirrors() -> None:
    value = np.array([0, 5, -5, 2047, 2048, -2048, -2049], np.int32) + (3 << FRACTION)
    spread = np.full_like(value, 64)
    context_numba.rows(value, spread, 0, FRACTION)
    assert value.tolist() == [3, 3, 3, 3, 4, 3, 2]
    assert (spread & 1).tolist() == [0, 0, 1, 0, 1, 1, 0]
    assert (spread // 2 % 4).tolist() == [0, 0, 0, 3, 3, 3, 3]
