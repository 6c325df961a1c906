from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream
from codomain.codecs.bitstream import AUDIO
from codomain.codecs.cli import main
from codomain.codecs.coder import BitstreamError
from codomain.codecs.load import load
from codomain.codecs.metrics import psnr
from codomain.codecs.nerv_codec import NervCodec
from codomain.codecs.progress import Bar
from codomain.codecs.segments import plan_of
from codomain.codecs.target import Target
from codomain.codecs.video import Form, open_clip, write_clip
from codomain.codecs.video_files import Span, Wanted, check_integers, decode_video, encode_video, read_mask
from PIL import Image

RUN = [sys.executable, "-m", "codomain.codecs.cli"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
Frames = Callable[..., list[np.ndarray]]
Film = Callable[..., Path]


def codec(name: str = "hnerv-boost") -> NervCodec:
    torch.set_num_threads(1)
    found = load(name)
    assert isinstance(found, NervCodec)
    return found


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory, moving: Frames, film_file: Film) -> Path:
    """The file of a film with sound, made by the command line in a fresh process; the film lies beside it."""
    folder = tmp_path_factory.mktemp("film")
    film_file(folder / "clip.mp4", moving(24), rate=Fraction(30000, 1001), sound="aac")
    command = [*RUN, "encode", "clip.mp4", "--model", "hnerv-boost", "--size", "19k", "--time", "6s"]
    subprocess.run(command, cwd=folder, check=True, timeout=120, env=ALONE)
    return folder / "clip.cdm"


def pixels(path: Path) -> np.ndarray:
    return np.stack(list(open_clip(path).frames()))


def test_a_film_there_and_back_in_fresh_processes(coded: Path, tmp_path: Path) -> None:
    assert [p.name for p in coded.parent.iterdir() if p.name.startswith("clip.cdm")] == ["clip.cdm"]
    assert 18300 < coded.stat().st_size <= 19000
    subprocess.run([*RUN, "decode", str(coded), str(tmp_path)], check=True, timeout=120, env=ALONE)
    source, back = open_clip(coded.with_name("clip.mp4")), open_clip(tmp_path / "clip.mp4")
    assert (back.form.rate, back.form.frames, back.form.width) == (Fraction(30000, 1001), 24, 48)
    assert source.audio is not None
    assert back.audio is not None
    x = pixels(coded.with_name("clip.mp4"))
    assert psnr(x, pixels(tmp_path / "clip.mp4"), 255.0) > 16


def test_frames_alone_are_those_of_the_whole(coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def decode(name: str, *options: str) -> np.ndarray:
        assert main(["decode", str(coded), str(tmp_path / name), *options]) == 0
        return pixels(tmp_path / name)

    def same(found: np.ndarray, expected: np.ndarray) -> None:  # sums are in another order where fewer are decoded
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 1

    whole = decode("whole.mkv")
    same(decode("part.mkv", "--frames", "10:14"), whole[10:14])
    same(decode("one", "--frames", "23"), whole[23:])
    same(decode("second.mkv", "--start", "0.2", "--stop", "0.4"), whole[6:12])
    assert open_clip(tmp_path / "part.mkv").audio is None
    double = decode("double.mkv", "--fps", "60000/1001")
    assert len(double) == 48
    same(double[::2], whole)
    between = (whole[:-1].astype(float) + whole[1:]) / 2
    assert psnr(between, double[1:-1:2].astype(float), 255.0) > 25
    assert open_clip(tmp_path / "double.mkv").audio is not None
    capsys.readouterr()
    for options, message in (
        (["--frames", "20:25"], "expected frames within 0:24, at 29.97 a second; found 20:25"),
        (["--frames", "1:2", "--start", "0"], "not both"),
        (["--format", "wav", "--frames", "9:9"], "found 9:9"),
    ):
        assert main(["decode", str(coded), str(tmp_path / "x.mp4"), *options]) == 1
        assert message in capsys.readouterr().err
    for expected in (0, 1):
        assert main(["decode", str(coded), str(tmp_path), "--format", "png"]) == expected
    assert len(pixels(tmp_path / "clip")) == 24
    assert "--force replaces its frames" in capsys.readouterr().err
    assert main(["decode", str(coded), str(tmp_path / "x.png.wav")]) == 1
    assert ".wav: video is written as one of .mp4 .mkv .y4m, or a folder" in capsys.readouterr().err


def test_info_and_verify(coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(coded)]) == 0
    shown = capsys.readouterr().out
    assert "boosted sine of 20 numbers per 8 frames, 4 x 6 times 2-2, channels" in shown
    assert "0:24, " in shown
    assert main(["verify", str(coded)]) == 0
    data = bytearray(coded.read_bytes())
    data[-9] ^= 4
    damaged = tmp_path / "damaged.cdm"
    damaged.write_bytes(data)
    assert main(["verify", str(damaged)]) == 1
    assert main(["decode", str(damaged)]) == 1
    assert not damaged.with_suffix(".mp4").exists()
    assert main(["decode", str(damaged), "--salvage"]) == 0
    assert len(np.unique(pixels(damaged.with_suffix(".mp4")))) == 1


