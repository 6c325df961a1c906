from __future__ import annotations

import io
import re
from fractions import Fraction

import av
import numpy as np
import pytest
from codomain.codecs.contenders import Matched, label, parse
from codomain.codecs.footage import Footage
from codomain.codecs.video_baselines import (
    SCALES,
    VideoBaseline,
    codec_of,
    is_installed,
    stream_bytes,
    video_baseline,
    write_mp4,
)
from codomain.codecs.video_metrics import rgb_psnr

INSTALLED = [name for name in SCALES if is_installed(name)]


def moving(f: int = 12, h: int = 96, w: int = 128, rate: Fraction = Fraction(30000, 1001)) -> Footage:
    """Smooth patches that move, with a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:h, :w]
    frames = [
        np.stack([127 + 60 * np.sin((x + 2 * i) / (9 + c)) * np.cos((y - i) / (7 + 2 * c)) for c in range(3)], -1)
        for i in range(f)
    ]
    return Footage((np.stack(frames) + rng.normal(0, 4, (f, h, w, 3))).clip(0, 255).astype(np.uint8), rate)


def test_all_are_there() -> None:
    assert INSTALLED == ["x264", "x264-psnr", "x264-psnr-gop1s", "x265", "x265-psnr", "svtav1"]


@pytest.mark.parametrize("name", INSTALLED)
def test_quality_costs_bytes_and_pays(name: str) -> None:
    x = moving()
    sizes, quality = [], []
    for crf in (44, 36, 28):
        codec = parse(f"{name}:{crf}")
        assert (label(codec), codec.threads, codec.slow) == (f"{name}:{crf}", 1, True)
        data = codec.compress(x)
        x_hat = codec.decompress(data)
        assert (x_hat.pixels.shape, x_hat.pixels.dtype, x_hat.rate) == (x.pixels.shape, np.uint8, x.rate)
        sizes.append(len(data))
        quality.append(rgb_psnr(x.pixels, x_hat.pixels))
    assert sizes == sorted(set(sizes))
    assert quality == sorted(set(quality))
    assert quality[-1] > 32
    assert codec.compress(x) == data  # the same bytes again
    assert re.search(r"lib(x264|x265|svtav1)$", codec.version)


@pytest.mark.parametrize("name", ["x264", "x265"])
def test_tuned_for_psnr(name: str) -> None:
    """At the same bytes, that is: the scales of CRF differ."""
    x = moving(24)
    points = {}
    for tuned in (name, f"{name}-psnr"):
        files = [VideoBaseline(tuned, float(crf)).compress(x) for crf in (34, 30, 26)]
        quality = [rgb_psnr(x.pixels, VideoBaseline(tuned, 0.0).decompress(data).pixels) for data in files]
        points[tuned] = np.interp(np.log(3500), np.log([len(data) for data in files]), quality)
    assert points[f"{name}-psnr"] - points[name] > {"x264": 0.1, "x265": -0.5}[name]
    assert VideoBaseline(f"{name}-psnr", 30.0).compress(x) != VideoBaseline(name, 30.0).compress(x)


@pytest.mark.parametrize("name", INSTALLED)
def test_key_frames_and_the_bytes_of_the_stream(name: str) -> None:
    data = VideoBaseline(name, 30.0).compress(moving(40, rate=Fraction(15)))
    with av.open(io.BytesIO(data)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        assert len(packets) == 40
        assert [packet.is_keyframe for packet in packets].count(True) == (3 if name.endswith("gop1s") else 1)
        assert stream_bytes(data) == sum(packet.size for packet in packets)
        context = file.streams.video[0].codec_context
        assert (context.pix_fmt, context.color_range) == ("yuv420p", 1)
        assert context.colorspace == 6  # H.273's BT.601, as players assume of this size
    assert 500 < len(data) - stream_bytes(data) < 3000
    assert codec_of(data) == {"x264": "h264", "x265": "hevc", "svta": "av1"}[name[:4]]


def test_colours_come_back() -> None:
    x = np.zeros((2, 64, 64, 3), np.uint8)
    for i, colour in enumerate(((250, 10, 10), (10, 250, 10), (10, 10, 250), (255, 255, 255))):
        x[:, :, 16 * i : 16 * (i + 1)] = colour
    x_hat = VideoBaseline("x264", 1.0).decompress(VideoBaseline("x264", 1.0).compress(Footage(x, Fraction(25)))).pixels
    centre = (slice(None), slice(None), [4, 24, 40, 60])
    assert np.abs(x_hat[centre].astype(int) - x[centre]).max() <= 5


def test_sizes() -> None:
    assert VideoBaseline("svtav1", 40.0).decompress(
        VideoBaseline("svtav1", 40.0).compress(moving(3, 65, 71))
    ).pixels.shape == (3, 65, 71, 3)
    assert VideoBaseline("x264", 40.0).decompress(VideoBaseline("x264", 40.0).compress(moving(1))).pixels.shape[0] == 1
    for name in ("x264-psnr", "x265"):
        with pytest.raises(ValueError, match=f"{name} codes even sides in 4:2:0; found 71 x 66"):
            VideoBaseline(name, 30.0).compress(moving(2, 66, 71))
    with pytest.raises(ValueError, match="x265 is tested from 64 x 64 on; found 128 x 62"):
        VideoBaseline("x265", 30.0).compress(moving(2, 62, 128))
    with pytest.raises(ValueError, match="libx264 takes no 1 frames of 47 x 32"):
        write_mp4(moving(1, 32, 47), "libx264", {})


@pytest.mark.parametrize(("text", "low", "high"), [("x264:0.5", 51, 1), ("x265:29.55", 51, 1), ("svtav1:64", 63, 1)])
def test_qualities_off_the_scale(text: str, low: int, high: int) -> None:
    name = text.partition(":")[0]
    with pytest.raises(ValueError, match=rf"'{text}': expected {name}:{low} to {name}:{high}"):
        parse(text)


def test_at_the_bytes_of_another() -> None:
    x = moving()
    matched = parse("x264@svtav1:40")
    assert isinstance(matched, Matched)
    for n_bytes in (4000, 7000):
        data = matched.within(x, n_bytes)
        assert 0.95 * n_bytes < len(data) <= n_bytes
        assert matched.decompress(data).pixels.shape == x.pixels.shape
    assert len(matched.within(x, 5)) == len(VideoBaseline("x264", 51.0).compress(x))  # the smallest there is


def test_a_codec_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codomain.codecs.video_baselines.is_installed", lambda name: False)
    with pytest.raises(ValueError, match="'x265:30': x265 is not installed"):
        video_baseline("x265", 30.0)
