from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.bottleneck import EntropyBottleneck
from codomain.codecs.coder import encode_symbols

SCALES = torch.tensor([6.0, 1.0, 0.05])


def trained() -> tuple[EntropyBottleneck, torch.Tensor]:
    torch.manual_seed(0)
    y = torch.distributions.Laplace(0, SCALES).sample((40_000,))
    bottleneck = EntropyBottleneck(3)
    bottleneck.start(y, bits=4.0)
    bottleneck.freeze_tables()
    return bottleneck.eval(), y


def test_start_meets_the_rate_and_bits_are_those_of_the_file() -> None:
    bottleneck, y = trained()
    grid = y.T.reshape(1, 3, 200, 200)
    with torch.no_grad():
        y_hat, bits, _ = bottleneck(grid)
    symbols = bottleneck.to_symbols(grid)
    coded = encode_symbols(symbols[0].flatten(1).numpy(), bottleneck.tables())
    assert bits.item() / 40_000 == pytest.approx(4.0, rel=0.05)
    assert 8 * len(coded) == pytest.approx(bits.item(), rel=0.01)
    assert torch.allclose(bottleneck.from_symbols(symbols), y_hat)


def test_counted_tables_cost_no_more_than_the_entropy_of_new_latents() -> None:
    bottleneck, y = trained()
    fresh = torch.distributions.Laplace(0, SCALES).sample((40_000,))
    symbols = bottleneck.to_symbols(fresh.T.reshape(1, 3, 200, 200))[0].flatten(1).numpy()
    of_the_density = len(encode_symbols(symbols, bottleneck.tables()))
    bottleneck.freeze_tables([y.T])
    counted = len(encode_symbols(symbols, bottleneck.tables()))
    entropy = 0.0
    for row in symbols:
        share = np.unique(row, return_counts=True)[1] / row.size
        entropy -= float((share * np.log2(share)).sum()) * row.size / 8
    assert counted <= of_the_density
    assert counted <= 1.003 * entropy + 40


def test_tables_travel_with_the_weights() -> None:
    bottleneck, _ = trained()
    other = EntropyBottleneck(3)
    state = {k: v for k, v in bottleneck.state_dict().items() if "density" not in k}
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.tables().freqs, bottleneck.tables().freqs)


def test_gradient_is_straight_through() -> None:
    bottleneck, _ = trained()
    y = torch.randn(1, 3, 4, 4, requires_grad=True)
    bottleneck.train()(y).y_hat.sum().backward()
    assert torch.allclose(y.grad, torch.ones_like(y))


def test_rounding_is_to_the_nearest_step() -> None:
    bottleneck, _ = trained()
    y = torch.randn(2, 3, 8, 8)
    step = bottleneck.log_step.exp().reshape(-1, 1, 1)
    assert ((bottleneck.from_symbols(bottleneck.to_symbols(y)) - y).abs() <= step / 2 + 1e-6).all()
    assert bottleneck.to_symbols(torch.full((1, 3, 1, 1), 1e30)).max() == 2**30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_latents_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        EntropyBottleneck(1).to_symbols(torch.full((1, 1, 2), value))


def test_use_before_training_says_so() -> None:
    with pytest.raises(ValueError, match="no tables yet"):
        EntropyBottleneck(2).tables()
    with pytest.raises(RuntimeError, match="prepare_training"):
        EntropyBottleneck(2)(torch.zeros(1, 2, 3))
