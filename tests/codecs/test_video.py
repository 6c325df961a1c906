from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from codomain.codecs import media, sound
from codomain.codecs.audio_track import Track
from codomain.codecs.coder import BitstreamError
from codomain.codecs.metrics import psnr
from codomain.codecs.video import (
    FOREIGN,
    FORMATS,
    WRITTEN,
    Form,
    is_video,
    open_clip,
    read_display,
    write_clip,
    write_display,
)
from PIL import Image

Frames = Callable[..., list[np.ndarray]]
Make = Callable[..., Path]
NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("size", [(48, 32), (47, 31), (1, 1)], ids=["even", "odd", "dot"])
@pytest.mark.parametrize(("suffix", "least"), [(".mp4", 39.0), (".mkv", np.inf), (".y4m", 48.0), (".png", np.inf)])
def test_films_come_back(tmp_path: Path, moving: Frames, suffix: str, least: float, size: tuple[int, int]) -> None:
    x, form = moving(8, *size), Form(*size, 8, Fraction(25) if suffix == ".png" else NTSC)
    path = tmp_path / ("folder" if suffix == ".png" else f"x{suffix}")
    write_clip(path, x, form, suffix)
    with open_clip(path) as clip:
        assert (clip.form.width, clip.form.height, clip.form.frames, clip.form.rate) == (*size, 8, form.rate)
        assert (clip.notes, clip.audio) == ([], None)
        y = np.stack(list(clip.frames()))
        assert psnr(np.stack(x), y, 255.0) >= least
        assert np.array_equal(np.stack(list(clip.frames(3, 5))), y[3:5])
        assert list(clip.frames(8)) == []
    if suffix != ".png":
        assert is_video(path.read_bytes()[:12])
        assert np.array_equal(np.stack(list(open_clip(path.read_bytes()).frames())), y)
        with av.open(str(path)) as container:  # as other programs see it
            assert container.streams.video[0].average_rate == form.rate
            assert sum(1 for _ in container.decode(video=0)) == 8


@pytest.mark.parametrize(
    ("size", "matrix", "pixels"), [((48, 32), 6, "yuv420p"), ((47, 32), 6, "yuv444p"), ((1280, 8), 1, "yuv420p")]
)
def test_mp4_is_tagged(tmp_path: Path, moving: Frames, size: tuple[int, int], matrix: int, pixels: str) -> None:
    form = Form(*size, 2, Fraction(25), Fraction(4, 3), primaries=9, transfer=16)
    write_clip(tmp_path / "x.part", moving(2, *size), form, ".mp4")
    with av.open(str(tmp_path / "x.part")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", pixels)
        assert (context.color_range, context.colorspace, context.color_primaries, context.color_trc) == (
            1,
            matrix,
            9,
            16,
        )
    assert open_clip(tmp_path / "x.part").form == form


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".y4m"])
def test_the_aspect_comes_back(tmp_path: Path, moving: Frames, suffix: str) -> None:
    form = Form(47, 31, 2, Fraction(50), Fraction(16, 11))
    write_clip(tmp_path / "x", moving(2, 47, 31), form, suffix)
    clip = open_clip(tmp_path / "x")
    assert clip.form == form
    if suffix == ".mkv":  # as lossless as with square samples
        np.testing.assert_array_equal(np.stack(list(clip.frames())), np.stack(moving(2, 47, 31)))


@pytest.mark.parametrize(
    ("name", "kind", "targets"),
    [("x.mp4", "aac", [".mkv", ".mp4"]), ("x.mkv", "libopus", [".mkv", ".mp4"]), ("x.mkv", "flac", [".mkv", ".mp4"]),
     ("x.mkv", "pcm_s16le", [".mkv", ".mp4"]), ("x.mkv", "wavpack", [".mkv"])],
)  # fmt: skip
def test_sound_goes_along(
    tmp_path: Path, moving: Frames, film_file: Make, name: str, kind: str, targets: list[str]
) -> None:
    clip = open_clip(film_file(tmp_path / name, moving(50), pixels="yuv420p", sound=kind))
    assert clip.audio is not None
    before = Track.from_bytes(clip.audio)
    for suffix in targets:
        path = tmp_path / f"y{suffix}"
        write_clip(path, clip.frames(), clip.form, suffix, clip.audio)
        again = open_clip(path)
        assert (again.form.frames, again.notes) == (50, [])
        assert again.audio is not None
        after = Track.from_bytes(again.audio)
        assert [bytes(packet) for packet in after.packets] == [bytes(packet) for packet in before.packets]
        times = [np.array(track.times[:-1]) * float(track.time_base) for track in (before, after)]
        assert np.abs(times[0] - times[1]).max() <= 1.1e-3
    if ".mp4" not in targets:
        with pytest.raises(ValueError, match=r"^MP4 holds no wavpack sound: write \.mkv$"):
            write_clip(tmp_path / "y.mp4", clip.frames(), clip.form, ".mp4", clip.audio)
    write_clip(tmp_path / "y.y4m", clip.frames(), clip.form, ".y4m", clip.audio)
    assert open_clip(tmp_path / "y.y4m").audio is None


def test_damaged_sound_is_an_error(tmp_path: Path, moving: Frames) -> None:
    for audio in (b"", b"\1\0", bytes(50)):
        with pytest.raises(BitstreamError):
            write_clip(tmp_path / "x.mkv", moving(1), Form(48, 32, 1, Fraction(25)), ".mkv", audio)


