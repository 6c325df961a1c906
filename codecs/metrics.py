"""Metrics: the only definitions of quality and rate.

Pictures are (h, w, 3), uint8 or float in [0, peak]; every metric is of one picture, and means are taken over pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

MS_SSIM_SIDE = 161  # five scales under a window of 11: the least side it is defined for


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

    _check_sides(x, 11, "SSIM")
    return float(piq.ssim(_to_planes(x), _to_planes(x_hat), data_range=peak))


def ms_ssim(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003) as pytorch-msssim, which CompressAI reports.

    Raises:
        ValueError: if a side is shorter than `MS_SSIM_SIDE`.
    """
    import pytorch_msssim

    _check_sides(x, MS_SSIM_SIDE, "MS-SSIM")
    return float(pytorch_msssim.ms_ssim(_to_planes(x), _to_planes(x_hat), data_range=peak))


def haarpsi(x: Shaped[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], peak: float) -> float:
    """Haar wavelet perceptual similarity (Reisenhofer et al. 2018) as `piq.haarpsi`; needs no trained weights.

    Raises:
        ValueError: if a side is shorter than 16.
    """
    import piq

    _check_sides(x, 16, "HaarPSI")
    return float(piq.haarpsi(_to_planes(x), _to_planes(x_hat), data_range=peak))


def bpp(n_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a whole file, header included."""
    return 8 * n_bytes / (width * height)


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
        ValueError: for too few points, or curves that share no quality.
    """
    import bjontegaard

    for name, curve in (("anchor", anchor), ("tested curve", tested)):
        if len(curve) < least:
            raise ValueError(f"a BD-rate needs {least} points; the {name} has {len(curve)}")
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


def _to_planes(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1), np.float32))[None]


def _check_sides(x: np.ndarray, least: int, name: str) -> None:
    if min(x.shape[:2]) < least:
        raise ValueError(f"{name} needs sides of at least {least} pixels; found {x.shape[1]} x {x.shape[0]}")