def test_frames_are_decoded_ahead_by_a_thread_that_ends(coded: Path) -> None:
    data, before = coded.read_bytes(), threading.active_count()
    frames = decode_video(data, Span()).frames
    first = next(frames)
    assert threading.active_count() == before + 1
    frames.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    np.testing.assert_allclose(first.astype(int), next(decode_video(data, Span(0, 1)).frames), atol=1)


class Impatient(Bar):
    """Interrupts after so many passes over the frames."""

    def __init__(self, passes: int) -> None:
        super().__init__(1)
        self.left = passes

    def tell(self, share: float, text: str) -> None:
        self.left -= 1
        self.told = text
        if not self.left:
            raise KeyboardInterrupt


def test_an_interrupt_leaves_the_segments_so_far_and_the_running_one(
    tmp_path: Path, moving: Frames, film_file: Film
) -> None:
    film = film_file(tmp_path / "clip.mp4", [*moving(10), *(255 - x for x in moving(10))])
    wanted, target = Wanted(target=Target("bytes", 5000.0), seconds=2.0), tmp_path / "clip.cdm"
    bar = Impatient(3)
    early = encode_video(film, codec(), wanted, bar, target)
    assert bar.told.endswith("s left")
    assert early.interrupted
    assert early.form.frames + early.lacking == 20
    assert len(early.data) <= 5000
    file = bitstream.read(early.data)
    check_integers(file)
    x_hat = np.stack(list(decode_video(early.data, Span()).frames))
    assert x_hat.shape == (early.form.frames, 32, 48, 3)
    state = tmp_path / "clip.cdm.partial.safetensors"
    assert state.exists()
    with pytest.raises(ValueError, match=r"another encoding .it differs in size"):
        encode_video(film, codec(), Wanted(target=Target("bytes", 5100.0), seconds=2.0), Bar(1), target)
    whole = encode_video(film, codec(), wanted, Bar(1), target)
    assert (whole.lacking, whole.interrupted, state.exists()) == (0, False, True)
    assert whole.form.frames == 20
    again = encode_video(film, codec(), wanted, Bar(1), target)  # of a process that ended before the file was written
    assert again.data == whole.data
    assert again.checkpoint is not None
    again.checkpoint.remove()
    assert not state.exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_ended_leaves_what_is_needed_to_go_on(
    tmp_path: Path, moving: Frames, film_file: Film, stop: signal.Signals
) -> None:
    film_file(tmp_path / "clip.mp4", moving(18))
    command = [*RUN, "encode", "clip.mp4", "--model", "nirvana", "--size", "5k", "--time", "12"]
    running = subprocess.Popen(
        command, cwd=tmp_path, env=ALONE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )  # fmt: skip
    state, coded = tmp_path / "clip.cdm.partial.safetensors", tmp_path / "clip.cdm"
    until = time.monotonic() + 100
    while not state.exists() and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(stop)
    _, error = running.communicate(timeout=100)
    assert state.exists()
    if stop == signal.SIGINT:
        assert running.returncode == 130
        assert error.splitlines()[-1].startswith("codomain: interrupted: clip.cdm holds ")
        assert error.endswith("of 18 frames as they were then; with --force it goes on\n")
        frames = bitstream.read(coded.read_bytes()).header.shape[2]
        assert frames in (9, 18)
        decode = [*RUN, "decode", "clip.cdm", "back.mkv"]
        subprocess.run(decode, cwd=tmp_path, env=ALONE, check=True, timeout=100)
        assert pixels(tmp_path / "back.mkv").shape == (frames, 32, 48, 3)
    else:
        assert running.returncode == -signal.SIGKILL
        assert not coded.exists()
    subprocess.run([*command, "--force"], cwd=tmp_path, env=ALONE, check=True, timeout=100)
    assert not state.exists()
    file = bitstream.read(coded.read_bytes())
    assert file.header.shape[2] == 18
    assert [s.chained for s in plan_of(file).segments] == [False, True]
    assert coded.stat().st_size <= 5000
    assert main(["verify", str(coded)]) == 0


