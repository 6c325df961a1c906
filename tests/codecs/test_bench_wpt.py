from __future__ import annotations

import pytest
import torch
from codomain.codecs import bench_wpt


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_wpt, "PICTURE", (64, 96))
    monkeypatch.setattr(bench_wpt, "LARGE", (128, 72))
    monkeypatch.setattr(bench_wpt, "MINUTE", 2560)


def test_ours_comes_first_and_states_its_work() -> None:
    operations: dict[str, list[bench_wpt.Contender]] = {}
    with torch.inference_mode():
        for contender in bench_wpt.contenders():
            operations.setdefault(contender.operation, []).append(contender)
    for operation, (ours, *others) in operations.items():
        assert ours.library == "codomain" and ours.moved > 0 and ours.flop > 0, operation
        assert others and not any(other.moved for other in others)
    cpu = {operation: rows for operation, rows in operations.items() if rows[0].device == "cpu"}
    assert len(cpu) == 7
    assert [rows[0].moved for rows in cpu.values()] == [
        8 * 3 * 64 * 96, 8 * 3 * 64 * 96, 8 * 2 * 2560, 8 * 2 * 2560,
        64 * 96 * (3 + 12 / 64), 64 * 96 * (3 + 48 / 64), 128 * 72 * (3 + 12 / 64),
    ]  # fmt: skip
    sound = next(rows for operation, rows in cpu.items() if "level 8" in operation)
    assert sound[0].flop == 8 * 7 * 2 * 2560
    assert [c.library for c in sound] == ["codomain", "torch convolution", "PyWavelets"]


def test_a_peer_that_differs_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = bench_wpt.pywavelets

    def other(level: int, ndim: int) -> tuple[object, object]:
        forward, inverse = plain(level, ndim)
        return lambda x: forward(x).flip(1), inverse

    monkeypatch.setattr(bench_wpt, "pywavelets", other)
    with torch.inference_mode(), pytest.raises(ValueError, match="PyWavelets and codomain give different results"):
        list(bench_wpt.contenders())
