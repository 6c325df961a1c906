from __future__ import annotations

import numpy as np
from codomain.kernels import context_numba
from codomain.kernels.context import FRACTION, N_TABLES


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
