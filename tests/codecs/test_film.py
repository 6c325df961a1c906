from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.bitstream import MAX_SAMPLES
from codomain.codecs.film import Film, check_size, demuxer_of
from codomain.codecs.metrics import psnr
from PIL import Image

Frames = Callable[..., list[np.ndarray]]
Make = Callable[..., Path]
# name, codec, pixel format, PSNR at least
KINDS = [
    ("x.mp4", "libx264", "yuv420p", 38), ("x.mov", "libx264", "yuv444p", 45), ("x.mkv", "ffv1", "bgr0", 99),
    ("x.webm", "libvpx-vp9", "yuv420p", 36), ("x.avi", "mpeg4", "yuv420p", 27), ("x.avi", "ffv1", "yuv444p", 45),
    ("x.mkv", "libx264", "yuv444p10le", 46), ("x.mp4", "libx264", "gray", 5),
]  # fmt: skip


def read(source: Path | bytes, start: int = 0, stop: int | None = None, **kwargs: Fraction) -> np.ndarray:
    film = Film(source, **kwargs)
    return np.stack(list(film.read(start, len(film.order) if stop is None else stop)))


@pytest.mark.parametrize(("name", "codec", "pixels", "least"), KINDS, ids=[f"{k[0]}-{k[1]}-{k[2]}" for k in KINDS])
def test_every_format_is_read(
    tmp_path: Path, moving: Frames, film_file: Make, name: str, codec: str, pixels: str, least: float
) -> None:
    x, path = moving(), tmp_path / name
    film = Film(film_file(path, x, codec, pixels, Fraction(30000, 1001)))
    assert (film.size, len(film.order), film.rate, film.audio) == ((48, 32), 12, Fraction(30000, 1001), None)
    assert film.notes == (["10 bits rounded to 8"] if "10" in pixels else [])
    y = np.stack(list(film.read(0, 12)))
    assert y.dtype == np.uint8
    assert psnr(np.stack(x), y, 255.0) >= least
    assert demuxer_of(path.read_bytes()[:12])
    assert np.array_equal(read(path.read_bytes(), 7, 9), y[7:9])


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("x.mp4", "libx264", {"g": "10", "bf": "3"}),
     ("x.mkv", "libx264", {"g": "10", "x264-params": "open-gop=1:bframes=4"}),
     ("x.mkv", "libx264", {"x264-params": "intra-refresh=1:keyint=12"}), ("x.avi", "mpeg4", {"g": "6", "bf": "2"}),
     ("x.webm", "libvpx-vp9", {"g": "9", "lag-in-frames": "8", "auto-alt-ref": "1"}), ("x.y4m", "wrapped_avframe", {})],
)  # fmt: skip
def test_any_frame_is_found(
    tmp_path: Path, moving: Frames, film_file: Make, name: str, codec: str, options: dict[str, str]
) -> None:
    path = film_file(tmp_path / name, moving(64), codec, "yuv420p", options=options)
    film = Film(path)
    whole = list(film.read(0, 64))
    assert len(whole) == 64
    for start in (0, 1, 16, 17, 25, 31, 40, 47, 63):
        assert np.array_equal(next(film.read(start, 64)), whole[start]), start
    assert np.array_equal(np.stack(list(film.read(30, 50))), np.stack(whole[30:50]))


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("x.mkv", "ffv1", "yuv444p10le"), ("x.mp4", "libx264", "yuv444p")]
)
def test_full_and_limited_range_are_one_picture(
    tmp_path: Path, moving: Frames, film_file: Make, name: str, codec: str, pixels: str
) -> None:
    x = moving(2)
    if pixels == "yuv444p":  # 8 bits of each range round colours differently, by up to 4
        x = [np.repeat(frame[..., 1:2], 3, 2) for frame in x]
    full, limited = (
        read(film_file(tmp_path / f"{full}{name}", x, codec, pixels, full=full, options={"crf": "0"})).astype(int)
        for full in (True, False)
    )
    assert np.abs(full - limited).max() <= 2
    assert np.abs(full - np.stack(x)).max() <= 2


