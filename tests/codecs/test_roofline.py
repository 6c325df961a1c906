from __future__ import annotations

import json

import pytest

pytest.importorskip("triton")
from codomain.codecs import roofline
from codomain.codecs.cli import main
from codomain.codecs.roofline import Launch

REPORT = {"registers": 128, "spilled": 0, "shared": 40 * 1024, "num_warps": 4}


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "blocks"),
    [
        (32, 0, 4, 16),  # 64 warps
        (168, 0, 4, 3),  # 65536 / (168 * 128)
        (161, 0, 4, 3),  # in units of eight a thread: as 168
        (32, 73728, 4, 3),  # 228 KiB / 73 KiB
        (32, 227 * 1024, 8, 1),
        (24, 0, 1, 32),
    ],
)
def test_blocks_of_a_processor(registers: int, shared: int, warps: int, blocks: int) -> None:
    assert roofline.resident(registers, shared, warps) == blocks


def test_the_longest_of_three_times_is_predicted() -> None:
    row = roofline._row(Launch("a", {}, 132 * 4, 3.35e9, {"tf32": 495e6, "fp32": 67e6}, 1755), REPORT)
    assert (row["blocks"], row["occupancy"], row["waves"]) == (4, 0.25, 1)
    assert row["memory_ms"] == pytest.approx(1) and row["arithmetic_ms"] == pytest.approx(1e-3)
    assert row["latency_ms"] == pytest.approx(1e-3)
    assert (row["predicted"], row["predicted_ms"], row["bound"]) == (True, row["memory_ms"], "memory")
    row = roofline._row(Launch("a", {}, 66, 0, {"fp16": 990e9}, 0), REPORT)
    assert row["predicted_ms"] == pytest.approx(2) and row["bound"] == "arithmetic"  # half of the processors work
    row = roofline._row(Launch("a", {}, 132 * 4 + 1, 0, {}, 1.755e6), REPORT)
    assert row["predicted_ms"] == pytest.approx(2) and row["bound"] == "latency"  # one block needs another round


@pytest.mark.parametrize("subject", roofline.LAUNCHES)
def test_every_kernel_is_predicted_and_marked(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", subject, "--roofline", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == {"wpt": 3, "vq": 4, "rans": 2}[subject]
    for row in rows:
        assert row["predicted"] is True
        assert row["predicted_ms"] == max(row["memory_ms"], row["arithmetic_ms"], row["latency_ms"]) > 0
        assert 0 < row["registers"] <= 255 and row["blocks"] >= 1
    if subject == "wpt":
        assert rows[0]["memory_ms"] == pytest.approx(1e3 * 2 * 4 * 3 * 1024 * 1536 / 3.35e12)


def test_a_codec_is_no_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "codec", "--roofline"]) == 1
    assert capsys.readouterr().err == "codomain: a roofline is of the kernels of wpt, vq, rans; found codec\n"
