"""Video metrics: pictures' metrics frame by frame, and means over frames, as the papers on video report them.

The PSNR of a clip is the mean of its frames' PSNRs, not the PSNR of their mean error: a frame without error counts
`BEST` dB.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import numpy as np
from codomain.codecs.kind import capped
from codomain.codecs.metrics import ms_ssim, ms_ssim_scales, psnr
from jaxtyping import Float64, UInt8

LUMA = (0.299, 0.587, 0.114)  # of BT.601, whatever the size

Frames = UInt8[np.ndarray, "f h w 3"]


def rgb_psnr(x: Frames, x_hat: Frames) -> float:
    """Return the mean over frames of the PSNR in dB over red, green and blue together."""
    return _over_frames(x, x_hat, lambda a, b: capped(psnr(a, b, 255.0)))


def luma_psnr(x: Frames, x_hat: Frames) -> float:
    """Return the mean over frames of the PSNR in dB of the luma of BT.601, in full range and not rounded."""
    return _over_frames(x, x_hat, lambda a, b: capped(psnr(to_luma(a), to_luma(b), 255.0)))


def video_ms_ssim(x: Frames, x_hat: Frames) -> float:
    """Return the mean over frames of MS-SSIM of RGB, of as many scales as `ms_ssim_scales` gives the size.

    Raises:
        ValueError: if a side is shorter than 11.
    """
    scales = ms_ssim_scales(*x.shape[1:3])
    return _over_frames(x, x_hat, lambda a, b: ms_ssim(a, b, 255.0, max(1, scales)))


def to_luma(picture: UInt8[np.ndarray, "h w 3"]) -> Float64[np.ndarray, "h w"]:
    """Return a weighted sum of red, green and blue."""
    luma: np.ndarray = picture @ np.array(LUMA)
    return luma


def _over_frames(x: Frames, x_hat: Frames, metric: Callable[[np.ndarray, np.ndarray], float]) -> float:
    return mean(metric(a, b) for a, b in zip(x, x_hat, strict=True))


VIDEO_METRICS = {"psnr": rgb_psnr, "psnr_y": luma_psnr, "ms_ssim": video_ms_ssim}