def test_a_variable_rate_is_resampled_by_time(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    x = moving(10)
    times = [0, 40, 80, 240, 280, 320, 330, 340, 400, 440]  # a pause of four ticks, and two frames too many
    film = Film(film_file(tmp_path / "x.mkv", x, "ffv1", "bgr0", times=times))
    assert film.notes == ["variable frame rate: resampled to 225/11"]
    assert film.rate == Fraction(9000, 440)
    y = list(film.read(0, len(film.order)))
    for tick, frame in enumerate(y):
        shown = max(i for i, time in enumerate(times) if time < 1000 * (tick + 0.5) / film.rate)
        assert np.array_equal(frame, x[shown])
    assert abs(len(y) / film.rate - Fraction(480, 1000)) <= 1 / film.rate


def test_times_in_milliseconds_are_no_variable_rate(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    film = Film(film_file(tmp_path / "x.mkv", moving(50, 16, 16), "ffv1", "bgr0", Fraction(24000, 1001)))
    assert (film.rate, len(film.order), film.notes) == (Fraction(24000, 1001), 50, [])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [((0, 1, -1, 0), lambda x: np.rot90(x, -1)), ((0, -1, 1, 0), np.rot90), ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
     ((-1, 0, 0, 1), np.fliplr), ((1, 0, 0, -1), np.flipud), ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2))],
    ids=["90", "270", "180", "mirror", "flip", "transpose"],
)  # fmt: skip
def test_films_are_turned_upright(
    tmp_path: Path, moving: Frames, film_file: Make, matrix: tuple[int, ...], expected: Callable[..., np.ndarray]
) -> None:
    path = film_file(tmp_path / "x.mp4", moving(3))
    upright, data = read(path), bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # a b u c d of the display matrix, 16.16
    assert data[at : at + 20] == bytes.fromhex("00010000 00000000 00000000 00000000 00010000")
    a, b, c, d = (n << 16 for n in matrix)
    data[at : at + 20] = b"".join(n.to_bytes(4, signed=True) for n in (a, b, 0, c, d))
    film = Film(bytes(data))
    turned = np.stack(list(film.read(0, 3)))
    assert np.array_equal(turned[1], expected(upright[1]))
    assert film.size == (turned.shape[2], turned.shape[1])
    assert film.notes == []
    halved = read(bytes(data), scale=Fraction(1, 2))
    blocks = turned.reshape(3, turned.shape[1] // 2, 2, turned.shape[2] // 2, 2, 3).sum((2, 4), dtype=int)
    assert np.array_equal(halved, (blocks + 2) // 4)


def test_alpha_is_dropped(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    x = [np.concatenate((frame, np.full((32, 48, 1), 77, np.uint8)), 2) for frame in moving(3)]
    film = Film(film_file(tmp_path / "x.webm", x, "libvpx-vp9", "yuva420p", options={"auto-alt-ref": "0"}))
    assert film.notes == ["alpha dropped"]
    assert psnr(np.stack(x)[..., :3], np.stack(list(film.read(0, 3))), 255.0) > 34
    film = Film(film_file(tmp_path / "x.mkv", x, "ffv1", "bgra"))
    assert film.notes == ["alpha dropped"]
    assert np.array_equal(np.stack(list(film.read(0, 3))), np.stack(x)[..., :3])


def test_one_frame_is_a_film(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    film = Film(film_file(tmp_path / "x.mp4", moving(1)))
    assert (len(film.order), film.rate, film.notes) == (1, 25, [])


@pytest.mark.parametrize(("name", "share"), [("x.mp4", 0.7), ("x.mkv", 0.7), ("x.avi", 0.75)])
def test_of_a_film_that_was_cut_off_the_rest_is_read(
    tmp_path: Path, moving: Frames, film_file: Make, name: str, share: float
) -> None:
    path = film_file(tmp_path / name, moving(60), "mpeg4" if name == "x.avi" else "libx264", "yuv420p")
    if name == "x.mp4":
        path = faststart(path)
    whole = read(path)
    data = path.read_bytes()
    film = Film(data[: int(len(data) * share)])
    n = len(film.times)
    assert 20 < n < 55
    about = "about " if name == "x.mkv" else ""
    assert film.notes[0] == f"truncated file: {n} of {about}60 frames"
    repeated = [f"{len(film.order) - n} missing frames: the one before is repeated"] if len(film.order) > n else []
    assert film.notes[1:] == repeated
    assert np.array_equal(np.stack(list(film.read(0, n)))[:16], whole[:16])


def faststart(path: Path) -> Path:
    import av

    out_path = path.with_name("fast.mp4")
    with av.open(str(path)) as source, av.open(str(out_path), "w", container_options={"movflags": "+faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return out_path


def test_what_is_no_film_is_one_line(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    import av

    whole = film_file(tmp_path / "x.mp4", moving(20)).read_bytes()
    Image.fromarray(moving(1)[0]).save(tmp_path / "x.png")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        silence.sample_rate = 48000
        out.mux([*stream.encode(silence), *stream.encode(None)])
    sources: list[tuple[Path | bytes, str]] = [
        (whole[: len(whole) // 2], r"it ends before its index \(moov\): it was cut off"),
        (whole[:20], "it ends before its index"),
        (b"", "not a film that can be read"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "not a film that can be read"),
        (tmp_path / "x.png", "expected MP4, MOV, Matroska, WebM, AVI or Y4M"),
        (tmp_path / "sound.mp4", "no video stream"),
        (tmp_path / "none.mp4", "none.mp4: no such file"),
    ]
    for source, said in sources:
        with pytest.raises(ValueError, match=said) as error:
            Film(source)
        assert "\n" not in str(error.value)


def test_damage_never_crashes(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    rng = np.random.default_rng(0)
    for name, codec in (("x.mkv", "ffv1"), ("x.mp4", "libx264")):
        whole = film_file(tmp_path / name, moving(8), codec, "bgr0" if codec == "ffv1" else "yuv420p").read_bytes()
        for _ in range(30):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), 3):
                data[at] ^= int(rng.integers(1, 256))
            try:
                film = Film(bytes(data))
                assert sum(1 for _ in film.read(0, len(film.order))) == len(film.order)
            except ValueError as error:
                assert "\n" not in str(error)


def test_a_film_that_changes_is_an_error(tmp_path: Path, moving: Frames, film_file: Make) -> None:
    film = Film(film_file(tmp_path / "x.mkv", moving(12), "ffv1", "bgr0"))
    shutil.copy(film_file(tmp_path / "y.mkv", moving(5), "ffv1", "bgr0"), tmp_path / "x.mkv")
    with pytest.raises(ValueError, match="ends after frame 5; it had 12"):
        list(film.read(0, 12))


def test_limits() -> None:
    check_size((1 << 14, 1 << 14), 8)
    with pytest.raises(ValueError, match="16385 x 16384 pixels; at most"):
        check_size((16385, 16384))
    with pytest.raises(ValueError, match=f"more than 8 frames of 16384 x 16384; at most {MAX_SAMPLES}"):
        check_size((1 << 14, 1 << 14), 9)
