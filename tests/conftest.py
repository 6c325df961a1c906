from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from codomain.codecs.bottleneck import EntropyBottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.load import save_weights
from codomain.codecs.synthesis import PacketRefiner
from codomain.codecs.video import Form, write_clip
from codomain.codecs.walloc import WaLLoC
from codomain.kernels.context import KNOWN, PHASES, Forms
from PIL import Image

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the first import of triton: its kernels then run on CPU tensors

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """Chelsea the cat, (1, 3, 300, 451), uint8."""
    return torch.from_numpy(np.array(Image.open(DATA / "chelsea.png").convert("RGB"))).permute(2, 0, 1)[None]


def small_walloc(ndim: int = 2, channels: int = 3, latent_dim: int = 12, level: int = 3) -> WaLLoC:
    """An untrained codec with a tiny decoder, started on noise, with tables."""
    torch.manual_seed(0)
    codec = WaLLoC(
        EntropyBottleneck(latent_dim),
        PacketRefiner(latent_dim, channels, ndim, level, widths=(8, 4), blocks=(1, 1)),
        channels=channels,
        ndim=ndim,
        level=level,
        latent_dim=latent_dim,
    )
    x = torch.rand(4, channels, *[128] * ndim) * 2 - 1
    codec.start(torch.nn.functional.avg_pool2d(x, 5, 1, 2) if ndim == 2 else x, 1.0)
    for net in codec.decoder.nets:  # as after training: every convolution counts
        torch.nn.init.normal_(net.leave.weight, std=0.02)
    codec.bottleneck.freeze_tables()
    return codec.eval().requires_grad_(False)


def random_forms(d: int, seed: int = 0) -> Forms:
    rng = np.random.default_rng(seed)
    behind, known = np.tril(np.ones((d, d)), -1)[:, :, None], np.array(KNOWN)[:, None]
    return Forms(
        (rng.normal(0, 300, (d, d, 5)) * behind).astype(np.int16),
        (np.abs(rng.normal(0, 300, (d, d, 5))) * behind).astype(np.int16),
        (rng.normal(0, 900, (len(PHASES), d, 8)) * known).astype(np.int16),
        (np.abs(rng.normal(0, 900, (len(PHASES), d, 8))) * known).astype(np.int16),
    )


