from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.simvq import Rotation, SimVQ, normal_codes


def latents(n: int = 6, d: int = 4, seed: int = 0) -> torch.Tensor:
    mix = torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.2]))[:d, :d]
    rows = torch.randn(2, n, n, d, generator=torch.Generator().manual_seed(seed)) @ mix + 1
    return rows.movedim(-1, 1)


def started(k: int = 256, **settings: object) -> SimVQ:
    quantizer = SimVQ(4, k, **settings)  # type: ignore[arg-type]
    quantizer.start(latents(40, seed=1))
    return quantizer


def test_codes_decode_to_exactly_what_forward_gives() -> None:
    for quantizer in (started().train(), started().eval()):
        y = latents()
        y_hat = quantizer(y).y_hat
        assert torch.equal(quantizer.eval().from_symbols(quantizer.to_symbols(y)), y_hat)


def test_codes_are_the_nearest_projected_ones() -> None:
    quantizer, y = started().eval(), latents()
    rows = y.movedim(1, -1).reshape(-1, 4).double()
    codes = (
        quantizer.codebook.double() @ quantizer.project.weight.double().T + quantizer.project.bias.double()
    ).detach()
    nearest = (rows[:, None] - codes).square().sum(2).argmin(1)
    assert torch.equal(quantizer.to_symbols(y).flatten().long(), nearest)


def test_gradients_go_straight_to_latents_and_to_the_layer_alone() -> None:
    quantizer, y = started(weight=1.0).train(), latents().requires_grad_()
    y_hat, bits, loss = quantizer(y)
    assert bits.tolist() == [36 * 8.0] * 2
    (through,) = torch.autograd.grad(y_hat.sum(), y, retain_graph=True)
    assert torch.equal(through, torch.ones_like(y))
    drawn, layer = torch.autograd.grad(loss, (y, quantizer.project.weight))
    difference = (y - y_hat).detach()
    assert torch.allclose(drawn, 0.25 * 2 * difference / y.numel(), atol=1e-7)
    assert float(loss) == pytest.approx(float(1.25 * difference.square().mean()), rel=1e-5)
    assert layer.abs().sum() > 0
    assert not quantizer.codebook.requires_grad


def test_every_step_moves_every_code() -> None:
    quantizer = started().train()
    before = quantizer.codes().clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.1)
    quantizer(latents()).loss.backward()
    optimizer.step()
    assert ((quantizer.codes() - before).abs().sum(1) > 0).all()


def test_the_rotation_turns_gradients_as_it_turns_latents() -> None:
    y, q = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    g = torch.randn(5, 4, dtype=torch.float64)
    leaf = y.clone().requires_grad_()
    Rotation.apply(leaf, q).backward(g)
    for i in range(5):
        a, b = y[i] / y[i].norm(), q[i] / q[i].norm()
        w = (a + b) / (a + b).norm()
        turn = torch.eye(4, dtype=torch.float64) - 2 * torch.outer(w, w) + 2 * torch.outer(b, a)
        assert torch.allclose(turn @ a, b)
        assert torch.allclose(leaf.grad[i], q[i].norm() / y[i].norm() * turn.T @ g[i])


def test_the_codebook_is_normal_and_the_same_everywhere() -> None:
    codes = normal_codes(4096, 16)
    assert codes.dtype == np.float32
    assert codes.mean() == pytest.approx(0, abs=2e-3)
    assert codes.var() * 16 == pytest.approx(1, abs=0.02)
    assert codes[0, :2].tobytes() == normal_codes(1, 16)[0, :2].tobytes()
    assert np.array_equal(codes, normal_codes(4096, 16))
    assert not np.array_equal(codes, normal_codes(4096, 16, seed=1))


def test_it_starts_where_most_codes_are_of_use() -> None:
    quantizer = started(64).train()
    for seed in range(8):
        quantizer(latents(40, seed=seed))
    statistics = quantizer.statistics()
    assert float(statistics["used"]) > 0.95
    assert float(statistics["perplexity"]) > 32


def test_what_cannot_be_quantized_is_one_line() -> None:
    with pytest.raises(ValueError, match="finite"):
        started().to_symbols(torch.full((1, 4, 1, 1), float("inf")))


def test_a_codebook_drawn_from_data_lies_where_the_data_does() -> None:
    heavy = latents(64, seed=3) ** 3  # far from normal
    normal, data = SimVQ(4, 1024), SimVQ(4, 1024, drawn="data")
    used, error = [], []
    for quantizer in (normal, data):
        quantizer.start(heavy)
        quantizer.eval()
        codes = quantizer.to_symbols(latents(64, seed=4) ** 3)
        used.append(len(codes.unique()) / 1024)
        error.append(float((quantizer.from_symbols(codes) - latents(64, seed=4) ** 3).square().mean()))
    assert used[1] > used[0] + 0.2
    assert error[1] < 0.7 * error[0]


def test_a_codebook_drawn_from_data_is_in_the_weights() -> None:
    quantizer, other = started(drawn="data"), SimVQ(4, 256, drawn="data")
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.eval().codes(), quantizer.eval().codes())
    assert "codebook" not in started().state_dict()
    with pytest.raises(ValueError, match="'uniform'"):
        SimVQ(4, 256, drawn="uniform")
