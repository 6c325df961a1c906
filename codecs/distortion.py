"""Distortion: what a video network is fitted to.

    log_mse     mean over frames of ln(mse): what the mean of the frames' PSNR asks for
    mse, l1     means over everything
    ms_ssim     1 - MS-SSIM, of as many scales as the frames have room for
    spectrum    mean absolute difference of real and imaginary parts of orthonormal spectra

Source: Zhang et al., "Boosting neural representations for videos with a conditional decoder", 2024, equation 8, whose
spectra are not normalized: 1 there is sqrt(h w) here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TERMS = ("log_mse", "mse", "l1", "ms_ssim", "spectrum")
FLOOR = 1e-5  # of a mse before its logarithm: 56 dB
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # of MS-SSIM's window, taps
LEAST = 1e-6  # of a similarity before its root, whose slope at 0 has no end


class Distortion:
    """A weighted sum of terms.

    Args:
        weights: of the terms that count.

    Raises:
        ValueError: for a term that there is not.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        unknown = set(weights) - set(TERMS)
        if unknown or not weights:
            raise ValueError(
                f"terms of a distortion are {', '.join(TERMS)}; found {', '.join(sorted(unknown)) or 'none'}"
            )
        self.weights = dict(weights)

    def __call__(
        self, x_hat: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"], mask: Bool[Tensor, "b h w"] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " b"]]:
        """Return the distortion, and the mean square error of every frame, of signals in [-1, 1].

        Args:
            x_hat, x: frames.
            mask: pixels that count; the others are taken to be right.
        """
        if mask is not None:
            x_hat = torch.where(mask[:, None], x_hat, x)
        error = x_hat - x
        mse = error.square().flatten(1).mean(1)
        if mask is not None:
            mse = mse / mask.flatten(1).float().mean(1).clamp_min(1e-6)
        terms = {
            "log_mse": lambda: (mse + FLOOR).log().mean(),
            "mse": lambda: mse.mean(),
            "l1": lambda: error.abs().mean() / 2,
            "ms_ssim": lambda: 1 - ms_ssim(x_hat, x),
            "spectrum": lambda: torch.view_as_real(torch.fft.fft2(error, norm="ortho")).abs().mean() / 2,
        }
        return torch.stack([weight * terms[name]() for name, weight in self.weights.items()]).sum(), mse


def ms_ssim(x_hat: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Return MS-SSIM, of signals in [-1, 1]; of frames below 161 pixels a side, of their first scales alone.

    Source: Wang et al., "Multiscale structural similarity for image quality assessment", 2003.
    """
    short = min(x.shape[2:])
    n = max(1, sum(short > (WINDOW - 1) << i for i in range(len(SCALES))))
    taps = min(WINDOW, (short - 1) | 1)
    window = torch.exp(-((torch.arange(taps, device=x.device) - taps // 2) ** 2) / (2 * SIGMA**2))
    window = window / window.sum()
    value = x.new_ones(len(x), 3)
    for i, scale in enumerate(SCALES[:n]):
        luminance, contrast = _similarity(x_hat, x, window)
        part = (contrast if i < n - 1 else luminance * contrast).mean((2, 3))
        value = value * part.clamp_min(LEAST) ** (scale / sum(SCALES[:n]))
        if i < n - 1:  # a side that is odd gains a row of zeros, half of it: as the authors' means are taken
            odd = [side % 2 for side in x.shape[2:]]
            x_hat, x = (F.avg_pool2d(frames, 2, padding=odd) for frames in (x_hat, x))
    return value.mean()


def _similarity(
    x_hat: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"], window: Float[Tensor, " k"]
) -> tuple[Float[Tensor, "b 3 u v"], Float[Tensor, "b 3 u v"]]:
    """Return the similarity of means, and of what is about them."""
    moments = torch.cat((x_hat, x, x_hat * x_hat, x * x, x_hat * x), 1)
    kernel = window.to(x).repeat(moments.shape[1], 1, 1, 1)
    moments = F.conv2d(F.conv2d(moments, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))
    m_hat, m, s_hat, s, both = moments.chunk(5, 1)
    about_means, about_rest = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    contrast = (2 * (both - m_hat * m) + about_rest) / (s_hat - m_hat**2 + s - m**2 + about_rest)
    return (2 * m_hat * m + about_means) / (m_hat**2 + m**2 + about_means), contrast
