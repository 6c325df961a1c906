from __future__ import annotations

import io

import numpy as np
from codomain.codecs.contenders import KINDS
from codomain.codecs.plots import COLOURS, rate_distortion, rates
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
