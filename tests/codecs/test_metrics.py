from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.metrics import bd_rate, bpp, haarpsi, ms_ssim, ms_ssim_scales, psnr, ssim
from PIL import Image

CHELSEA = Path(__file__).parents[1] / "data" / "chelsea.png"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    path = tmp_path_factory.mktemp("pair") / "x.jpg"
    with Image.open(CHELSEA) as image:
        image.convert("RGB").save(path, quality=25)
        return np.asarray(image.convert("RGB")), np.asarray(Image.open(path))


def test_psnr_of_a_known_error() -> None:
    x = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(x, x + 10, 255.0) == pytest.approx(20 * np.log10(25.5))
    assert psnr(x, x, 255.0) == float("inf")
    assert psnr(x.astype(np.uint8), np.full_like(x, 90), 255.0) == pytest.approx(20 * np.log10(25.5))  # no wrap-around


def test_ssim_of_the_paper(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, x_hat = (v[:255, :255].astype(np.float64) for v in pair)  # averaged down by round(255 / 256): not at all
    expected = np.mean([_ssim(x[..., c], x_hat[..., c])[0] for c in range(3)])
    assert ssim(*(v.astype(np.uint8) for v in (x, x_hat)), 255.0) == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_of_the_paper(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Wang, Simoncelli, Bovik 2003, equation 7; sides of 16 n, so that nothing is padded."""
    x, x_hat = (v[:288, :448] for v in pair)
    scores = []
    for c in range(3):
        a, b, score = x[..., c].astype(np.float64), x_hat[..., c].astype(np.float64), 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            score *= _ssim(a, b)[0 if scale == 4 else 1] ** weight
            a, b = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean((1, 3)) for v in (a, b))
        scores.append(score)
    assert ms_ssim(x, x_hat, 255.0) == pytest.approx(np.mean(scores), abs=1e-4)


def test_fewer_scales_for_small_pictures(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, x_hat = pair
    assert ms_ssim(x, x_hat, 255.0, 1) == pytest.approx(ssim(x, x_hat, 255.0), abs=2e-4)  # which averages nothing here
    scores = [ms_ssim(x, x_hat, 255.0, scales) for scales in range(1, 6)]
    assert scores == sorted(scores)  # the coarser, the less is seen of noise
    assert [ms_ssim_scales(h, 500) for h in (10, 11, 21, 41, 80, 81, 160, 161, 900)] == [0, 1, 2, 3, 3, 4, 4, 5, 5]


def test_haarpsi_of_the_paper(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Its definition, in numpy: Reisenhofer et al. 2018, equations 10 to 13, C = 30, alpha = 4.2."""
    x, x_hat = (_luma_and_chroma(v) for v in pair)
    similarities, weights = [], []
    for axis in (0, 1):
        magnitudes = [[np.abs(_haar(v[0], scale, axis)) for scale in (1, 2, 3)] for v in (x, x_hat)]
        weights.append(np.maximum(magnitudes[0][2], magnitudes[1][2]))
        similarities.append(np.mean([_similarity(magnitudes[0][s], magnitudes[1][s]) for s in (0, 1)], axis=0))
    chroma = [[np.abs(_mean2(v[i])) for i in (1, 2)] for v in (x, x_hat)]
    similarities.append(np.mean([_similarity(chroma[0][i], chroma[1][i]) for i in (0, 1)], axis=0))
    weights.append(np.mean(weights, axis=0))
    squashed = 1 / (1 + np.exp(-4.2 * np.array(similarities)))
    score = (squashed * weights).sum() / np.sum(weights)
    assert haarpsi(*pair, 255.0) == pytest.approx((np.log(score / (1 - score)) / 4.2) ** 2, abs=1e-4)


def test_equal_pictures_score_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for metric in (ssim, ms_ssim, haarpsi):
        assert metric(pair[0], pair[0], 255.0) == pytest.approx(1, abs=1e-5)  # of float32 sums
        assert metric(*pair, 255.0) < 0.995


def test_small_pictures_are_refused() -> None:
    x = np.zeros((10, 160, 3), np.uint8)
    for metric, least in ((ssim, 11), (ms_ssim, 161), (haarpsi, 16)):
        with pytest.raises(ValueError, match=f"at least {least} pixels; found 160 x 10"):
            metric(x, x, 255.0)


def test_bpp_counts_the_whole_file() -> None:
    assert bpp(1000, 100, 40) == 2.0


CURVE = [(0.25, 27.0), (0.5, 30.0), (0.75, 31.9), (1.0, 33.1), (1.5, 35.4)]


def test_bd_rate_of_known_curves() -> None:
    assert bd_rate(CURVE, CURVE).percent == pytest.approx(0, abs=1e-9)
    cheaper = bd_rate(CURVE, [(0.9 * rate, quality) for rate, quality in reversed(CURVE)])
    assert cheaper.percent == pytest.approx(-10, abs=1e-6)
    assert (cheaper.low, cheaper.high, cheaper.points) == (27.0, 35.4, (5, 5))


def test_bd_rate_needs_points_and_a_shared_interval() -> None:
    with pytest.raises(ValueError, match="needs 4 points; the tested curve has 3"):
        bd_rate(CURVE, CURVE[:3])
    with pytest.raises(ValueError, match=r"share no quality: 27 to 35\.4 and 47 to 55\.4"):
        bd_rate(CURVE, [(rate, quality + 20) for rate, quality in CURVE])


def _ssim(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean SSIM, and its contrast and structure alone: Wang et al. 2004, equations 12 and 13, Gaussian window."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(v: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            v = np.apply_along_axis(np.convolve, axis, v, taps, "valid")
        return v

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    structure = (2 * cov + c2) / (vx + vy + c2)
    return float(((2 * mx * my + c1) / (mx**2 + my**2 + c1) * structure).mean()), float(structure.mean())


def _luma_and_chroma(x: np.ndarray) -> list[np.ndarray]:
    rgb = x.astype(np.float64)
    rows = ([0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112])
    planes = [rgb @ np.array(row) for row in rows]
    return [_mean2(plane)[::2, ::2] for plane in planes]


def _mean2(plane: np.ndarray) -> np.ndarray:
    padded = np.pad(plane, ((0, 1), (0, 1)))
    return (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]) / 4


def _haar(plane: np.ndarray, scale: int, axis: int) -> np.ndarray:
    side = 2**scale
    signs = np.repeat([1.0, -1.0], side // 2) / side
    kernel = np.outer(signs, np.full(side, 1.0)) if axis == 0 else np.outer(np.full(side, 1.0), signs)
    padded = np.pad(plane, (side // 2 - 1, side // 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return np.einsum("ijkl,kl->ij", windows, kernel)


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (2 * a * b + 30) / (a**2 + b**2 + 30)
