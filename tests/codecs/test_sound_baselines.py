from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from codomain.codecs.contenders import parse
from codomain.codecs.metrics import kbps
from codomain.codecs.resample import resample
from codomain.codecs.sound_baselines import SCALES, SoundBaseline, is_installed, sound_baseline
from codomain.codecs.sound_metrics import snr
from codomain.codecs.waveform import Waveform, find_lag

INSTALLED = [name for name in SCALES if is_installed(name)]


def test_all_are_there() -> None:
    assert INSTALLED == ["opus", "mp3", "vorbis"]


@pytest.mark.parametrize(("sample_rate", "channels"), [(44100, 2), (48000, 1), (16000, 1), (22050, 2)])
@pytest.mark.parametrize("name", INSTALLED)
def test_the_same_length_rate_and_time(
    name: str, sample_rate: int, channels: int, make_music: Callable[..., np.ndarray]
) -> None:
    x = Waveform(make_music(1.2345, sample_rate, channels), sample_rate)
    codec = SoundBaseline(name, {"opus": 96.0, "mp3": 96.0, "vorbis": 6.0}[name])
    x_hat = codec.decompress(codec.compress(x))
    assert x_hat.sample_rate == sample_rate
    assert (x_hat.samples.shape, x_hat.samples.dtype) == (x.samples.shape, np.float32)
    assert find_lag(x, x_hat) == 0
    assert snr(x.samples, x_hat.samples) > 14
    assert re.search(r"\d+\.\d+", codec.version)


@pytest.mark.parametrize("name", INSTALLED)
def test_quality_costs_bytes_and_pays(name: str, make_music: Callable[..., np.ndarray]) -> None:
    x = Waveform(make_music(2, 44100), 44100)
    rates, ratios = [], []
    for quality in {"opus": (64, 96.5, 160), "mp3": (64, 96, 160), "vorbis": (1, 4.25, 8)}[name]:
        codec = parse(f"{name}:{quality}")
        assert (codec.name, codec.quality) == (name, quality)
        data = codec.compress(x)
        rates.append(kbps(len(data), x.seconds))
        ratios.append(snr(x.samples, codec.decompress(data).samples))
        if name == "mp3":  # Opus spends more on tones than it aims at
            assert rates[-1] == pytest.approx(quality, rel=0.1)
    assert rates == sorted(set(rates))
    assert ratios == sorted(set(ratios))
    assert ratios[0] > 5


@pytest.mark.parametrize("name", ["opus", "mp3"])
def test_the_same_bytes_again(name: str, make_music: Callable[..., np.ndarray]) -> None:
    x = Waveform(make_music(0.5, 44100), 44100)
    codec = SoundBaseline(name, 64.0)
    assert codec.compress(x) == codec.compress(x)


def test_every_quality_of_opus_codes_mono(make_music: Callable[..., np.ndarray]) -> None:
    """FFmpeg refuses more than 256 kbps of one channel."""
    x = Waveform(make_music(0.5, 48000)[:1], 48000)
    assert SoundBaseline("opus", 510.0).compress(x) == SoundBaseline("opus", 256.0).compress(x)


def test_an_opus_file_names_the_rate_and_its_page_is_whole(make_music: Callable[..., np.ndarray]) -> None:
    """libsndfile's Ogg reader checks every page's checksum; its header is that of RFC 7845."""
    x = make_music(0.5, 44100)
    data = SoundBaseline("opus", 96.0).compress(Waveform(x, 44100))
    assert data[28:36] == b"OpusHead"
    version, channels, skip, rate = struct.unpack_from("<BBHI", data, 36)
    assert (version, channels, rate) == (1, 2, 44100)
    assert skip == 312  # the encoder's delay, at 48 kHz
    decoded, at = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    expected = resample(x, 44100, 48000)
    assert at in (44100, 48000)
    if at == 48000:
        assert find_lag(Waveform(expected, 48000), Waveform(decoded.T[:, : expected.shape[1]].copy(), 48000)) == 0
    broken = bytearray(data)
    broken[41] ^= 1  # of the rate, without its checksum
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(bytes(broken)))


@pytest.mark.parametrize("samples", [100, 5000])
@pytest.mark.parametrize("name", INSTALLED)
def test_short_sounds(name: str, samples: int, make_music: Callable[..., np.ndarray]) -> None:
    x = Waveform(make_music(0.2, 44100)[:, :samples], 44100)
    codec = SoundBaseline(name, float(SCALES[name].high))
    x_hat = codec.decompress(codec.compress(x))
    assert x_hat.samples.shape == x.samples.shape


def test_high_rates(make_music: Callable[..., np.ndarray]) -> None:
    x = Waveform(make_music(0.3, 96000)[:, :28001], 96000)
    codec = SoundBaseline("opus", 128.0)
    x_hat = codec.decompress(codec.compress(x))
    assert x_hat.sample_rate == 96000
    assert x_hat.samples.shape[1] in (28001, 28002)  # its length is counted at 48 kHz
    with pytest.raises(ValueError, match=r"MP3 has the rates 8000, .* 48000 Hz; found 96000"):
        SoundBaseline("mp3", 128.0).compress(x)
    with pytest.raises(ValueError, match="opus is tested with 1 or 2 channels; found 3"):
        codec.compress(Waveform(np.zeros((3, 100), np.float32), 48000))


@pytest.mark.parametrize("text", ["opus:1", "opus:64.05", "mp3:96.5", "vorbis:11", "vorbis:"])
def test_qualities_off_the_scale(text: str) -> None:
    with pytest.raises(ValueError, match=rf"'{text}': expected {text.split(':')[0]}:\d+ to"):
        parse(text)


def test_a_codec_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codomain.codecs.sound_baselines.is_installed", lambda name: False)
    with pytest.raises(ValueError, match="'opus:64': opus is not installed"):
        sound_baseline("opus", 64.0)
