from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs.waveform import Waveform, find_lag, loudest, read_waveform, write_waveform


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
def test_sound_files_are_read(suffix: str, tmp_path: Path, make_music: Callable[..., np.ndarray]) -> None:
    x = make_music(0.5, 44100)
    soundfile.write(tmp_path / f"x{suffix}", x.T, 44100)
    found = read_waveform(tmp_path / f"x{suffix}")
    assert (found.samples.shape, found.samples.dtype, found.sample_rate) == ((2, 22050), np.float32, 44100)
    assert found.seconds == 0.5
    lossless = suffix not in (".ogg", ".mp3")
    assert np.abs(found.samples - x).max() < (2**-15 if lossless else 0.3)


def test_what_is_written_comes_back_exactly(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1000)).astype(np.float32)
    write_waveform(tmp_path / "x.wav", Waveform(x, 22050))
    back = read_waveform(tmp_path / "x.wav")
    assert np.array_equal(back.samples, x)
    assert back.sample_rate == 22050


def test_what_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("nothing")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 44100)
    soundfile.write(tmp_path / "nan.wav", np.full((9, 1), np.nan), 44100, subtype="FLOAT")
    for name, text in (("text", "not a sound file"), ("empty", "no samples"), ("nan", "NaN or infinity")):
        with pytest.raises(ValueError, match=text):
            read_waveform(tmp_path / f"{name}.wav")


def test_the_loudest_part() -> None:
    x = np.zeros((2, 1000), np.float32)
    x[1, 600:700] = 1
    assert loudest(x, 100) == slice(600, 700)
    assert loudest(x, 2000) == slice(0, 1000)


@pytest.mark.parametrize("lag", [-1105, -1, 0, 1, 312, 2257])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_delay_is_found(lag: int, noise: float, make_music: Callable[..., np.ndarray]) -> None:
    x = make_music(1, 44100)
    x_hat = 0.9 * np.roll(x, lag, axis=1) + np.random.default_rng(1).normal(0, noise, x.shape)
    assert find_lag(Waveform(x, 44100), Waveform(x_hat.astype(np.float32), 44100)) == lag


def test_what_is_no_delay(make_music: Callable[..., np.ndarray]) -> None:
    x, rng = make_music(1, 44100), np.random.default_rng(0)
    tone = np.sin(np.arange(44100) / 7)[None].astype(np.float32)
    cases = (
        (x, rng.normal(0, 0.3, x.shape)),  # a codec that keeps no waveform
        (x, make_music(1, 44100, seed=5)),
        (x, -x),
        (x, np.zeros_like(x)),
        (np.zeros_like(x), x),
        (tone, tone + rng.normal(0, 0.1, tone.shape)),
        (x[:, :1], x[:, :1]),
    )
    for a, b in cases:
        assert find_lag(Waveform(a, 44100), Waveform(b.astype(np.float32), 44100)) == 0
