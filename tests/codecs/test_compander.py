from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from codomain.codecs.compander import GaussianCompander


def test_formulas_of_the_paper() -> None:
    compander = GaussianCompander(1).eval()
    assert compander.scale == pytest.approx(68.649, abs=1e-3)
    assert compander.half_range == pytest.approx(127.499)
    y = torch.tensor([0.0, 1.0, 68.649, -1e9]).reshape(1, 1, 4)
    v = compander._compress(y)[0, 0]
    assert v[1].item() == pytest.approx(1.482, abs=2e-3)  # the slope at 0
    assert v[2].item() == pytest.approx(127.499 * 0.6826895, abs=1e-2)
    assert compander.to_symbols(y)[0, 0].tolist() == [0, 1, 87, -127]
    most = NormalDist().inv_cdf(127 / (2 * 127.499) + 0.5) * 68.649  # of the largest integer
    assert compander(torch.full((1, 1, 1), 1e9)).y_hat.item() == pytest.approx(most, rel=1e-3)
    assert compander._expand(torch.tensor(1e9)).item() == pytest.approx(3.719 * 68.649, rel=1e-3)  # the clip


def test_counts_become_tables() -> None:
    compander = GaussianCompander(2, latent_bits=4).train()
    compander(torch.randn(4, 2, 50, 50) * compander.scale)
    tables = compander.tables()
    assert tables.freqs.shape == (2, 15)
    assert tables.offsets.tolist() == [-7, -7]
    assert compander.counts.sum() == 2 * (10_000 + 15)


def test_expansion_inverts() -> None:
    compander = GaussianCompander(1).eval()
    symbols = torch.arange(-127, 128, dtype=torch.int32).reshape(1, 1, -1)
    assert torch.equal(compander.to_symbols(compander.from_symbols(symbols)), symbols)
