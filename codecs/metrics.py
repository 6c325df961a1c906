"""Metrics: the only definitions of quality and rate.

Pictures are (h, w, 3), uint8 or float in [0, peak]; every metric is of one picture, and means are taken over pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

WINDOW = 11  # pixels of SSIM's
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of its scales, the finest first


def psnr(x: Shaped[np.ndarray, "*shape"], x_hat: Shaped[np.ndarray, "*shape"], peak: float) -> float:
    """Peak signal-to-noise ratio in dB over all samples of one signal; infinite where they are equal."""
    mse = float(np.square(x.astype(np.float64) - x_hat.astype(np.float64)).mean())
    return float("inf") if mse == 0 else float(10 * np.log10(peak**2 / mse))


def ssim(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float) -> float:
    """Structural similarity as `piq.ssim`, mean over channels.

    Pictures are averaged down by round(min(h, w) / 256) first, as Wang et al. 2004 propose.

    Raises:
        ValueError: if a side is shorter than the window, 11.
    """
    import piq

    _check_sides(x, WINDOW, "SSIM")
    return float(piq.ssim(_to_planes(x), _to_planes(x_hat), data_range=peak))


def ms_ssim(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float, scales: int = 5) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003) as pytorch-msssim, which CompressAI reports.

    Args:
        x, x_hat: pictures.
        peak: largest sample.
        scales: at most five; fewer are the finest, as `piq.multi_scale_ssim`, with their weights scaled to the sum of
            all. Values of different numbers of scales are not to be compared.

    Raises:
        ValueError: if a side is shorter than the window at the coarsest scale: 161 of five.
    """
    _check_sides(x, _ms_ssim_side(scales), "MS-SSIM")
    if scales == len(MS_SSIM_WEIGHTS):
        import pytorch_msssim

        return float(pytorch_msssim.ms_ssim(_to_planes(x), _to_planes(x_hat), data_range=peak))
    import piq

    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales])
    weights *= sum(MS_SSIM_WEIGHTS) / weights.sum()
    planes = _to_planes(x), _to_planes(x_hat)
    return float(piq.multi_scale_ssim(*planes, data_range=peak, scale_weights=weights))


def ms_ssim_scales(height: int, width: int) -> int:
    """Return how many scales of `ms_ssim` a size has: 5 from 161 pixels on the shorter side, 0 below 11."""
    return sum(min(height, width) >= _ms_ssim_side(scales) for scales in range(1, len(MS_SSIM_WEIGHTS) + 1))


def _ms_ssim_side(scales: int) -> int:
    return ((WINDOW - 1) << (scales - 1)) + 1


def haarpsi(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float) -> float:
    """Haar wavelet perceptual similarity (Reisenhofer et al. 2018) as `piq.haarpsi`; needs no trained weights.

    Raises:
        ValueError: if a side is shorter than 16.
    """
    import piq

    _check_sides(x, 16, "HaarPSI")
    return float(piq.haarpsi(_to_planes(x), _to_planes(x_hat), data_range=peak))


def lpips(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float) -> float:
    """Learned perceptual distance (Zhang et al. 2018) as `piq.LPIPS`: VGG-16 features; 0 is equal."""
    return _learned("LPIPS", x, x_hat, peak)


def dists(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float) -> float:
    """Structure and texture distance (Ding et al. 2020) as `piq.DISTS`: VGG-16 features; 0 is equal."""
    return _learned("DISTS", x, x_hat, peak)


IMAGE_METRICS = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "haarpsi": haarpsi}


def available_metrics() -> dict[str, Callable[..., float]]:
    """Return the image metrics that this machine can compute: LPIPS and DISTS need weights on disk."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    vgg, learned = folder / "vgg16-397923af.pth", {"lpips": lpips, "dists": dists}
    found = {name: f for name, f in learned.items() if vgg.exists() and (folder / f"{name}_weights.pt").exists()}
    return IMAGE_METRICS | found


def bpp(n_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a whole file, header included."""
    return 8 * n_bytes / (width * height)


