"""Metrics: the only definitions of quality and rate."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped


def psnr(x: Shaped[np.ndarray, "*shape"], x_hat: Shaped[np.ndarray, "*shape"], peak: float) -> float:
    """Peak signal-to-noise ratio in dB over all samples of one signal; infinite where they are equal."""
    mse = float(np.square(x.astype(np.float64) - x_hat.astype(np.float64)).mean())
    return float("inf") if mse == 0 else float(10 * np.log10(peak**2 / mse))


def bpp(n_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a whole file, header included."""
    return 8 * n_bytes / (width * height)
