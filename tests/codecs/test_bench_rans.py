from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs import bench_rans


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_rans, "SYMBOLS", 500)


def test_ours_comes_first_and_moves_symbols_and_bytes() -> None:
    with torch.inference_mode():
        rows = [c for c in bench_rans.contenders() if c.operation.endswith("12 x 500")]
    ours = [c for c in rows if c.library == "codomain"]
    assert [c.operation for c in ours] == ["encode, 12 x 500", "decode, 12 x 500"]
    data = ours[0].run()
    assert all(c.moved == 4 * 12 * 500 + len(data) for c in ours)
    assert rows[:2] == ours


def test_a_peer_that_does_not_come_back_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_rans, "is_installed", lambda package: package == "constriction")
    monkeypatch.setattr(bench_rans, "constriction", lambda symbols, *_: (bytes, lambda: np.zeros_like(symbols)))
    with pytest.raises(ValueError, match="constriction and codomain give different results"):
        list(bench_rans.contenders())
