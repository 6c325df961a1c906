from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs.cli import main
from codomain.codecs.files import STREAM, SUFFIXES, jobs, kind_of, write


def test_folders_keep_their_tree_and_every_file_its_own_name(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "sub/b.PNG", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pairs = list(jobs(tmp_path, Path("out"), {".png", ".jpg"}, ".cdm"))
    assert [str(target) for _, target in pairs] == ["out/a.jpg.cdm", "out/a.png.cdm", "out/sub/b.cdm"]


def test_single_files_and_streams(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.touch()
    assert list(jobs(photo, None, set(), ".cdm")) == [(photo, tmp_path / "photo.cdm")]
    assert list(jobs(photo, tmp_path, set(), ".cdm")) == [(photo, tmp_path / "photo.cdm")]
    assert list(jobs(Path("-"), None, set(), ".cdm")) == [(Path("-"), Path("-"))]
    with pytest.raises(ValueError, match="no such file"):
        list(jobs(tmp_path / "nothing", None, set(), ".cdm"))
    with pytest.raises(ValueError, match=r"no files that end in \.tif"):
        list(jobs(tmp_path, None, {".tif"}, ".cdm"))


def test_nothing_is_overwritten_or_left_half_written(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.cdm"
    write(target, b"one", force=False)
    with pytest.raises(ValueError, match="exists already"):
        write(target, b"two", force=False)
    write(target, b"three", force=True)
    assert target.read_bytes() == b"three"
    with pytest.raises(TypeError):
        write(tmp_path / "y", "not bytes", force=False)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["new", "x.cdm"]


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("x.png", b"", "image"), ("x.WAV", b"", "sound"), ("x.MP4", b"", "video"), ("x.wmv", b"", "video"),
        ("x", b"RIFF\0\0\0\0AVI LIST", "video"), ("x", b"RIFF\0\0\0\0WAVEfmt ", "sound"),
        ("x", b"RIFF\0\0\0\0WEBPVP8 ", "image"), ("x.bin", b"\0\0\0\x20ftypisom", "video"),
        ("x.bin", b"\0\0\0\x20ftypavif", "image"), ("x", b"YUV4MPEG2 W", "video"), ("x", b"", "image"),
    ],
)  # fmt: skip
def test_kinds_are_told_by_suffix_or_first_bytes(tmp_path: Path, name: str, head: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(head)
    assert kind_of(tmp_path / name) == kind
    if "." not in name:
        assert kind_of(STREAM, head) == kind


def test_a_folder_is_a_film_for_a_model_of_video(tmp_path: Path) -> None:
    take = tmp_path / "clips" / "take.2"
    take.mkdir(parents=True)
    (take / "frame_1.png").touch()
    (tmp_path / "clips" / "take.2.mp4").touch()
    assert [kind_of(take), kind_of(take, wanted="image"), kind_of(take, wanted="video")] == ["image", "image", "video"]
    assert kind_of(take.parent, wanted="video") == "image"
    out = tmp_path / "out"
    assert list(jobs(take, None, SUFFIXES["image"], ".cdm")) == [(take / "frame_1.png", take / "frame_1.cdm")]
    assert list(jobs(take, None, SUFFIXES["video"], ".cdm", films=True)) == [(take, take.with_name("take.2.cdm"))]
    out.mkdir()
    assert list(jobs(take, out, SUFFIXES["video"], ".cdm", films=True)) == [(take, out / "take.2.cdm")]
    assert list(jobs(take.parent, out, SUFFIXES["video"], ".cdm", films=True)) == [
        (take, out / "take.2.cdm"),
        (take.with_name("take.2.mp4"), out / "take.2.mp4.cdm"),
    ]


def tones(channels: int, n: int, rate: int) -> np.ndarray:
    f, t = 200.0 * 1.5 ** np.arange(channels), np.arange(n)[:, None] / rate
    x: np.ndarray = 0.4 * np.sin(2 * np.pi * f * t)
    return x


def test_sound_of_every_format_comes_back_as_it_was(tmp_path: Path) -> None:
    """At its rate, depth, length and number of channels; what was lossy as 16 bits."""
    made = {
        "a.wav": (2, 30_001, 44100, "PCM_24"), "b.flac": (1, 22_050, 22050, "PCM_16"),
        "c.flac": (6, 20_000, 48000, "PCM_24"), "d.ogg": (2, 24_000, 48000, "VORBIS"),
        "e.mp3": (2, 30_000, 44100, "MPEG_LAYER_III"), "f.aiff": (1, 9_000, 16000, "PCM_16"),
        "g.wav": (2, 20_000, 48000, "FLOAT"), "h.wav": (1, 1, 44100, "PCM_16"),
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    for name, (channels, n, rate, subtype) in made.items():
        soundfile.write(tmp_path / "in" / name, tones(channels, n, rate), rate, subtype)
    assert main(["encode", str(tmp_path / "in"), str(tmp_path / "cdm"), "--model", "walloc-stereo-5x"]) == 0
    assert main(["decode", str(tmp_path / "cdm"), str(tmp_path / "out")]) == 0
    for name, (channels, n, rate, subtype) in made.items():
        path = tmp_path / "out" / Path(name).with_suffix(".wav")
        info, (x, _) = soundfile.info(path), soundfile.read(tmp_path / "in" / name, always_2d=True)
        assert (info.channels, info.frames, info.samplerate) == (channels, n, rate)
        assert info.subtype == (subtype if subtype[:3] in ("PCM", "FLO") else "PCM_16")
        error = soundfile.read(path, always_2d=True)[0] - x
        assert n == 1 or 10 * np.log10(np.square(x).sum() / np.square(error).sum()) > 20


def test_part_of_a_recording_has_the_samples_of_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "x.wav", tones(1, 24_000, 16000), 16000)
    cdm, whole, part = (str(tmp_path / name) for name in ("x.cdm", "whole.flac", "part.flac"))
    assert main(["encode", str(tmp_path / "x.wav"), cdm, "--model", "hificodec-speech-16k"]) == 0
    assert main(["decode", cdm, whole]) == main(["decode", cdm, part, "--start", "0.25", "--stop", "1"]) == 0
    assert np.array_equal(soundfile.read(part)[0], soundfile.read(whole)[0][4000:16000])
    for words, said in (
        (["--start", "2"], "expected 0 <= start < stop within 1.5 s; found 2 to 1.5 s"),
        (["--start", "1", "--stop", "0.5"], "found 1 to 0.5 s"),
        (["--start", "nan"], "expected start and stop in seconds; found nan and None"),
        (["--stop", "inf"], "expected start and stop in seconds; found None and inf"),
        (["--stop", "1e308"], "expected start and stop in seconds"),
        (["--stages", "3"], "hificodec-speech-16k has 1 to 2 stages; found stages=3"),
    ):
        capsys.readouterr()
        assert main(["decode", cdm, str(tmp_path / "no.wav"), *words]) == 1
        assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.flac", "whole.flac", "x.cdm", "x.wav"]


def test_sound_that_cannot_be_coded_is_a_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    x = tones(2, 100_000, 44100)
    soundfile.write(folder / "cut.flac", x, 44100)
    soundfile.write(folder / "nan.wav", np.where(np.arange(100_000)[:, None] == 90_000, np.nan, x), 44100, "FLOAT")
    soundfile.write(folder / "nine.wav", tones(9, 100, 8000), 8000)
    soundfile.write(folder / "none.wav", x[:0], 44100)
    soundfile.write(folder / "slow.wav", x[:10], 1)
    soundfile.write(folder / "fast.wav", x[:10], 10_000_000)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:30_000])
    assert main(["encode", str(folder), str(tmp_path / "out")]) == 1
    lines = capsys.readouterr().err.splitlines()
    said = [
        "damaged after 0 of 100000",
        "rate of 10000000 Hz",
        "NaN or infinity",
        "9 channels",
        "no samples",
        "rate of 1 Hz",
    ]
    assert all(words in line for words, line in zip(said, lines, strict=False))
    assert lines[6:] == ["codomain: 6 of 6 failed"]
    assert not list(tmp_path.rglob("*.cdm")) and not list(tmp_path.rglob("*.part"))
