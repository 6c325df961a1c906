from __future__ import annotations

import json

import pytest
from codomain.codecs import bench


@pytest.mark.parametrize("subject", ["wpt", "vq", "rans"])
def test_ours_comes_first_and_every_row_has_its_ratio(
    subject: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "LOOKUPS", ((512, 16, 64), (300, 8, 100)))
    rows = bench.bench(subject, as_json=True)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in printed] == rows
    for row in rows:
        assert row["rate"] > 0
        assert (row["library"] == "codomain") == (row["ratio"] == 1)


def test_different_results_get_no_time() -> None:
    import torch

    with pytest.raises(ValueError, match="different results"):
        bench._agree("other", torch.zeros(3), torch.ones(3))


def test_other_codes_get_no_time() -> None:
    import torch

    ours = torch.zeros(20000, dtype=torch.int64)
    theirs = ours.clone()
    theirs[0] = 1
    bench._same_codes("other", theirs, ours)
    theirs[:3] = 1
    with pytest.raises(ValueError, match=r"0\.01% of vectors"):
        bench._same_codes("other", theirs, ours)


def test_peak_memory() -> None:
    import torch

    peak, result = bench._peak_mib(lambda: torch.ones(64, 2**20).sum(), "cpu")
    assert 250 < peak < 270
    assert result == 2**26
