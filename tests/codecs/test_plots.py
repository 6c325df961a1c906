from __future__ import annotations

import io

import numpy as np
import pytest
from codomain.codecs.contenders import KINDS
from codomain.codecs.plots import COLOURS, rate_distortion, spectrogram
from PIL import Image, ImageColor

IMAGE = KINDS["image"]
POINTS = [
    {"name": "ours", "bpp": 0.5, "psnr": 31.0, "ms_ssim": 0.97},
    *({"name": "jpeg", "bpp": r, "psnr": q, "ms_ssim": None} for r, q in ((0.2, 26.0), (0.6, 30.5), (1.2, 34.0))),
]


def test_curves_are_drawn_and_the_same_points_give_the_same_bytes() -> None:
    png = rate_distortion(IMAGE, POINTS, "psnr", "Two", "png")
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    for colour in COLOURS[:2]:
        assert (pixels == ImageColor.getrgb(colour)).all(2).sum() > 100
    assert png == rate_distortion(IMAGE, POINTS, "psnr", "Two", "png")
    svg = rate_distortion(IMAGE, POINTS, "psnr", "Two", "svg")
    assert svg == rate_distortion(IMAGE, POINTS, "psnr", "Two", "svg")
    assert all(colour.lower().encode() in svg for colour in COLOURS[:2])


def test_a_metric_that_some_lack() -> None:
    svg = rate_distortion(IMAGE, POINTS, "ms_ssim", "One", "svg")
    assert COLOURS[0].lower().encode() in svg
    assert COLOURS[1].lower().encode() not in svg


def test_a_spectrogram_shows_a_tone_where_it_is() -> None:
    rate, t = 16000, np.arange(16000) / 16000
    x = np.where(t < 0.5, np.sin(2 * np.pi * 6000 * t), 0)[None].repeat(2, 0).astype(np.float32)
    with Image.open(io.BytesIO(spectrogram(x, rate))) as image:
        light = np.asarray(image.convert("L")).astype(float)
    height, width = light.shape
    assert light[:, : width // 3].mean(1).argmax() == pytest.approx((1 - 6 / 8) * height, abs=3)  # 0 Hz lies below
    assert light[: height // 2, 2 * width // 3 :].max() < 20  # then silence
    with Image.open(io.BytesIO(spectrogram(x[:, :10], rate))) as image:
        assert image.height == height  # of next to nothing, too
