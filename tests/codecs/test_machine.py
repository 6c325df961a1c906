from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from codomain.codecs import machine


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
def test_peak_memory() -> None:
    peak = machine.peak_mib(lambda: torch.ones(64, 2**20).sum(), "cpu")
    assert peak is not None and 250 < peak < 270


def test_seconds() -> None:
    assert 0.02 <= machine.seconds_of(lambda: time.sleep(0.02), "cpu") < 0.2


def test_a_floor_is_of_bytes_or_of_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "copy_seconds", lambda moved, device: moved / 1e9)
    monkeypatch.setattr(machine, "matmul_rate", lambda device: 1e11)
    assert machine.floor_seconds(2e6, 1e8, "cpu") == 2e-3
    assert machine.floor_seconds(2e6, 1e9, "cpu") == 1e-2


def test_rates_are_those_of_this_machine() -> None:
    few, many = machine.copy_seconds(10**6, "cpu"), machine.copy_seconds(2 * 10**8, "cpu")
    assert 20 < many / few < 5000  # 200 times the bytes, and a cache holds the few
    a = torch.ones(1024, 1024)
    seconds = min(machine.seconds_of(lambda: a @ a, "cpu") for _ in range(5))
    assert 0.3 < machine.matmul_rate("cpu") / (2 * 1024**3 / seconds) < 3
