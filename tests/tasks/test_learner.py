from __future__ import annotations

import pytest
import torch
from codomain.tasks.learner import Learner
from torch import nn


class Module(Learner):
    def __init__(self, steps: int) -> None:
        super().__init__(lr=0.5, weight_decay=0.1, warmup=0.1)
        self.net = nn.Linear(3, 2)
        self._trainer = type("Trainer", (), {"estimated_stepping_batches": steps})()

    @property
    def trainer(self) -> object:
        return self._trainer


def test_rises_then_falls_to_nothing() -> None:
    found = Module(100).configure_optimizers()
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.5 / 11) and max(rates) == rates[10] == pytest.approx(0.5, rel=0.03)
    assert rates[55] == pytest.approx(0.5 * (0.5 - 0.5 * 0.1564), rel=0.01) and rates[100] == 0


def test_the_network_is_of_the_shape_that_is_asked_for() -> None:
    network = Learner(patch=4, width=8, depth=3).isotropic(5)
    assert (network.patch, network.width, len(network.blocks)) == (4, 8, 3)
    assert network.enter.weight.shape == (8, 5, 4, 4)
    assert Learner(width=8, depth=1).isotropic(5, ndim=1).enter.weight.shape == (8, 5, 2)


def test_ranks_draw_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module, drawn = Learner(), []
    with torch.random.fork_rng():
        for rank in (0, 1, 2):
            monkeypatch.setattr(Learner, "global_rank", rank)
            torch.manual_seed(5)  # as `codomain train` does on every rank
            module.on_fit_start()
            drawn.append(torch.rand(()).item())
        torch.manual_seed(5)
        assert drawn[0] == torch.rand(()).item()
    assert len(set(drawn)) == 3


def test_checkpoints_say_what_they_are_of() -> None:
    module, kept = Learner(patch=4, width=8), {}
    module.about = {"channels": 3, "data": {"codec": "walloc-rgb-4x"}}
    module.on_save_checkpoint(kept)
    assert kept["task"]["name"] == "learner" and kept["task"]["shape"]["patch"] == 4
    module.on_load_checkpoint(kept)
    module.about = {"channels": 3, "data": {"codec": "walloc-rgb-16x"}}
    for checkpoint in (kept, {}):
        with pytest.raises(ValueError, match=r"the checkpoint is of .*; the data has"):
            module.on_load_checkpoint(checkpoint)