def test_a_mask_leaves_its_black_to_chance(tmp_path: Path, moving: Frames) -> None:
    rng = np.random.default_rng(0)
    frames = moving(6)
    for x in frames:
        x[:, 24:] = rng.integers(0, 256, (32, 24, 3))
    write_clip(tmp_path / "noise.mkv", frames, Form(48, 32, 6, Fraction(25)), ".mkv")
    mask = np.zeros((32, 48), np.uint8)
    mask[:, :24] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = []
    for path in (None, tmp_path / "mask.png"):
        wanted = Wanted(target=Target("bytes", 4000.0), seconds=3.0, mask=path)
        data = encode_video(tmp_path / "noise.mkv", codec(), wanted, Bar(1)).data
        x_hat = np.stack(list(decode_video(data, Span()).frames))
        found.append(psnr(np.stack(frames)[:, :, :24], x_hat[:, :, :24], 255.0))
    assert found[1] > found[0] + 1
    form = Form(47, 32, 6, Fraction(25))
    with pytest.raises(ValueError, match=r"mask.png is 48 x 32; the frames are 47 x 32"):
        read_mask(tmp_path / "mask.png", form)
    Image.new("L", (47, 32)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="is black"):
        read_mask(tmp_path / "mask.png", form)


def test_odd_sizes_a_single_frame_and_folders(tmp_path: Path, moving: Frames) -> None:
    folder = tmp_path / "take"
    write_clip(folder, moving(1, 37, 23), Form(37, 23, 1, Fraction(25)), "")
    assert main(["encode", str(folder), "--model", "nerv-boost", "--size", "4k", "--time", "1", "--scale", "0.9"]) == 0
    assert main(["decode", str(tmp_path / "take.cdm"), str(tmp_path / "back.mkv")]) == 0
    assert pixels(tmp_path / "back.mkv").shape == (1, 21, 33, 3)
    assert main(["verify", str(tmp_path / "take.cdm")]) == 0


def test_films_that_cannot_be(
    tmp_path: Path, moving: Frames, film_file: Film, capsys: pytest.CaptureFixture[str]
) -> None:
    film = film_file(tmp_path / "clip.mp4", moving(24), sound="aac")
    whole, cut = film.read_bytes(), tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    for name, options, message in (
        ("clip.mp4", ["--size", "3k"], "3000 bytes are too few: sound and the like alone need"),
        ("clip.mp4", ["--size", "16000"], "bytes are too few for 1 frames of this size; expected"),
        ("clip.mp4", ["--target-psnr", "30"], "videos have no target in psnr"),
        ("clip.mp4", ["--time", "0"], "--time is above 0; found 0 s"),
        ("clip.mp4", ["--scale", "2"], "expected a scale above 0 and at most 1; found 2"),
        ("cut.mp4", [], "cut.mp4: "),
    ):
        assert main(["encode", str(tmp_path / name), *options]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert message in lines[0]
        assert lines[1:] == ["codomain: 1 of 1 failed"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "cut.mp4"]


def test_a_folder_says_how_long_its_films_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.mp4", "b.mkv"):
        (tmp_path / name).write_bytes(b"no film")
    for options, told in (([], "10 minutes each, 20 in all"), (["--time", "45s"], "0.75 minutes each, 1.5 in all")):
        assert main(["encode", str(tmp_path), *options]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == f"codomain: 2 of 2 files are films: {told}; see --time"
        assert lines[-1] == "codomain: 2 of 2 failed"


def test_spans_count_frames_by_duration() -> None:
    assert Span(2, 5).times(9, Fraction(25)) == [2.0, 3.0, 4.0]
    assert Span(rate=Fraction(50)).times(3, Fraction(25)) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert Span(rate=Fraction(10)).times(10, Fraction(25)) == [0.0, 2.5, 5.0, 7.5]
    assert Span(start_s=1.0).times(30, Fraction(25)) == [25.0, 26.0, 27.0, 28.0, 29.0]
    with pytest.raises(ValueError, match="found 4:12"):
        Span(4, 12).times(9, Fraction(25))


def test_only_the_segments_that_are_needed_are_read(tmp_path: Path, moving: Frames) -> None:
    write_clip(tmp_path / "a.mkv", moving(18), Form(48, 32, 18, Fraction(25)), ".mkv")
    wanted = Wanted(target=Target("bytes", 5000.0), seconds=1.5)
    data = encode_video(tmp_path / "a.mkv", codec("nirvana"), wanted, Bar(1)).data
    decoded = decode_video(data, Span(5, 7))
    assert [chunk is None for chunk in decoded.file.chunks] == [False, False, True]
    assert AUDIO not in decoded.file.sections
    whole = np.stack(list(decode_video(data, Span()).frames))
    np.testing.assert_allclose(np.stack(list(decoded.frames)).astype(int), whole[5:7], atol=1)  # sums in another order
    with pytest.raises(BitstreamError):
        decode_video(data[:-9], Span())
