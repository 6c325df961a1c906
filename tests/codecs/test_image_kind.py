from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.image_kind import ImageKind, read_picture, to_compressai
from codomain.codecs.metrics import psnr
from PIL import Image

DATA = Path(__file__).parents[1] / "data"
KIND = ImageKind()


def test_what_is_handed_on_comes_back(tmp_path: Path) -> None:
    x = read_picture(DATA / "chelsea.png")
    x_hat = np.random.default_rng(0).uniform(-1, 256, x.shape).astype(np.float32)
    for value in (x, x_hat):
        KIND.save(tmp_path / "x.npy", value)
        assert np.array_equal(KIND.load(tmp_path / "x.npy"), value)
    KIND.save(tmp_path / "x.npy", x)
    assert np.array_equal(KIND.read(tmp_path / "x.npy"), x)
    assert KIND.amount(x) == 300 * 451 / 1e6


def test_measured_as_8_bit_rgb_and_before_rounding() -> None:
    x = read_picture(DATA / "chelsea.png")
    x_hat = x + np.random.default_rng(0).normal(0, 3, x.shape)
    row, exact = KIND.measure(x, x_hat), KIND.measure(x, x_hat.clip(0, 255).round().astype(np.uint8))
    assert (row["width"], row["height"]) == (451, 300)
    assert row["psnr_float"] == pytest.approx(psnr(x, x_hat, 255.0), abs=1e-6)
    assert exact["psnr_float"] is None
    assert exact["psnr"] == row["psnr"] == pytest.approx(row["psnr_float"], abs=0.1)
    assert KIND.rate_of(1000, row) == 8000 / (300 * 451)


def test_what_a_picture_is_too_small_for() -> None:
    row = KIND.measure(np.zeros((9, 12, 3), np.uint8), np.ones((9, 12, 3), np.uint8))
    lacking = [metric for metric in KIND.metrics if metric.needed and metric.key in row and row[metric.key] is None]
    assert KIND.lacks(row, lacking) == "12 x 9 is too small for SSIM, MS-SSIM, HaarPSI"


def test_the_page_shows_pixels() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    shown = KIND.exhibit("ours", x, x + 0.2, b"12345", ".cdm")
    assert (shown["n_bytes"], shown["bpp"], shown["lossless"]) == (5, round(40 / 600, 4), True)
    with Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2]))) as image:
        assert np.array_equal(np.asarray(image), x)
    own = KIND.exhibit("jpeg:30", x, x, b"its own bytes", ".jpg")
    assert own["src"] == "data:image/jpeg;base64," + base64.b64encode(b"its own bytes").decode()
    assert KIND.extent(x) == {"width": 30, "height": 20}


def test_exports_for_compressai() -> None:
    curve = [{"psnr": 30.0, "ms_ssim": 0.9, "bpp": 0.5, "encode_mpix_s": 4.0}]
    (path,) = KIND.exports({"jpeg": curve}, "photos")
    assert path == "compressai/jpeg.json"
    found = json.loads(to_compressai("jpeg", curve, "photos"))["results"]
    assert found == {"psnr-rgb": [30.0], "ms-ssim-rgb": [0.9], "bpp": [0.5], "encoding_time": [0.25]}
