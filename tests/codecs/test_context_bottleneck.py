from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.context_bottleneck import QUALITIES_PER_OCTAVE, ContextBottleneck


@pytest.fixture(scope="module")
def trained() -> tuple[ContextBottleneck, torch.Tensor]:
    torch.manual_seed(0)
    bottleneck = ContextBottleneck(3, fit_steps=60)
    y = torch.nn.functional.avg_pool2d(torch.randn(4, 3, 36, 36), 5, 1) * 5
    bottleneck.start(y, bits=6.0)
    bottleneck.freeze_tables(list(y))
    return bottleneck.eval(), y


def test_start_finds_the_rate_and_the_ladder_of_steps(trained: tuple[ContextBottleneck, torch.Tensor]) -> None:
    bottleneck, y = trained
    (data,) = bottleneck.encode(bottleneck.to_symbols(y[:1], 200)[0].numpy(), 200)
    bits = 8 * len(data) / 32**2
    assert 3.5 < bits < 6  # the contexts save what is below 6
    ratio = bottleneck._step(4 * 34) / bottleneck._step(4 * (34 + QUALITIES_PER_OCTAVE))
    assert torch.allclose(ratio, torch.tensor(2.0), rtol=1e-4)


def test_sizes_grow_with_quality_and_latents_keep_their_scale(trained: tuple[ContextBottleneck, torch.Tensor]) -> None:
    bottleneck, y = trained
    sizes, errors = [], []
    for index in range(40, 401, 40):
        symbols = bottleneck.to_symbols(y[:1], index)
        (data,) = bottleneck.encode(symbols[0].numpy(), index)
        assert np.array_equal(bottleneck.decode([data], (32, 32), index), symbols[0].numpy())
        y_hat = bottleneck.from_symbols(symbols, index)
        assert ((y_hat - y[:1]).abs() <= bottleneck._step(index) / 2 + 1e-5).all()
        sizes.append(len(data))
        errors.append(float((y_hat - y[:1]).square().mean()))
    assert sizes == sorted(sizes)
    assert sizes[0] < 150 < 2000 < sizes[-1]  # from hardly anything
    assert errors == sorted(errors, reverse=True)


def test_tables_travel_with_the_weights(trained: tuple[ContextBottleneck, torch.Tensor]) -> None:
    bottleneck, y = trained
    state = {k: v for k, v in bottleneck.state_dict().items() if "density" not in k}
    other = ContextBottleneck(3)
    other.load_state_dict(state)
    symbols = bottleneck.to_symbols(y[:1], 200)[0].numpy()
    assert other.encode(symbols, 200) == bottleneck.encode(symbols, 200)


def test_training_forward(trained: tuple[ContextBottleneck, torch.Tensor]) -> None:
    bottleneck, y = trained
    quality = torch.tensor([20.0, 40.0, 60.0, 80.0])
    y = y.clone().requires_grad_()
    y_hat, bits, loss = bottleneck.train()(y, quality)
    bottleneck.eval()
    assert bits.shape == (4,)
    assert float(loss) == 0
    assert bits.detach().tolist() == sorted(bits.tolist())
    y_hat.sum().backward()
    assert torch.allclose(y.grad, torch.ones_like(y))  # straight through
    for i, q in enumerate(quality.tolist()):
        index = round(4 * q)
        expected = bottleneck.from_symbols(bottleneck.to_symbols(y[i : i + 1].detach(), index), index)
        assert torch.allclose(y_hat[i : i + 1], expected, atol=1e-5)


def test_what_is_missing_is_said() -> None:
    fresh = ContextBottleneck(2)
    with pytest.raises(ValueError, match="no tables yet"):
        fresh.encode(np.zeros((2, 2, 2), np.int32), 200)
    with pytest.raises(ValueError, match="expected latents of samples"):
        fresh.freeze_tables()
    with pytest.raises(RuntimeError, match=r"prepare_training\(\)"):
        fresh(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match="finite"):
        fresh.to_symbols(torch.full((1, 2, 1, 1), float("nan")), 200)


def test_latents_of_one_axis_are_a_plane_of_one_row() -> None:
    bottleneck = ContextBottleneck(3, fit_steps=40)
    y = torch.nn.functional.avg_pool1d(torch.randn(4, 3, 260), 5, 1) * 5
    bottleneck.start(y, bits=6.0)
    bottleneck.freeze_tables(list(y))
    quality = torch.full((4,), 50.0)
    y_hat, bits, _ = bottleneck.eval()(y, quality)
    assert torch.equal(bits, bottleneck(y[:, :, None], quality).bits)
    symbols = bottleneck.to_symbols(y[:1], 200)
    assert torch.allclose(bottleneck.from_symbols(symbols, 200), y_hat[:1], atol=1e-5)
    payloads = bottleneck.encode(symbols[0].numpy(), 200)
    assert payloads == bottleneck.encode(symbols[0, :, None].numpy(), 200)
    assert np.array_equal(bottleneck.decode(payloads, (256,), 200), symbols[0].numpy())
    assert 8 * len(payloads[0]) == pytest.approx(float(bits[0].detach()), rel=0.1)