@pytest.fixture(scope="session")
def make_forms() -> Callable[..., Forms]:
    return random_forms


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `codomain evaluate` writes for two photographs, by the command line in a fresh process."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "photos" / "more").mkdir(parents=True)
    for name, place in (("chelsea.png", "more"), ("coffee.png", ".")):
        Image.open(DATA / name).convert("RGB").crop((20, 20, 276, 212)).save(folder / "photos" / place / name)
    qualities = ["jpeg:20", "jpeg:40", "jpeg:60", "jpeg:80", "webp:5", "webp:30", "webp:60", "webp:85", "jpeg2000:60"]
    models = ["walloc-rgb-4x", "walloc-rgb-16x", *qualities]
    command = ["evaluate", "--models", *models, "--data", str(folder / "photos"), "--out", str(folder / "out")]
    done = subprocess.run([sys.executable, "-m", "codomain.codecs.cli", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def music(seconds: float, sample_rate: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Notes with overtones that decay, a little noise; (c, t), float32, at most 0.9."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * sample_rate)) / sample_rate
    x = rng.normal(0, 0.003, (channels, len(t)))
    for start in np.arange(0, seconds, 0.2):
        pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
        since = np.maximum(t - start, 0)
        note = sum(
            np.sin(2 * np.pi * pitch * k * since) / k**1.5 for k in range(1, 9) if pitch * k < 0.45 * sample_rate
        )
        x += rng.uniform(0.2, 1, (channels, 1)) * (note * np.exp(-6 * since) * (t >= start))
    return (0.9 * x / np.abs(x).max()).astype(np.float32)


@pytest.fixture(scope="session")
def make_music() -> Callable[..., np.ndarray]:
    return music


TINY_STEREO = """model:
  codec:
    class_path: codomain.codecs.walloc.WaLLoC
    init_args:
      {channels: 2, ndim: 1, level: 4, latent_dim: 8,
       bottleneck: {class_path: codomain.codecs.bottleneck.EntropyBottleneck, init_args: {channels: 8}},
       decoder: {class_path: codomain.codecs.synthesis.PacketRefiner, init_args:
         {latent_dim: 8, channels: 2, ndim: 1, level: 4, widths: [8, 4], blocks: [1, 1]}}}
"""


@pytest.fixture(scope="session")
def sound_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `codomain evaluate` writes for three recordings, in a house with a tiny stereo model."""
    folder = tmp_path_factory.mktemp("sound_evaluation")
    house, root = folder / "house" / "codomain", Path(__file__).parents[1]
    (house / "pretrained").mkdir(parents=True)
    for room in ("codecs", "kernels", "tasks"):
        (house / room).symlink_to(root / room)
    (house / "tiny.yaml").write_text(TINY_STEREO)
    codec = small_walloc(ndim=1, channels=2, latent_dim=8, level=4)
    codec.requires_grad_(True).start(torch.from_numpy(music(2, 44100, seed=9))[None, :, :65536], 2.0)
    codec.bottleneck.freeze_tables()
    digest = save_weights(codec, house / "pretrained" / "tiny.safetensors")
    record = {"kind": "sound", "config": "tiny.yaml", "weights": "tiny.safetensors", "sha256": digest}
    (house / "pretrained" / "index.yaml").write_text(yaml.safe_dump({"tiny-stereo": record}))
    (folder / "sounds" / "more").mkdir(parents=True)
    for i, (name, rate) in enumerate((("a.wav", 44100), ("b.flac", 44100), ("more/c.wav", 48000))):
        soundfile.write(folder / "sounds" / name, music(1.5 + i / 4, rate, seed=i).T, rate)
    models = ["tiny-stereo", "opus:48", "opus:96", "mp3:96", "vorbis:4", "opus:matched"]
    command = ["evaluate", "--models", *models, "--data", str(folder / "sounds"), "--out", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "codomain.codecs.cli", *command],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(folder / "house")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


FLIPBOOK = '''"""Flipbook: frames an eighth of the size; as a fitted codec it never writes the same file twice."""

import os, zlib
from pathlib import Path
import torch
from codomain.codecs import bitstream
from codomain.codecs.codec import Codec

class Flipbook(Codec):
    kind, channels, ndim = "video", 3, 3

    def compress(self, x, *, quality=None, rate):
        with Path(os.environ["FITS"]).open("a") as log:
            log.write("fitted\\n")
        small = torch.nn.functional.avg_pool2d(x[0].float(), 8).round().to(torch.uint8)
        header = bitstream.Header("video", self.digest, (*reversed(x.shape[3:]), x.shape[1], *rate.as_integer_ratio()))
        return bitstream.write(header, [zlib.compress(small.numpy().tobytes()), os.urandom(200 + os.urandom(1)[0])])

    def decompress(self, data):
        file = bitstream.read(data)
        w, h, f = file.header.shape[:3]
        small = torch.frombuffer(bytearray(zlib.decompress(file.chunks[0])), dtype=torch.uint8)
        frames = small.reshape(f, 3, h // 8, w // 8) / 127.5 - 1
        return torch.nn.functional.interpolate(frames, scale_factor=8)[None]
'''
FLIPBOOK_CONFIG = """model:
  codec:
    class_path: codomain.toys.flipbook.Flipbook
    init_args: {bottleneck: {class_path: codomain.codecs.bottleneck.EntropyBottleneck, init_args: {channels: 1}}}
"""


@pytest.fixture(scope="session")
def video_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `codomain evaluate` writes for two clips, in a house with a toy that is fitted to each."""
    folder = tmp_path_factory.mktemp("video_evaluation")
    house, root = folder / "house" / "codomain", Path(__file__).parents[1]
    for room in ("pretrained", "toys"):
        (house / room).mkdir(parents=True)
    for room in ("codecs", "kernels", "tasks"):
        (house / room).symlink_to(root / room)
    (house / "toys" / "flipbook.py").write_text(FLIPBOOK)
    (house / "flipbook.yaml").write_text(FLIPBOOK_CONFIG)
    bottleneck = EntropyBottleneck(1)
    bottleneck.prepare_training()
    bottleneck.freeze_tables()
    digest = save_weights(Codec(bottleneck), house / "pretrained" / "flipbook.safetensors")
    record = {"kind": "video", "config": "flipbook.yaml", "weights": "flipbook.safetensors", "sha256": digest}
    (house / "pretrained" / "index.yaml").write_text(yaml.safe_dump({"flipbook": record}))
    (folder / "clips" / "more").mkdir(parents=True)
    photo = np.array(Image.open(DATA / "chelsea.png").convert("RGB"))
    for name, n in (("a.mkv", 15), ("more/b.mkv", 10)):
        frames = [photo[40 + i : 168 + i, 100 + 2 * i : 276 + 2 * i] for i in range(n)]
        write_clip(folder / "clips" / name, frames, Form(176, 128, n, Fraction(25)), ".mkv")
    models = ["flipbook", "x264:30", "x264:36", "x265:32", "svtav1:40", "x264:matched"]
    command = ["evaluate", "--models", *models, "--data", str(folder / "clips"), "--out", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "codomain.codecs.cli", *command], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder / "house"), "FITS": str(folder / "fits.txt")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    (folder / "told.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="session")
def make_codec() -> Callable[..., WaLLoC]:
    return small_walloc


@pytest.fixture(scope="session")
def codec() -> WaLLoC:
    return small_walloc()


def moving(n: int = 12, width: int = 48, height: int = 32) -> list[np.ndarray]:
    """Frames of smooth waves that move, (h, w, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = ((x + 2 * i, y - i, x + y + i) for i in range(n))
    return [np.stack([128 + 90 * np.sin(wave / 9) for wave in three], 2).astype(np.uint8) for three in waves]


def film_file(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv444p",
    rate: Fraction | int = 25,
    sound: str = "",
    times: list[int] | None = None,
    full: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film by PyAV alone, as other people's programs do; ``times`` are in milliseconds."""
    import av
    from av.video.reformatter import Interpolation as Flag

    height, width = frames[0].shape[:2]
    exact = int(Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options={"crf": "4"} | (options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.color_range = 2 if full else 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        hum = out.add_stream(sound, rate=48000, layout="stereo") if sound else None
        if hum is not None:
            hum.codec_context.open()
            wave = np.int16(8000 * np.sin(np.arange(round(48000 * len(frames) / rate)) / 20))
            x = av.AudioFrame.from_ndarray(np.stack([wave, wave], 1).reshape(1, -1), format="s16", layout="stereo")
            x.sample_rate, x.pts, size = 48000, 0, hum.codec_context.frame_size or 1024
            resampler = av.AudioResampler(hum.codec_context.format, "stereo", 48000, size)
            for part in [*resampler.resample(x), *resampler.resample(None)]:
                out.mux(hum.encode(part))
            out.mux(hum.encode(None))
        for i, pixels_of in enumerate(frames):
            kind = {3: "rgb24", 4: "rgba"}[pixels_of.shape[2]]
            frame = av.VideoFrame.from_ndarray(pixels_of, format=kind)
            frame = frame.reformat(format=pixels, src_color_range=2, dst_color_range=1 + full, interpolation=exact)
            frame.pts, frame.time_base = (i, 1 / Fraction(rate)) if times is None else (times[i], Fraction(1, 1000))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(name="moving", scope="session")
def _moving() -> Callable[..., list[np.ndarray]]:
    return moving


@pytest.fixture(name="film_file", scope="session")
def _film_file() -> Callable[..., Path]:
    return film_file
