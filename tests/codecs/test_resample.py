from __future__ import annotations

import numpy as np
import pytest
from codomain.codecs.resample import Resampler
from scipy.signal import resample_poly

RATIOS = [(48000, 16000), (16000, 44100), (44100, 16000), (44101, 16000), (8000, 16000), (48000, 44100)]


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_a_tone_keeps_its_phase(source: int, target: int) -> None:
    n = source + 37
    resampler = Resampler(source, target)
    x = np.sin(2 * np.pi * 1234.5 * np.arange(n) / source)[None].astype(np.float32)
    m = resampler.length(n)
    y = resampler(x, 0, 0, m)
    expected = np.sin(2 * np.pi * 1234.5 * np.arange(m) / target)
    assert y.shape == (1, -(-n * target // source))
    assert np.abs(y[0] - expected)[300:-300].max() < 5e-6  # 24 crossings under a Kaiser window of beta 10


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_any_part_has_the_bits_of_the_whole(source: int, target: int) -> None:
    rng = np.random.default_rng(0)
    resampler = Resampler(source, target)
    x = rng.standard_normal((2, 5000)).astype(np.float32)
    m = resampler.length(5000)
    whole = resampler(x, 0, 0, m)
    for start, stop in ((0, 1), (17, 400), (m // 3, m // 3 + 101), (m - 5, m)):
        first, last = resampler.needs(start, stop)
        first, last = max(0, first), min(5000, last)
        assert np.array_equal(resampler(x[:, first:last], first, start, stop), whole[:, start:stop])


def test_what_lies_above_the_lower_nyquist_frequency_is_gone() -> None:
    tone = np.sin(2 * np.pi * 10_000 * np.arange(48000) / 48000)[None].astype(np.float32)
    assert np.abs(Resampler(48000, 16000)(tone, 0, 0, 16000))[0, 200:-200].max() < 1e-4


def test_agrees_with_scipy_where_nothing_is_cut_off() -> None:
    x = np.random.default_rng(1).standard_normal(4000)
    smooth = np.convolve(x, np.hanning(32) / 16, "same")[None].astype(np.float32)
    ours = Resampler(16000, 24000)(smooth, 0, 0, 6000)
    assert np.abs(ours - resample_poly(smooth, 3, 2, axis=1))[0, 100:-100].max() < 2e-3


def test_equal_rates_change_nothing() -> None:
    x = np.arange(10, dtype=np.float32)[None]
    assert Resampler(44100, 44100).needs(2, 5) == (2, 5)
    assert np.array_equal(Resampler(44100, 44100)(x[:, 2:], 2, 3, 7), x[:, 3:7])


def test_rates_are_positive() -> None:
    with pytest.raises(ValueError, match="found 0 and 16000 Hz"):
        Resampler(0, 16000)
