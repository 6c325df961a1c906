from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from codomain.codecs.resample import resample
from codomain.codecs.sound_metrics import (
    MEL_BANDS,
    available_metrics,
    mel_distance,
    pesq,
    si_sdr,
    snr,
    stft_distance,
    stoi,
    visqol,
)

RATE = 16000
Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def pair(make_music: Callable[..., np.ndarray]) -> Pair:
    x = make_music(0.5, RATE)
    noise = np.random.default_rng(0).normal(0, 0.02, x.shape)
    return x, (0.8 * x + noise + 0.01).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Three seconds of something like speech: buzzes of three formants in syllables, with pauses; (1, t)."""
    rng, t = np.random.default_rng(3), np.arange(3 * RATE) / RATE
    x = np.zeros_like(t)
    for start in np.arange(0.2, 2.7, 0.25):
        pitch, length = rng.uniform(100, 140), rng.uniform(0.12, 0.2)
        shape = np.where((t > start) & (t < start + length), np.sin(np.pi * (t - start) / length), 0)
        formants = rng.uniform((300, 900, 2200), (800, 1800, 3200))
        for k in range(1, 30):
            gain = sum(np.exp(-(((k * pitch - f) / 150) ** 2)) for f in formants) + 0.02
            x += shape * gain * np.sin(2 * np.pi * k * pitch * t)
    return (0.5 * x / np.abs(x).max())[None].astype(np.float32)


def test_snr_of_a_known_error(pair: Pair) -> None:
    x, x_hat = (v.astype(np.float64) for v in pair)
    assert snr(*pair) == pytest.approx(10 * np.log10((x**2).sum() / ((x - x_hat) ** 2).sum()), abs=1e-6)
    ones = np.ones((2, 100), np.float32)
    assert snr(ones, ones * 0.9) == pytest.approx(20, abs=1e-4)
    assert snr(ones, ones) == math.inf


def test_si_sdr_by_projection(pair: Pair) -> None:
    """The distance to the line through the original, in place of the formula."""
    a, b = (np.concatenate([c - c.mean() for c in v.astype(np.float64)]) for v in pair)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert si_sdr(*pair) == pytest.approx(-20 * np.log10(np.tan(angle)), abs=1e-6)
    x, x_hat = pair
    assert si_sdr(x, 0.25 * x_hat + 0.125) == pytest.approx(si_sdr(x, x_hat), abs=1e-3)  # of neither scale nor DC
    assert si_sdr(x, np.zeros_like(x)) == -math.inf


def test_stft_distance_by_definition(pair: Pair) -> None:
    expected = 0.0
    for window in (2048, 512):
        A, B = (_magnitudes(v, window) for v in pair)
        logs = [np.log10(np.maximum(v**2, 1e-5)) for v in (A, B)]
        expected += np.abs(logs[0] - logs[1]).mean() + np.abs(A - B).mean()
    assert stft_distance(*pair) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_mel_distance_by_definition(pair: Pair, rate: int) -> None:
    expected = 0.0
    for window, bands in MEL_BANDS.items():
        matrix = _slaney(window, bands, rate)
        logs = [np.log10(np.maximum(matrix @ _magnitudes(v, window), 1e-5)) for v in pair]
        expected += np.abs(logs[0] - logs[1]).mean()
    assert mel_distance(*pair, rate) == pytest.approx(expected, rel=2e-4)


def test_frames_are_transformed_some_at_a_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stft_distance(*pair), mel_distance(*pair, RATE)
    monkeypatch.setattr("codomain.codecs.sound_metrics.FRAMES", 100)
    assert (stft_distance(*pair), mel_distance(*pair, RATE)) == pytest.approx(whole, rel=1e-6)


def test_equal_sounds_and_more_noise(pair: Pair) -> None:
    x, noise = pair[0], np.random.default_rng(1).normal(size=pair[0].shape)
    noisy = [(x + level * noise).astype(np.float32) for level in (0.001, 0.01, 0.1)]
    for metric in (stft_distance, lambda a, b: mel_distance(a, b, RATE)):
        assert metric(x, x) == 0
        scores = [metric(x, v) for v in noisy]
        assert scores == sorted(scores)
        assert scores[0] > 0


def test_stoi_and_pesq_of_a_known_pair(speech: np.ndarray) -> None:
    """Equal speech scores the best there is: 1, and 4.644, the end of P.862.2's mapping; noise scores less and less."""
    reference = pytest.importorskip("pesq").pesq

    assert stoi(speech, speech, RATE) == pytest.approx(1, abs=1e-6)
    best = 0.999 + 4 / (1 + math.exp(-1.3669 * 4.5 + 3.8224))  # P.862.2, equation 1, of a raw score of 4.5
    assert pesq(speech, speech, RATE) == pytest.approx(best, abs=1e-3)
    noise = np.random.default_rng(2).normal(size=speech.shape)
    noisy = [(speech + level * noise).astype(np.float32) for level in (0.003, 0.03, 0.3)]
    for metric in (stoi, pesq):
        scores = [metric(speech, v, RATE) for v in noisy]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] - scores[-1] > 0.1
    assert pesq(speech, noisy[1], RATE) == pytest.approx(reference(RATE, speech[0], noisy[1][0], "wb"), abs=1e-6)