def test_frames_are_scaled(tmp_path: Path, moving: Frames) -> None:
    x = moving(3, 47, 31)
    write_clip(tmp_path / "x.mkv", x, Form(47, 31, 3, NTSC), ".mkv")
    clip = open_clip(tmp_path / "x.mkv", Fraction(1, 2))
    assert clip.form == Form(24, 16, 3, NTSC)
    y = np.stack(list(clip.frames()))
    blocks = np.stack(x)[:, :30, :46].reshape(3, 15, 2, 23, 2, 3).sum((2, 4), dtype=int)
    assert np.array_equal(y[:, :15, :23], (blocks + 2) // 4)


def test_a_folder_is_in_natural_order(tmp_path: Path, moving: Frames) -> None:
    x = moving(12)
    for i, frame in enumerate(x):
        alpha = np.full((32, 48, 1), 9, np.uint8)
        Image.fromarray(np.concatenate((frame, alpha), 2)).save(tmp_path / f"take2_{i}.PNG", "PNG")
    (tmp_path / "notes.txt").touch()
    clip = open_clip(tmp_path)
    assert (clip.form, clip.notes) == (Form(48, 32, 12, Fraction(25)), ["alpha dropped"])
    assert np.array_equal(np.stack(list(clip.frames())), np.stack(x))
    Image.fromarray(x[0][:31]).save(tmp_path / "take2_12.png")
    with pytest.raises(ValueError, match=r"take2_12\.png is 48 x 31; expected 48 x 32, as take2_0\.PNG is"):
        open_clip(tmp_path)
    with pytest.raises(ValueError, match="no PNG files"):
        open_clip(tmp_path / "..")


def test_a_folder_holds_the_frames_of_one_film(tmp_path: Path, moving: Frames) -> None:
    form = Form(48, 32, 5, Fraction(25))
    (tmp_path / "kept.txt").touch()
    write_clip(tmp_path, moving(5), form, "")
    write_clip(tmp_path, moving(2), replace(form, frames=2), "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame_000000.png", "frame_000001.png", "kept.txt"]

    def broken() -> list[np.ndarray]:
        yield from moving(1)  # type: ignore[misc]
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_clip(tmp_path, broken(), form, "")
    assert open_clip(tmp_path).form.frames == 2


def test_what_cannot_be_written_is_one_line(tmp_path: Path, moving: Frames) -> None:
    form = Form(48, 32, 2, Fraction(25))
    for frames, wrong, suffix, said in (
        (moving(2), form, ".gif", r"\.gif: video is written as one of \.mp4 \.mkv \.y4m, or a folder of PNG files"),
        (moving(2, 46), form, ".mkv", r"frame 0 is \(32, 46, 3\); expected \(32, 48, 3\)"),
        ([], form, ".mp4", "expected at least one frame; found none"),
        (moving(2), replace(form, rate=Fraction(10**6)), ".mp4", "a rate of 1000000 frames a second"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            write_clip(tmp_path / "x", frames, wrong, suffix)
        assert "\n" not in str(error.value)


def test_frames_out_of_range(tmp_path: Path, moving: Frames) -> None:
    write_clip(tmp_path / "x", moving(4), Form(48, 32, 4, NTSC), ".mkv")
    for start, stop in ((-1, 2), (0, 5), (3, 2)):
        with pytest.raises(ValueError, match=f"expected 0 <= start <= stop <= 4; found {start} to {stop}"):
            open_clip(tmp_path / "x").frames(start, stop)


def test_display_facts_come_back() -> None:
    form = Form(48, 32, 4, NTSC)
    assert write_display(form) == b""
    assert read_display(write_display(replace(form, primaries=1)), form) == replace(form, primaries=1)
    wide = replace(form, aspect=Fraction(16, 11), primaries=9, transfer=16)
    assert write_display(wide) == bytes([16, 11, 9, 16])
    assert read_display(write_display(wide), form) == wide
    for data in (
        b"",
        b"\1\1\1",
        b"\1\1\1\1\1",
        b"\0\1\1\1",
        b"\1\0\1\1",
        b"\1\1\x80",
        b"\1\1\xff\7\1",
        b"\xff" * 9 + b"\1\1\1\1",
    ):
        with pytest.raises(BitstreamError):
            read_display(data, form)


def test_suffixes_and_first_bytes_are_of_one_kind() -> None:
    assert set(FORMATS) >= {".mp4", ".mkv", ".webm", ".mov", ".y4m", ".avi", ".m4v"} >= set(WRITTEN)
    ours = FORMATS.keys() | FOREIGN
    assert not FORMATS.keys() & FOREIGN
    assert not ours & (media.FORMATS.keys() | media.FOREIGN | sound.FORMATS.keys() | sound.FOREIGN)
    heads = (
        b"\0\0\0 ftypavif",
        b"\0\0\0 ftypM4A ",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WEBP",
        b"\x89PNG\r\n\x1a\n",
        b"OggS",
        b"",
    )
    assert not any(is_video(head) for head in heads)
    assert all(
        is_video(head) for head in (b"\0\0\0 ftypisom", b"RIFF\0\0\0\0AVI ", b"\x1a\x45\xdf\xa3", b"YUV4MPEG2 W4")
    )