def kbps(n_bytes: int, seconds: float) -> float:
    """Thousands of bits per second of a whole file, header included."""
    return 8 * n_bytes / seconds / 1000


class BDRate(NamedTuple):
    """Bjontegaard's mean difference of rate at equal quality, in percent, and what it rests on."""

    percent: float  # negative: fewer bytes than the anchor
    low: float  # the interval of quality that both curves reach
    high: float
    points: tuple[int, int]  # of the anchor and of the tested curve within that interval


def bd_rate(anchor: Sequence[tuple[float, float]], tested: Sequence[tuple[float, float]], least: int = 4) -> BDRate:
    """Compare two curves of (rate, quality): piecewise cubic in log rate (PCHIP, as JVET's sheet).

    Args:
        anchor: the curve compared with.
        tested: the curve compared.
        least: points that a curve must have.

    Raises:
        ValueError: for too few points, quality that does not grow with the rate, or curves that share no quality.
    """
    import bjontegaard

    for name, curve in (("anchor", anchor), ("tested curve", tested)):
        if len(curve) < least:
            raise ValueError(f"a BD-rate needs {least} points; the {name} has {len(curve)}")
        _check_grows(curve, name)
    (rates_a, quality_a), (rates_t, quality_t) = (np.array(sorted(curve)).T for curve in (anchor, tested))
    low = max(quality_a.min(), quality_t.min())
    high = min(quality_a.max(), quality_t.max())
    if low >= high:
        raise ValueError(
            f"the curves share no quality: {quality_a.min():.4g} to {quality_a.max():.4g} and "
            f"{quality_t.min():.4g} to {quality_t.max():.4g}"
        )
    percent = bjontegaard.bd_rate(
        rates_a, quality_a, rates_t, quality_t, method="pchip", require_matching_points=False, min_overlap=0
    )
    inside = tuple(int(((low <= q) & (q <= high)).sum()) for q in (quality_a, quality_t))
    return BDRate(float(percent), float(low), float(high), (inside[0], inside[1]))


@cache
def _network(name: str) -> Any:
    import piq

    return getattr(piq, name)()


def _learned(name: str, x: np.ndarray, x_hat: np.ndarray, peak: float) -> float:
    _check_sides(x, 16, name)
    with torch.inference_mode():
        return float(_network(name)(_to_planes(x) / peak, _to_planes(x_hat) / peak))


def rate_difference(anchor: Sequence[tuple[float, float]], rate: float, quality: float) -> float | None:
    """Percent of rate that one point saves (negative) or spends against a curve of (rate, quality) at its quality.

    The curve is interpolated as in `bd_rate`; None where it does not reach the quality, or has under 2 points.

    Raises:
        ValueError: if quality does not grow with the rate along the curve.
    """
    from scipy.interpolate import PchipInterpolator

    _check_grows(anchor, "anchor")
    curve = sorted((q, r) for r, q in anchor)
    if len(curve) < 2 or not curve[0][0] <= quality <= curve[-1][0]:
        return None
    equal = PchipInterpolator([q for q, _ in curve], [np.log(r) for _, r in curve])(quality)
    return float(100 * (rate / np.exp(equal) - 1))


def _check_grows(curve: Sequence[tuple[float, float]], name: str) -> None:
    quality = [q for _, q in sorted(curve)]
    if not np.isfinite(quality).all() or any(a >= b for a, b in pairwise(quality)):
        raise ValueError(f"quality does not grow with the rate of the {name}")


def _to_planes(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1), np.float32))[None]


def _check_sides(x: np.ndarray, least: int, name: str) -> None:
    if min(x.shape[:2]) < least:
        raise ValueError(f"{name} needs sides of at least {least} pixels; found {x.shape[1]} x {x.shape[0]}")