def test_speech_at_another_rate_and_in_stereo(speech: np.ndarray) -> None:
    pytest.importorskip("pesq")
    noise = np.random.default_rng(2).normal(0, 0.02, speech.shape)
    noisy = (speech + noise).astype(np.float32)
    expected = [metric(speech, noisy, RATE) for metric in (stoi, pesq)]
    wide = [resample(v, RATE, 44100) for v in (speech, noisy)]
    assert [metric(*wide, 44100) for metric in (stoi, pesq)] == pytest.approx(expected, abs=0.05)
    sides = np.concatenate([noisy + 0.2, noisy - 0.2])  # whose mean is the same
    assert [metric(np.repeat(speech, 2, 0), sides, RATE) for metric in (stoi, pesq)] == pytest.approx(
        expected, abs=1e-3
    )


def test_what_has_no_score(speech: np.ndarray) -> None:
    silence, short = np.zeros((1, 16000), np.float32), speech[:, :1000]
    for metric in (snr, si_sdr):
        with pytest.raises(ValueError, match="silence"):
            metric(silence, silence + 0.1)
    for score in (stoi, pesq) if find_spec("pesq") else (stoi,):
        for x in (silence, speech[:, 8000:9000]):
            with pytest.raises(ValueError, match=r"STOI|PESQ"):
                score(x, x, RATE)
    with pytest.raises(ValueError, match="a window of 2048 needs more than 1024 samples; found 1000"):
        stft_distance(short, short)


def test_visqol_where_it_is_installed(make_music: Callable[..., np.ndarray]) -> None:
    assert {"snr", "si_sdr", "stft", "mel", "stoi"} <= available_metrics().keys()
    assert ("pesq" in available_metrics()) == (find_spec("pesq") is not None)
    pytest.importorskip("visqol")
    x = make_music(2, 48000, 1)
    noise = np.random.default_rng(2).normal(size=x.shape)
    scores = [visqol(x, (x + level * noise).astype(np.float32), 48000) for level in (0, 0.01, 0.1)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 4.5


def _magnitudes(x: np.ndarray, window: int) -> np.ndarray:
    """(c, window / 2 + 1, frames): every frame by its own, in float64."""
    taps = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(x.astype(np.float64), ((0, 0), (window // 2, window // 2)), mode="reflect")
    starts = range(0, padded.shape[1] - window + 1, window // 4)
    return np.stack([np.abs(np.fft.rfft(padded[:, s : s + window] * taps)) for s in starts], axis=2)


def _slaney(window: int, bands: int, rate: int) -> np.ndarray:
    """Slaney's Auditory Toolbox (1998): linear below 1 kHz, 27 bands for each factor 6.4 above; triangles of area 1."""

    def to_mel(hz: float) -> float:
        return 3 * hz / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

    def to_hz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [to_hz(m) for m in np.linspace(0, to_mel(rate / 2), bands + 2)]
    bins = np.arange(window // 2 + 1) * rate / window
    rows = [
        np.maximum(0, np.minimum((bins - a) / (b - a), (c - bins) / (c - b))) * 2 / (c - a)
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    return np.array(rows)
