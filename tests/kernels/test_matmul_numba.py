from __future__ import annotations

import numpy as np
import pytest
from codomain.kernels.matmul_numba import COLUMNS, ROWS, gather, packed


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 16), (6, 8, 48), (12, 16, 192), (48, 64, 16), (50, 3, 32)])
def test_adds_the_product(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(0)
    weights, bands = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    rows = -(-m // ROWS) * ROWS
    y = np.full((rows, n), 2, np.float32)
    gather(packed(weights), bands, y)
    np.testing.assert_allclose(y[:m], 2 + weights.astype(np.float64) @ bands, atol=2e-6 * k)
    assert (y[m:] == 2).all()


def test_a_column_is_the_same_wherever_it_stands() -> None:
    rng = np.random.default_rng(0)
    weights, column = packed(rng.standard_normal((12, 40))), rng.standard_normal((40, 1)).astype(np.float32)
    y = np.zeros((12, 5 * COLUMNS), np.float32)
    gather(weights, np.repeat(column, 5 * COLUMNS, 1), y)
    assert (y == y[:, :1]).all()
