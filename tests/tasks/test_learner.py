from __future__ import annotations

import pytest
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
