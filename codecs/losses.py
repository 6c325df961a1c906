"""Losses between sounds: mel and linear spectra at several scales, adversarial and feature terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from codomain.codecs.discriminators import Judgement
from jaxtyping import Float
from torch import Tensor, nn

FLOOR = 1e-5  # of magnitudes before a logarithm


def mel_filters(n_mels: int, n_fft: int, sample_rate: int) -> Float[Tensor, "mels bins"]:
    """Return triangular filters that are equally spaced on the mel scale (HTK) from 0 Hz to half the sample rate."""
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, n_mels + 2, dtype=torch.float64) * top / 2595) - 1)
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(up, down).clamp_min(0).float()


class MelDistance(nn.Module):
    """Mean absolute difference of log10 mel spectra, averaged over window lengths; hop a quarter.

    Source: Kumar et al., "High-fidelity audio compression with improved RVQGAN", 2023, section 3.4 (DAC).

    Args:
        sample_rate: Hz.
        windows: lengths of the frames, samples.
        mels: filters of each.
        weights: of each; their sum divides the distance.
    """

    def __init__(
        self,
        sample_rate: int,
        windows: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
        mels: Sequence[int] = (10, 20, 40, 80, 80, 160),
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.windows)
        for i, (window, n) in enumerate(zip(windows, mels, strict=True)):
            self.register_buffer(f"filters_{i}", mel_filters(n, window, sample_rate), persistent=False)

    def forward(self, x_hat: Float[Tensor, "b c t"], x: Float[Tensor, "b c t"]) -> Float[Tensor, ""]:
        """Return the distance."""
        total = x.new_zeros(())
        for i, (window, weight) in enumerate(zip(self.windows, self.weights, strict=True)):
            filters = getattr(self, f"filters_{i}")
            logs = [(filters @ magnitude(s.flatten(0, 1), window)).clamp_min(FLOOR).log10() for s in (x_hat, x)]
            total = total + weight * F.l1_loss(*logs)
        return total / sum(self.weights)


def magnitude(x: Float[Tensor, "b t"], window: int) -> Float[Tensor, "b bins n"]:
    """Return magnitudes of the STFT under a Hann window, hop a quarter of it."""
    spectra = torch.stft(
        x,
        window,
        window // 4,
        window=torch.hann_window(window, device=x.device),
        return_complex=True,
        pad_mode="constant",
    )
    return (spectra.real.square() + spectra.imag.square() + 1e-12).sqrt()


class StftDistance(nn.Module):
    """Spectral convergence plus mean absolute difference of natural log magnitudes, averaged over window lengths.

    Source: Yamamoto, Song and Kim, "Parallel WaveGAN", 2020, equations 4 and 5; hop a quarter of the window.

    Args:
        windows: lengths of the frames, samples.
    """

    def __init__(self, windows: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.windows = tuple(windows)

    def forward(self, x_hat: Float[Tensor, "b c t"], x: Float[Tensor, "b c t"]) -> Float[Tensor, ""]:
        """Return the distance."""
        total = x.new_zeros(())
        for window in self.windows:
            s_hat, s = (magnitude(part.flatten(0, 1), window) for part in (x_hat, x))
            convergence = (s_hat - s).norm() / s.norm().clamp_min(FLOOR)
            total = total + convergence + F.l1_loss(s_hat.clamp_min(FLOOR).log(), s.clamp_min(FLOOR).log())
        return total / len(self.windows)


def discriminator_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, ""]:
    """Return the sum over discriminators of ``mean((1 - D(x))**2) + mean(D(x_hat)**2)`` (Mao et al. 2017)."""
    terms = [(1 - r.scores).square().mean() + f.scores.square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).sum()


def generator_loss(fake: Sequence[Judgement]) -> Float[Tensor, ""]:
    """Return the sum over discriminators of ``mean((1 - D(x_hat))**2)``."""
    return torch.stack([(1 - f.scores).square().mean() for f in fake]).sum()


def feature_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, ""]:
    """Return the sum over layers of discriminators of the mean absolute difference of features (Kong et al. 2020)."""
    pairs = [pair for r, f in zip(real, fake, strict=True) for pair in zip(r.features, f.features, strict=True)]
    return torch.stack([F.l1_loss(f, r.detach()) for r, f in pairs]).sum()
