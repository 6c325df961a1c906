from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from codomain.codecs import bench, bench_vq, machine
from codomain.codecs.bench import Contender
from codomain.codecs.cli import main
from PIL import Image


def contenders() -> Iterator[Contender]:
    yield Contender("sleep", "codomain", lambda: time.sleep(0.004), 1, "naps", moved=2e6, flop=1e6)
    yield Contender("sleep", "other", lambda: time.sleep(0.02), 1, "naps")
    yield Contender("allocate", "codomain", lambda: torch.ones(40, 2**18), 2, "naps")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 3)
    monkeypatch.setattr(bench_vq, "contenders", contenders)
    monkeypatch.setattr(machine, "copy_seconds", lambda moved, device: moved / 1e9)
    monkeypatch.setattr(machine, "matmul_rate", lambda device: 1e12)


def test_rows_hold_rate_ratio_memory_and_floor(capsys: pytest.CaptureFixture[str]) -> None:
    ours, other, allocation = bench.bench("vq", as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [ours, other, allocation]
    assert 4 <= ours["ms"] < 15 and ours["ratio"] == 1
    assert 1.3 < other["ratio"] == other["ms"] / ours["ms"]
    assert ours["rate"] == pytest.approx(1e3 / ours["ms"]) and allocation["unit"] == "naps/s"
    assert ours["floor_ms"] == pytest.approx(2)
    assert ours["share"] == pytest.approx(2 / ours["ms"])
    assert "share" not in other and "share" not in allocation
    assert 39 < allocation["peak_mib"] < 44


def test_the_table_has_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    bench.bench("vq")
    printed = capsys.readouterr().out
    assert all(name in printed for name in bench.MEASURED)
    assert "2 threads" in printed or "threads" in printed
    assert "codomain" in printed and "other" in printed


def test_the_plot_is_whole_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "rates.png"
    assert main(["bench", "vq", "--plot", str(target)]) == 0
    drawn = target.read_bytes()
    assert Image.open(io.BytesIO(drawn)).width == 960
    assert main(["bench", "vq", "--plot", str(target)]) == 1
    assert "rates.png exists already: --force replaces it" in capsys.readouterr().err
    assert target.read_bytes() == drawn
    assert main(["bench", "vq", "--plot", str(target), "--force"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["rates.png"]
    assert main(["bench", "vq", "--plot", str(tmp_path / "rates.svg")]) == 1
    assert main(["bench", "vq", "--plot", str(target), "--force", "--roofline"]) == 1
    assert "rates.svg: expected a name that ends in .png" in capsys.readouterr().err


def test_a_slow_contender_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SLOW_S", 0.05)
    calls = []

    def slow() -> None:
        calls.append(0)
        time.sleep(0.06)

    (row,) = bench._measure([Contender("wait", "codomain", slow, 1, "naps")])
    assert len(calls) == 1
    assert row["ms"] >= 60 and "peak_mib" not in row


def test_different_results_get_no_time() -> None:
    with pytest.raises(ValueError, match="other and codomain give different results"):
        bench.agree("other", torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="different results"):
        bench.agree("other", torch.zeros(3), torch.zeros(4))
