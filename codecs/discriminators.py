"""Discriminators: networks that tell recordings from reconstructions, for training alone.

Each looks at a sound in its own way, folded by a period, at a rate, as a spectrogram, and returns a map of scores and
the features on the way to it.

Sources: Kong, Kim and Bae, "HiFi-GAN", NeurIPS 2020 (periods, scales); Defossez et al., "High fidelity neural audio
compression", 2022 (spectrograms).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


class Judgement(NamedTuple):
    """What one discriminator says of a batch."""

    scores: Tensor  # towards 1 for recordings, towards 0 for reconstructions
    features: list[Tensor]  # of each layer before the last


class Discriminators(nn.Module):
    """All that judge a sound.

    Args:
        periods: of the period discriminators, samples.
        scales: how many scale discriminators; each hears half the rate of the one before.
        n_ffts: frames of the spectrogram discriminators, samples; hop a quarter.
        width: divides the published channel counts of the first two kinds: 1 is as published.
        filters: channels of the third kind.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        scales: int = 3,
        n_ffts: Sequence[int] = (1024, 2048, 512, 256, 128),
        width: int = 1,
        filters: int = 32,
    ) -> None:
        super().__init__()
        self.judges = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, width) for period in periods),
                *(ScaleDiscriminator(scale, width) for scale in range(scales)),
                *(SpectrogramDiscriminator(n_fft, filters) for n_fft in n_ffts),
            ]
        )

    def forward(self, x: Float[Tensor, "b 1 t"]) -> list[Judgement]:
        """Return what each says."""
        return [cast(Judgement, judge(x)) for judge in self.judges]


class PeriodDiscriminator(nn.Module):
    """Two-dimensional convolutions along the columns of a sound that is written in rows of one period.

    Args:
        period: samples of a row.
        width: divides the published channel counts.
    """

    def __init__(self, period: int, width: int = 1) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(n // width for n in (32, 128, 512, 1024, 1024))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(c, d, (5, 1), (stride, 1), (2, 0)))
            for c, d, stride in zip(channels, channels[1:], (3, 3, 3, 3, 1), strict=False)
        )
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, x: Float[Tensor, "b 1 t"]) -> Judgement:
        """Judge; the last row is completed by reflection."""
        x = F.pad(x, (0, -x.shape[2] % self.period), mode="reflect")
        return _judge(x.unflatten(2, (-1, self.period)), self.layers, self.score, 0.1)


class ScaleDiscriminator(nn.Module):
    """Grouped, strided convolutions over a sound at a fraction of its rate.

    Args:
        scale: times that the rate is halved before; the one at the full rate has spectral normalisation.
        width: divides the published channel counts.
    """

    def __init__(self, scale: int, width: int = 1) -> None:
        super().__init__()
        self.scale = scale
        norm = weight_norm if scale else spectral_norm
        channels = [1, *(n // width for n in (128, 128, 256, 512, 1024, 1024, 1024))]
        shapes = zip((15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1), strict=True)
        self.layers = nn.ModuleList(
            norm(nn.Conv1d(c, d, kernel, stride, kernel // 2, groups=min(groups, c)))
            for c, d, (kernel, stride, groups) in zip(channels, channels[1:], shapes, strict=False)
        )
        self.score = norm(nn.Conv1d(channels[-1], 1, 3, 1, 1))

    def forward(self, x: Float[Tensor, "b 1 t"]) -> Judgement:
        """Judge."""
        for _ in range(self.scale):
            x = F.avg_pool1d(x, 4, 2, 2)
        return _judge(x, self.layers, self.score, 0.1)


class SpectrogramDiscriminator(nn.Module):
    """Two-dimensional convolutions over real and imaginary parts of an STFT.

    Args:
        n_fft: samples of a frame; hop a quarter.
        filters: channels.
        dilations: in time, of the strided layers.
    """

    def __init__(self, n_fft: int, filters: int = 32, dilations: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.layers = nn.ModuleList([weight_norm(nn.Conv2d(2, filters, (3, 9), padding=(1, 4)))])
        for dilation in dilations:
            conv = nn.Conv2d(filters, filters, (3, 9), (1, 2), (dilation, 4), (dilation, 1))
            self.layers.append(weight_norm(conv))
        self.layers.append(weight_norm(nn.Conv2d(filters, filters, 3, padding=1)))
        self.score = weight_norm(nn.Conv2d(filters, 1, 3, padding=1))

    def forward(self, x: Float[Tensor, "b 1 t"]) -> Judgement:
        """Judge; frames lie along the third axis, frequencies along the last."""
        window = torch.hann_window(self.n_fft, device=x.device)
        spectra = torch.stft(x[:, 0], self.n_fft, self.n_fft // 4, window=window, normalized=True, return_complex=True)
        return _judge(torch.view_as_real(spectra).permute(0, 3, 2, 1), self.layers, self.score, 0.2)


def _judge(z: Tensor, layers: nn.ModuleList, score: nn.Module, slope: float) -> Judgement:
    features = []
    for layer in layers:
        z = F.leaky_relu(layer(z), slope)
        features.append(z)
    return Judgement(score(z), features)
