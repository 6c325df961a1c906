from __future__ import annotations

import itertools

import numpy as np
import pytest
import pywt
import torch
from codomain.kernels import wpt_rows_numba
from codomain.kernels.filters import halves
from codomain.kernels.wpt import iwpt, wpt, wpt_reference
from codomain.kernels.wpt_rows_numba import MARGIN, analyse, synthesise

ANALYSIS, SYNTHESIS = halves("bior4.4")
MODES = {"periodization": True, "symmetric": False}
TOLERANCE = 5e-6  # some hundred roundings of 6e-8, on packets up to 8


@pytest.fixture
def _short_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wpt_rows_numba, "SAMPLES", 16)
    monkeypatch.setattr(wpt_rows_numba, "BLOCKS", 16)


@pytest.mark.parametrize("level", range(1, 9))
def test_periodization_equals_pywavelets(level: int) -> None:
    x = torch.rand(1, 1, 256 * 9) * 2 - 1
    tree = pywt.WaveletPacket(x[0, 0].double().numpy(), "bior4.4", "periodization", maxlevel=level)
    oracle = np.stack([tree["".join(path)].data for path in itertools.product("ad", repeat=level)])
    X = analyse(x, level, ANALYSIS, True)
    np.testing.assert_allclose(X[0].numpy(), oracle, atol=TOLERANCE)
    assert (synthesise(X, level, SYNTHESIS, True) - x).abs().max() <= TOLERANCE


@pytest.mark.usefixtures("_short_tiles")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("blocks", [1, 7, 8, 9, 12, 13, 16, 17, 24, 31, 40, 133])
@pytest.mark.parametrize("level", [1, 4])
def test_tiles_of_every_length(level: int, blocks: int, mode: str) -> None:
    """Of one tile and of many, the last of which may hold a single block."""
    assert wpt_rows_numba._inner(level) == 16 - 2 * MARGIN
    x = torch.rand(2, 1, blocks << level) * 2 - 1
    X = analyse(x, level, ANALYSIS, MODES[mode])
    assert (X - wpt_reference(x.double(), level, mode=mode)).abs().max() <= TOLERANCE  # type: ignore[arg-type]
    assert (synthesise(X, level, SYNTHESIS, MODES[mode]) - x).abs().max() <= TOLERANCE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [3, 8, 10])
def test_long_signals(level: int, mode: str) -> None:
    x = torch.rand(1, 2, 150 << 10) * 2 - 1
    X = wpt(x, level, mode=mode)  # type: ignore[arg-type]
    assert (X - wpt_reference(x.double(), level, mode=mode)).abs().max() <= TOLERANCE  # type: ignore[arg-type]
    assert (iwpt(X, level, mode=mode) - x).abs().max() <= TOLERANCE  # type: ignore[arg-type]


@pytest.mark.parametrize("periodic", [False, True])
def test_threads_do_not_change_a_bit(periodic: bool) -> None:
    x = torch.rand(1, 3, 100_000 // 32 * 32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = analyse(x, 5, ANALYSIS, periodic)
        back = synthesise(expected, 5, SYNTHESIS, periodic)
        for threads in (2, 3, 5):
            torch.set_num_threads(threads)
            assert torch.equal(analyse(x, 5, ANALYSIS, periodic), expected)
            assert torch.equal(synthesise(expected, 5, SYNTHESIS, periodic), back)
    finally:
        torch.set_num_threads(before)


def test_views_and_what_is_not_finite() -> None:
    x = torch.rand(2, 512, 3).transpose(1, 2)
    assert torch.equal(wpt(x, 4), wpt(x.contiguous(), 4))
    assert torch.equal(iwpt(wpt(x, 4)[:, :, ::2], 4), iwpt(wpt(x, 4)[:, :, ::2].contiguous(), 4))
    sound = torch.zeros(1, 1, 1024)
    sound[0, 0, 512] = torch.nan
    X = wpt(sound, 4)
    assert X[..., 32].isnan().any()
    assert X[..., : 32 - MARGIN].eq(0).all() and X[..., 33 + MARGIN :].eq(0).all()
