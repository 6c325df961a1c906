from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from codomain.codecs.walloc import WaLLoC
from codomain.tasks.reconstruct import Reconstruct, _psnr


def test_optimizer_has_a_group_for_each_rate(make_codec: Callable[..., WaLLoC]) -> None:
    task = Reconstruct(make_codec().requires_grad_(True), lr=3e-3, encoder_lr=2e-4, density_lr=1e-3)
    task.trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    groups = task.configure_optimizers()["optimizer"].param_groups
    assert [g["initial_lr"] for g in groups] == [3e-3, 2e-4, 1e-3]
    assert sum(len(g["params"]) for g in groups) == len(list(task.codec.parameters()))


def test_psnr_is_of_signals_in_plus_minus_one() -> None:
    assert _psnr(torch.tensor(0.04)).item() == pytest.approx(20.0)


def test_prices_of_many_rates_and_of_none(make_codec: Callable[..., WaLLoC]) -> None:
    task = Reconstruct(make_codec(), lmbda=0.01)
    bpp, mse = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([0.001, 0.001, 0.001])
    quality = torch.tensor([34.0, 50.0, 66.0])
    distortion = 0.01 * 255**2 / 4 * 0.001
    assert torch.allclose(task._cost(bpp, mse, None), torch.full((3,), 2 + distortion))
    expected = torch.tensor([2 * (2 + distortion / 4), 2 + distortion, (2 + distortion * 4) / 2])
    assert torch.allclose(task._cost(bpp, mse, quality), expected)
    task.lmbda = 0.0  # as the paper trains: no rate term, whatever the codec
    assert torch.equal(task._cost(bpp, mse, quality), mse)
    assert torch.equal(task._cost(bpp, mse, None), mse)


def test_error_relative_to_power_is_bounded_in_silence(make_codec: Callable[..., WaLLoC]) -> None:
    task = Reconstruct(make_codec(), power=0.02)
    x = torch.stack((torch.full((2, 100), 0.1), torch.full((2, 100), 0.01), torch.zeros(2, 100)))
    assert torch.allclose(task._gain(x), torch.tensor([2.0, 0.02 / 1.02e-4, 1e4]), rtol=1e-3)
