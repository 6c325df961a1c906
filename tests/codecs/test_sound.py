from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs.sound import BLOCK, Format, Reader, is_sound, to_integers, write_sound, written_format

RATE = 22050


def noise(channels: int = 2, n: int = BLOCK + 123, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, n)).astype(np.float32)


def read(source: Path | bytes) -> tuple[Format, np.ndarray]:
    with Reader(source) as reader:
        return reader.format, np.concatenate(list(reader.blocks()), 1)


@pytest.mark.parametrize(
    ("suffix", "depth", "is_float"),
    [(".wav", 8, False), (".wav", 16, False), (".wav", 24, False), (".wav", 32, False), (".wav", 32, True),
     (".wav", 64, True), (".flac", 8, False), (".flac", 16, False), (".flac", 24, False)],
)  # fmt: skip
def test_written_samples_come_back(tmp_path: Path, suffix: str, depth: int, is_float: bool) -> None:
    x, form = noise(), Format(2, BLOCK + 123, RATE, depth, is_float)
    path = tmp_path / f"x{suffix}"
    write_sound(path, [x[:, :1000], x[:, 1000:]], form, suffix)
    found, y = read(path)
    assert found == form
    exact = x if is_float else np.rint(x * 2.0 ** (depth - 1)) / 2.0 ** (depth - 1)
    assert np.abs(y - exact).max() <= (0 if is_float or depth < 32 else 2**-24)
    assert read(path.read_bytes())[0] == form
    assert is_sound(path.read_bytes())


def test_samples_round_to_the_nearest_and_clip() -> None:
    x = np.array([-1.0, -0.5 / 128, 0.49 / 128, 1.0], np.float32)
    assert (to_integers(x, 8) >> 8).tolist() == [-128, 0, 0, 127]
    assert to_integers(x, 16).tolist() == [-32768, -128, 125, 32767]
    assert to_integers(np.float32([1.0]), 24).tolist() == [(2**23 - 1) << 8]


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("x.ogg", "VORBIS"), ("x.opus", "OPUS"), ("x.mp3", "MPEG_LAYER_III"), ("x.aiff", "PCM_16"), ("x.flac", "PCM_24")],
)
def test_every_format_is_read(tmp_path: Path, name: str, subtype: str) -> None:
    x, path = noise(1, 48000), tmp_path / name
    soundfile.write(path, x.T, 48000, subtype, format={".opus": "OGG"}.get(path.suffix))
    form, y = read(path)
    assert form == Format(1, 48000, 48000, 24 if subtype == "PCM_24" else 16)
    assert y.shape == (1, 48000)
    assert is_sound(path.read_bytes())


def test_float_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.array([0.5, 1.5, -2.0]), RATE, "FLOAT")
    assert read(tmp_path / "x.wav")[1].tolist() == [[0.5, 1.0, -1.0]]


def damaged(tmp_path: Path, name: str, share: float) -> Path:
    path = tmp_path / name
    soundfile.write(path, noise().T, RATE, "FLOAT" if name.endswith(".wav") else None)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize(
    ("name", "share", "said"),
    [("x.flac", 0.5, "damaged after|ends after"), ("x.flac", 0.0, "not a sound file"), ("x.wav", 0.5, "it ends early"),
     ("x.wav", 0.0001, "not a sound file"), ("x.mp3", 0.5, "ends after"),
     ("x.aiff", 0.5, "it ends early"), ("x.ogg", 0.5, "it ends early: its last page"), ("x.ogg", 0.9, "it ends early")],
)  # fmt: skip
def test_a_file_that_was_cut_off_is_one_line(tmp_path: Path, name: str, share: float, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read(damaged(tmp_path, name, share))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "rate", "said"),
    [((9, 100), RATE, "9 channels; expected 1 to 8"), ((1, 100), 1, "rate of 1 Hz"), ((2, 0), RATE, "no samples"),
     ((1, 100), 10_000_000, "rate of 10000000 Hz")],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(tmp_path: Path, shape: tuple[int, int], rate: int, said: str) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(shape[::-1]), rate)
    with pytest.raises(ValueError, match=said):
        Reader(tmp_path / "x.wav")


def test_nan_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.array([0.5, np.nan]), RATE, "FLOAT")
    with pytest.raises(ValueError, match="NaN or infinity after sample 0"):
        read(tmp_path / "x.wav")


def test_other_files_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.caf", np.zeros(10), RATE)
    with pytest.raises(ValueError, match="found CAF"):
        Reader(tmp_path / "x.caf")
    with pytest.raises(ValueError, match="not a sound file"):
        Reader(b"no sound")
    (tmp_path / "x.mp3").write_text("hello there")
    with pytest.raises(ValueError, match="it begins like none of AIFF, FLAC, MP3, OGG, WAV"):
        Reader(tmp_path / "x.mp3")
    with pytest.raises(ValueError, match="no such file"):
        Reader(tmp_path / "nowhere.wav")
    assert not is_sound(b"\x89PNG\r\n\x1a\n1234")
    assert not is_sound(b"")


def test_what_a_format_cannot_hold_is_one_line() -> None:
    with pytest.raises(ValueError, match="FLAC cannot hold 2 channels of 16 bits at 700000 Hz"):
        write_sound(io.BytesIO(), [noise()], Format(2, 10, 700_000), ".flac")
    with pytest.raises(ValueError, match=r"\.mp3: sound is written as one of .wav .flac"):
        written_format(".mp3")
