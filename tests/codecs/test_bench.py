from __future__ import annotations

import json

import pytest
from codomain.codecs import bench


@pytest.mark.parametrize("subject", ["wpt", "rans"])
def test_ours_comes_first_and_every_row_has_its_ratio(
    subject: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
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
