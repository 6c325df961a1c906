from __future__ import annotations

import numpy as np
from codomain.kernels import context_numba
from codomain.kernels.context import FRACTION, N_TABLES


def run(value: np.ndarray, spread: np.ndarray, top: int, left: int) -> tuple[np.ndarray, ...]:
    n = value[top::2, left::2].size
    row, nearest, mirror = np.zeros(n, np.uint16), np.full(n, -1, np.int32), np.zeros(n, np.int8)
    own, ring = np.zeros_like(value), np.zeros(8, np.int16)
    one = np.array([top, left, 2, 1, 0, 0])
    assert context_numba.rows(own, value, spread, one, ring, ring, 0, FRACTION, row, nearest, mirror) == n
    return row, nearest, mirror


def test_every_parity_writes_every_position_once() -> None:
    value, spread = np.arange(30, dtype=np.int32).reshape(5, 6) << FRACTION, np.full((5, 6), 64, np.int32)
    seen = []
    for top, left in ((0, 0), (1, 1), (0, 1), (1, 0)):
        _, nearest, mirror = run(value, spread, top, left)
        assert (nearest == np.arange(30).reshape(5, 6)[top::2, left::2].ravel()).all()
        assert (mirror == 1).all()
        seen += nearest.tolist()
    assert sorted(seen) == list(range(30))


def test_steps_of_the_spread_are_exact_at_their_borders() -> None:
    """The octave is read off a float: below 2**24 that is exact, and nothing else may decide."""
    borders = [(4 + m) << e for e in range(FRACTION - 9, FRACTION + 5) for m in range(4)]
    spread = np.array([[s - 1, s, s + 1] for s in borders], np.int32)[:, [0, 0, 1, 1, 2, 2]]
    row = np.stack([run(np.zeros_like(spread), spread, 0, 0)[0], run(np.zeros_like(spread), spread, 1, 0)[0]])
    row = np.stack([row[i % 2].reshape(-1, 3)[i // 2] for i in range(len(borders))]) // 4
    expected = np.arange(len(borders))
    assert len(borders) == N_TABLES // 4
    assert (row[:, 1] == expected).all()
    assert (row[1:, 0] == expected[1:] - 1).all()
    assert (
        row[:, 2] == np.where(np.array(borders) + 1 < np.array([*borders[1:], 1 << 30]), expected, expected + 1)
    ).all()
