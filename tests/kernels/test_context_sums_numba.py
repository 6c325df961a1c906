from __future__ import annotations

import numpy as np
import pytest
from codomain.kernels import context_numba
from codomain.kernels import context_sums_numba as sums_numba
from codomain.kernels.compiled import compiled
from codomain.kernels.context import PHASES


def test_places_are_those_of_the_specification() -> None:
    """A position and its neighbours, on the grid of its phase and on the plane."""
    assert len(PHASES) == sums_numba.PHASES
    for phase, one in enumerate(PHASES):
        assert sums_numba.on_the_plane(phase) == (one.top, one.left, one.stride)
        assert one.distance in (0, 4 >> sums_numba.place(phase)[0])


@pytest.mark.parametrize(("h", "w"), [(19, 22), (8, 15)])
def test_grids_hold_every_position_once(h: int, w: int) -> None:
    """The symbols of each phase come back from the grids, which feed each other; where none is 0, all are kept."""
    zero = np.zeros((1, 1, 5), np.int16), np.zeros((1, 1, 5), np.int16)
    ring = np.zeros((len(PHASES), 1, 8), np.int16)
    work = sums_numba.prepare((1, h, w), sums_numba.packed(*zero, ring, ring))
    plane = np.arange(1, h * w + 1, dtype=np.int32).reshape(h, w)
    for phase, one in enumerate(PHASES):
        symbols = plane[one.top :: one.stride, one.left :: one.stride].ravel()
        context_numba.put(phase, symbols, h, w, 400, work)
    sums_numba.mirror(work.grids[2], w)
    framed = np.pad(plane.clip(-400, 400), 1, mode="reflect")
    for parity in (0, 1):
        half = framed[:, parity::2]
        assert np.array_equal(work.grids[2][:, parity, : half.shape[1]], half)
    sums_numba.keep(0, h, w, work)
    assert np.array_equal(np.diff(work.starts[0]), np.full(h + 2, w + 2))
    places = work.places[0, : (h + 2) * (w + 2)] // sums_numba.PAIR - (w + 2)
    assert np.array_equal(framed.ravel()[places], work.sizes[0, : len(places)])


def test_sums_take_products_as_vectors() -> None:
    sums, weights = np.arange(40, dtype=np.int32), np.arange(100, 140, dtype=np.int32)
    expected = sums.copy()
    expected[5 : 5 + sums_numba.LANES] += weights[11 : 11 + sums_numba.LANES] * -3
    add(sums, weights)
    assert np.array_equal(sums, expected)


@pytest.mark.parametrize("is_spread", [False, True])
def test_rings_are_added_to_as_many_positions_as_there_are(is_spread: bool) -> None:
    rng = np.random.default_rng(0)
    grid, ring = rng.integers(-9, 10, 90).astype(np.int32), rng.integers(-99, 100, 20).astype(np.int32)
    target = rng.integers(-9, 10, 30).astype(np.int32)
    expected = target.astype(np.int64)
    q = np.abs(grid) if is_spread else grid
    firsts = (1, 2, 31, 32, 16, 17, 48, 70)  # two above, two below, left and right, above and below
    for j in range(5):
        expected[7 + j] += sum(int(ring[3 + n]) * int(q[first + j]) for n, first in enumerate(firsts))
    add_neighbours(target, grid, ring, is_spread)
    assert np.array_equal(target, expected)


@compiled()
def add_neighbours(target, grid, ring, is_spread):  # type: ignore[no-untyped-def]
    sums_numba.add_ring(target, 7, 5, grid, 1, 16, 31, 48, 70, ring, 3, is_spread)


@compiled()
def add(sums, weights):  # type: ignore[no-untyped-def]
    sums_numba.add_product(sums, 5, weights, 11, np.int32(-3))
