from __future__ import annotations

import numpy as np
import pytest
from codomain.codecs.metrics import ms_ssim, psnr
from codomain.codecs.video_metrics import luma_psnr, rgb_psnr, to_luma, video_ms_ssim


def frames(f: int, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(40, 200, (f, -(-h // 8), -(-w // 8), 3)).repeat(8, 1).repeat(8, 2)[:, :h, :w]
    noise = rng.normal(0, 1, x.shape) * np.array([4, 12, 1, 30])[:f, None, None, None]
    return x.astype(np.uint8), (x + noise).clip(0, 255).round().astype(np.uint8)


def test_the_mean_of_decibels_and_not_the_decibels_of_the_mean() -> None:
    x, x_hat = frames(4, 40, 50)
    each = [psnr(a, b, 255.0) for a, b in zip(x, x_hat, strict=True)]
    assert rgb_psnr(x, x_hat) == pytest.approx(np.mean(each), abs=1e-9)
    assert rgb_psnr(x, x_hat) > psnr(x, x_hat, 255.0) + 5
    x_hat[2] = x[2]
    assert rgb_psnr(x, x_hat) == pytest.approx((each[0] + each[1] + 100 + each[3]) / 4)


def test_luma_is_that_of_bt_601() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert to_luma(colours)[0] == pytest.approx([76.245, 149.685, 29.07, 255])
    x = np.full((2, 8, 8, 3), 100, np.uint8)
    x_hat = x + np.array([0, 0, 10], np.uint8)
    assert luma_psnr(x, x_hat) == pytest.approx(20 * np.log10(255 / 1.14))
    assert luma_psnr(x, x) == 100


@pytest.mark.parametrize(("side", "scales"), [(161, 5), (160, 4), (81, 4), (80, 3), (21, 2), (11, 1)])
def test_scales_of_a_size(side: int, scales: int) -> None:
    x, x_hat = frames(2, side, 190)
    expected = np.mean([ms_ssim(a, b, 255.0, scales) for a, b in zip(x, x_hat, strict=True)])
    assert video_ms_ssim(x, x_hat) == pytest.approx(expected, abs=1e-9)
    assert video_ms_ssim(x, x) == pytest.approx(1, abs=1e-6)


def test_too_small_for_a_window() -> None:
    x, x_hat = frames(1, 10, 50)
    with pytest.raises(ValueError, match="MS-SSIM needs sides of at least 11 pixels; found 50 x 10"):
        video_ms_ssim(x, x_hat)
