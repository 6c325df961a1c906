from __future__ import annotations

import pytest
import torch
from codomain.codecs import bench_vq


def test_every_lookup_and_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_vq, "LOOKUPS", ((512, 16, 64), (300, 8, 100)))
    monkeypatch.setattr(bench_vq, "is_installed", lambda package: False)
    with torch.inference_mode():
        ours = [c for c in bench_vq.contenders() if c.library == "codomain" and c.device == "cpu"]
    assert [c.operation for c in ours] == [
        "512 x 16, 64 codes", "300 x 8, 100 codes", "2048 x 16, 64 codes, 4 stages",
    ]  # fmt: skip
    assert [c.flop for c in ours] == [2 * 512 * 16 * 64, 2 * 300 * 8 * 100, 2 * 2048 * 16 * 64 * 4]
    assert ours[0].moved == 4 * (512 + 64) * 16 + 8 * 512
    assert ours[2].moved == 4 * (2 * 2048 + 4 * 64) * 16 + 8 * 2048 * 4  # vectors come out too


def test_other_codes_get_no_time() -> None:
    ours = torch.zeros(20000, dtype=torch.int64)
    theirs = ours.clone()
    theirs[0] = 1
    bench_vq.same_codes("other", theirs, ours)
    theirs[:3] = 1
    with pytest.raises(ValueError, match=r"0\.01% of vectors"):
        bench_vq.same_codes("other", theirs, ours)
