from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream, video_kind
from codomain.codecs.footage import Footage
from codomain.codecs.kind import Shown
from codomain.codecs.metrics import ms_ssim
from codomain.codecs.video import Form, write_clip
from codomain.codecs.video_baselines import VideoBaseline, codec_of, read_mp4
from codomain.codecs.video_kind import VideoKind
from codomain.codecs.video_metrics import luma_psnr, rgb_psnr

KIND = VideoKind()
RATE = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def pair() -> tuple[Footage, Footage]:
    rng = np.random.default_rng(0)
    base = rng.integers(20, 230, (12, 20, 3)).repeat(8, 0).repeat(8, 1)
    x = np.stack([np.roll(base, 3 * i, 1) for i in range(10)]).astype(np.uint8)
    noisy = (x + rng.normal(0, 6, x.shape)).clip(0, 255).round().astype(np.uint8)
    return Footage(x, RATE), Footage(noisy, RATE)


def test_measured_as_defined(pair: tuple[Footage, Footage]) -> None:
    x, x_hat = pair
    row = KIND.measure(x, x_hat)
    assert (row["width"], row["height"], row["frames"], row["ms_ssim_scales"]) == (160, 96, 10, 4)
    assert row["psnr"] == pytest.approx(rgb_psnr(x.pixels, x_hat.pixels), abs=1e-6)
    assert row["psnr_y"] == pytest.approx(luma_psnr(x.pixels, x_hat.pixels), abs=1e-6)
    each = [ms_ssim(a, b, 255.0, 4) for a, b in zip(x.pixels, x_hat.pixels, strict=True)]
    assert row["ms_ssim"] == pytest.approx(np.mean(each), abs=1e-6)
    assert KIND.rate_of(1000, row) == 8000 / (160 * 96 * 10)
    assert KIND.amount(x) == 10


def test_another_size_is_an_error(pair: tuple[Footage, Footage]) -> None:
    with pytest.raises(ValueError, match="decoded to 9 frames of 160 x 96; the clip has 10 of 160 x 96"):
        KIND.measure(pair[0], Footage(pair[0].pixels[1:], RATE))
    small = Footage(np.zeros((2, 9, 12, 3), np.uint8), RATE)
    row = KIND.measure(small, small)
    lacking = [metric for metric in KIND.metrics if row[metric.key] is None]
    assert KIND.lacks(row, lacking) == "12 x 9 is too small for MS-SSIM"
    assert row["psnr"] == 100


def test_files_and_what_is_handed_on(pair: tuple[Footage, Footage], tmp_path: Path) -> None:
    x, _ = pair
    write_clip(tmp_path / "x.mkv", x.pixels, Form(160, 96, 10, RATE), ".mkv")  # lossless
    KIND.save(tmp_path / "x.npz", KIND.read(tmp_path / "x.mkv"))
    back = KIND.load(tmp_path / "x.npz")
    assert np.array_equal(back.pixels, x.pixels)
    assert back.rate == RATE
    assert {".mp4", ".mkv", ".webm"} < KIND.suffixes


def test_our_codecs_take_and_give_tensors(pair: tuple[Footage, Footage]) -> None:
    class Raw:
        """Keeps samples as they are."""

        def compress(self, x: torch.Tensor, *, quality: float | None = None, rate: Fraction) -> bytes:
            assert (x.shape, x.dtype, quality) == ((1, 10, 3, 96, 160), torch.uint8, 25.0)
            header = bitstream.Header("video", bytes(8), (160, 96, 10, *rate.as_integer_ratio()))
            return bitstream.write(header, [x.numpy().tobytes()])

        def decompress(self, data: bytes) -> torch.Tensor:
            (chunk,) = bitstream.read(data).chunks
            x = torch.frombuffer(bytearray(chunk or b""), dtype=torch.uint8).reshape(1, 10, 3, 96, 160)
            return x / 127.5 - 1

    data = KIND.compress(Raw(), pair[0], 25.0)
    back = KIND.decompress(Raw(), data)
    assert np.array_equal(back.pixels, pair[0].pixels)
    assert back.rate == RATE
    assert KIND.sizes_of(data) == {"stream_bytes": None}


def test_the_page_shows_what_browsers_play(pair: tuple[Footage, Footage], monkeypatch: pytest.MonkeyPatch) -> None:
    x, x_hat = pair

    def file(shown: Shown) -> bytes:
        kind, _, text = shown["src"].partition(";base64,")
        assert kind == "data:video/mp4"
        return base64.b64decode(text)

    for name, as_it_is in (("x264", True), ("x265", False), ("svtav1", True)):
        codec = VideoBaseline(name, 30.0)
        data = codec.compress(x)
        shown = KIND.exhibit(f"{name}:30", x, codec.decompress(data), data, ".mp4")
        assert (file(shown) == data) == as_it_is == (shown["crf"] is None)
        assert shown["n_bytes"] == len(data)
        assert KIND.sizes_of(data)["stream_bytes"] < len(data)
    ours = KIND.exhibit("ours", x, x_hat, b"a cdm file", ".cdm")
    assert (ours["n_bytes"], ours["bpp"], ours["crf"]) == (10, round(80 / (160 * 96 * 10), 5), 8)
    assert ours["psnr"] == pytest.approx(rgb_psnr(x.pixels, x_hat.pixels), abs=1e-3)
    assert codec_of(file(ours)) == "h264"
    monkeypatch.setattr(video_kind, "VERSION", len(file(ours)) // 3)  # a page that would grow too large
    coarser = KIND.exhibit("ours", x, x_hat, b"a cdm file", ".cdm")
    assert coarser["crf"] > 8
    assert len(file(coarser)) <= len(file(ours)) // 3
    assert KIND.exhibit("same", x, x, b"1", ".cdm")["psnr"] is None
    odd = Footage(x.pixels[:, :95, :151].copy(), RATE)
    assert read_mp4(file(KIND.exhibit("original", odd, odd, None, ""))).pixels.shape == (10, 96, 152, 3)
    assert KIND.extent(odd) == {"width": 151, "height": 95, "frames": 10, "fps": 30000 / 1001}


def test_a_page_that_would_grow_too_large_shows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Shown] = [{"versions": [{"src": "x" * 100}] * 2} for _ in range(4)]
    for budget, kept in ((800, 4), (799, 3), (10, 1)):
        monkeypatch.setattr(video_kind, "BUDGET", budget)
        assert len(KIND.fitted(shown)) == kept
