from __future__ import annotations

import io

import numpy as np
import pytest
from codomain.codecs.contenders import KINDS
from codomain.codecs.plots import COLOURS, rate_distortion, rates, spectrogram
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


def test_rates_have_a_bar_each_and_a_line_at_the_floor() -> None:
    rows = [
        {"operation": "a", "library": "codomain", "rate": 50.0, "unit": "MPix/s", "share": 0.25},
        {"operation": "a", "library": "other", "rate": 5.0, "unit": "MPix/s"},
        {"operation": "b", "library": "codomain", "rate": 3.0, "unit": "MPix/s"},
    ]

    def count(png: bytes) -> list[int]:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[:, 120:]
        return [int((pixels == ImageColor.getrgb(colour)).all(2).sum()) for colour in COLOURS[:2]]

    png = rates(rows, "rates")
    assert png == rates(rows, "rates")
    ours, other = count(png)
    assert ours > 5 * other > 5000
    del rows[0]["share"]
    assert count(rates(rows, "rates"))[1] != other  # the axis no longer reaches to the floor
