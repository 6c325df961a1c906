from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs import sound_kind
from codomain.codecs.kind import Shown
from codomain.codecs.sound_kind import SoundKind
from codomain.codecs.sound_metrics import mel_distance, si_sdr, snr, stft_distance
from codomain.codecs.walloc import WaLLoC
from codomain.codecs.waveform import Waveform, loudest
from PIL import Image

KIND = SoundKind()
Music = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def pair(make_music: Music) -> tuple[Waveform, Waveform]:
    x = make_music(1.5, 44100)
    noise = np.random.default_rng(0).normal(0, 0.01, x.shape)
    return Waveform(x, 44100), Waveform((x + noise).astype(np.float32), 44100)


def test_measured_as_defined(pair: tuple[Waveform, Waveform]) -> None:
    x, x_hat = pair
    row = KIND.measure(x, x_hat)
    clipped = x_hat.samples.clip(-1, 1)
    assert (row["channels"], row["samples"], row["sample_rate"]) == (2, 66150, 44100)
    assert row["snr"] == pytest.approx(snr(x.samples, clipped), abs=1e-6)
    assert row["si_sdr"] == pytest.approx(si_sdr(x.samples, clipped), abs=1e-6)
    assert row["stft"] == pytest.approx(stft_distance(x.samples, clipped), abs=1e-6)
    assert row["mel"] == pytest.approx(mel_distance(x.samples, clipped, 44100), abs=1e-6)
    assert 0 < row["stoi"] < 1
    assert "pesq" not in row or 1 < row["pesq"] < 4.7
    assert KIND.rate_of(3000, row) == pytest.approx(16)
    assert KIND.amount(x) == 1.5


def test_what_is_handed_on_comes_back(pair: tuple[Waveform, Waveform], tmp_path: Path) -> None:
    KIND.save(tmp_path / "x.wav", pair[0])
    for back in (KIND.load(tmp_path / "x.wav"), KIND.read(tmp_path / "x.wav")):
        assert np.array_equal(back.samples, pair[0].samples)


def test_what_is_not_in_time_is_an_error_and_no_score(pair: tuple[Waveform, Waveform]) -> None:
    x, x_hat = pair
    late = Waveform(np.roll(x_hat.samples, 312, 1), 44100)
    with pytest.raises(ValueError, match="decoded 312 samples too late"):
        KIND.measure(x, late)
    with pytest.raises(ValueError, match="decoded 312 samples too early"):
        KIND.measure(late, x)
    for samples, rate, found in (
        (x.samples[:, :-1], 44100, "2 channels of 66149 samples at 44100 Hz"),
        (np.pad(x.samples, ((0, 0), (0, 1))), 44100, "2 channels of 66151 samples at 44100 Hz"),
        (x.samples[:1], 44100, "1 channels of 66150 samples at 44100 Hz"),
        (x.samples, 48000, "2 channels of 66150 samples at 48000 Hz"),
    ):
        with pytest.raises(ValueError, match=f"decoded to {found}; the recording has 2 of 66150 at 44100 Hz"):
            KIND.measure(x, Waveform(samples, rate))
    high = Waveform(np.pad(x.samples, ((0, 0), (0, 1))), 96000)  # a length that was counted at 48 kHz
    assert KIND.measure(Waveform(x.samples, 96000), high)["snr"] == np.inf


def test_what_a_recording_has_no_metric_for() -> None:
    silence = Waveform(np.zeros((1, 800), np.float32), 16000)
    row = KIND.measure(silence, silence)
    lacking = [metric for metric in KIND.metrics if metric.needed and row[metric.key] is None]
    assert KIND.lacks(row, lacking) == (
        "0.05 s, too short or silent for SNR dB, SI-SDR dB, STFT distance, mel distance"
    )


def test_the_page_shows_the_loudest_seconds(make_music: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_kind, "EXCERPT_S", 0.5)
    x = make_music(2, 16000) * 0.1
    x[:, 16000:24000] *= 5
    whole = Waveform(x, 16000)
    original = KIND.exhibit("original", whole, whole, None, "")
    assert set(original) == {"label", "src", "spectrogram"}
    kind, _, text = original["src"].partition(";base64,")
    assert kind == "data:audio/flac"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32", always_2d=True)
    extent = KIND.extent(whole)
    assert (extent["seconds"], extent["khz"], rate) == (2.0, 8.0, 16000)
    assert extent["start"] == pytest.approx(1.0, abs=0.02)
    assert extent["stop"] - extent["start"] == pytest.approx(0.5)
    assert np.abs(samples.T - x[:, loudest(x, 8000)]).max() < 2**-15
    with Image.open(io.BytesIO(base64.b64decode(original["spectrogram"].partition(",")[2]))) as image:
        assert image.height == 256
    coded = KIND.exhibit("ours", whole, Waveform(0.9 * x, 16000), bytes(500), ".cdm")
    assert (coded["n_bytes"], coded["kbps"], coded["snr"]) == (500, 2.0, pytest.approx(20, abs=1e-3))
    assert KIND.exhibit("ours", whole, whole, bytes(5), ".cdm")["snr"] is None  # equal: JSON knows no infinity


def test_a_page_that_would_grow_too_large_shows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Shown] = [{"versions": [{"src": "x" * 100, "spectrogram": "y" * 50}] * 2} for _ in range(4)]
    for budget, kept in ((10_000, 4), (900, 3), (899, 2), (10, 1)):
        monkeypatch.setattr(sound_kind, "BUDGET", budget)
        assert len(KIND.fitted(shown)) == kept


def test_our_codecs_take_and_give_waveforms(make_codec: Callable[..., WaLLoC], make_music: Music) -> None:
    codec = make_codec(ndim=1, channels=2, latent_dim=8, level=4)
    x = Waveform(make_music(0.3, 22050)[:, :6001], 22050)
    data = KIND.compress(codec, x, None)
    x_hat = KIND.decompress(codec, data)
    assert data[:3] == b"CDM"
    assert (x_hat.samples.shape, x_hat.sample_rate) == ((2, 6001), 22050)
    assert np.array_equal(x_hat.samples, codec.decompress(data)[0].numpy())
