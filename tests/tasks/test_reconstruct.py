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
