from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from codomain.codecs.resample import CUTOFF, KAISER, Resampler, resample
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
    assert np.abs(y[0] - expected)[300:-300].max() < 5e-6  # a Kaiser window of beta 10


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
    for frequency in (8_060, 10_000, 20_000):
        tone = np.sin(2 * np.pi * frequency * np.arange(48000) / 48000)[None].astype(np.float32)
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


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_taps_are_kaisers(source: int, target: int) -> None:
    """Computed in steps, and one half mirrored: to the bit, because decoded samples depend on them."""
    resampler = Resampler(source, target)
    n, cutoff = np.arange(-resampler._half, resampler._half + 1), CUTOFF / max(resampler.up, resampler.down)
    expected = resampler.up * cutoff * np.sinc(cutoff * n) * np.kaiser(len(n), KAISER)
    assert np.array_equal(resampler._taps, expected)


def test_rates_without_a_common_divisor_take_no_more_memory_than_their_taps() -> None:
    resampler = Resampler(44101, 16000)
    tracemalloc.start()
    n_bytes = resampler._taps.nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_bytes > 40e6 and peak < 1.2 * n_bytes


def test_rates_are_positive() -> None:
    with pytest.raises(ValueError, match="found 0 and 16000 Hz"):
        Resampler(0, 16000)


@pytest.mark.parametrize(("source", "target"), [(44100, 48000), (48000, 44100), (16000, 48000), (44100, 16000)])
def test_resampling_is_by_hertz(source: int, target: int) -> None:
    """A tone becomes the same tone, sampled at the other rate from the same moment; beyond it nothing is left."""
    t, t_hat = np.arange(source) / source, np.arange(target) / target
    y = resample(np.sin(2 * np.pi * 997 * t + 0.3)[None].astype(np.float32), source, target)
    assert y.shape == (1, target)
    inside = slice(500, -500)
    assert np.abs(y[0] - np.sin(2 * np.pi * 997 * t_hat + 0.3))[inside].max() < 2e-5
    if target < source:
        above = np.sin(2 * np.pi * (target / 2 + 60) * t)[None].astype(np.float32)
        assert np.abs(resample(above, source, target))[0, inside].max() < 1e-3


def test_there_and_back_loses_nothing_that_the_lower_rate_holds(make_music: Callable[..., np.ndarray]) -> None:
    x = make_music(0.5, 16000)
    back = resample(resample(x, 16000, 48000), 48000, 16000)
    low = resample(resample(x, 16000, 15999), 15999, 16000)  # neither has what lies at the edge
    assert back.shape == x.shape
    assert 10 * np.log10(np.square(low).sum() / np.square(back - low[:, : back.shape[1]]).sum()) > 60
    assert resample(x, 16000, 16000) is x
