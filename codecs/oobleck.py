"""Oobleck: the decoder of the WaLLoC paper for sound: Stable Audio's, at the rate of the latents, and a filter.

    y_hat --conv--> (snake, conv, residual units) x 2 --snake, conv--> packets --iwpt--> signal --filter--> x_hat

Sources: Jacobellis and Yadwadkar 2024; Evans et al., "Fast timing-conditioned latent audio diffusion", 2024 (the
blocks); Ziyin et al., "Neural networks fail to learn periodic functions and how to fix it", 2020 (snake).
"""

from __future__ import annotations

from math import ceil
from typing import cast

import torch
from codomain.kernels.wpt import Mode, iwpt, reach
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

DILATIONS = (1, 3, 9)  # of the residual units
TAPS = 7


class OobleckDecoder(nn.Module):
    """Two stages of dilated residual units that keep the grid, the inverse transform, and a linear filter.

    16.29 million parameters with 108 latents. The published stages lose a position each, which its encoder adds before
    at either end; here neither happens.

    Args:
        latent_dim: channels of the latents; those before the last convolution are as many.
        channels: channels of the signal.
        level: packet levels, all of which it undoes.
        width: at most so many features; they are a multiple of ``latent_dim``.
        taps: of the filter after the inverse transform; an odd number.
        wavelet, mode: as for `wpt`.

    Attributes:
        level: 0; what it returns is the signal.
        halo: latents to either side that a sample looks at.

    Raises:
        ValueError: for a width below ``latent_dim``, or an even number of taps.
    """

    level = 0

    def __init__(
        self,
        latent_dim: int,
        channels: int,
        level: int = 8,
        width: int = 768,
        taps: int = 129,
        wavelet: str = "bior4.4",
        mode: Mode = "periodization",
    ) -> None:
        super().__init__()
        if width < latent_dim:
            raise ValueError(f"width is at least latent_dim={latent_dim}; found {width}")
        if taps % 2 == 0:
            raise ValueError(f"taps is odd; found {taps}")
        self.packet_level, self.wavelet, self.mode = level, wavelet, mode
        width -= width % latent_dim
        self.enter = _conv(latent_dim, width, TAPS)
        self.stages = nn.ModuleList([_Stage(width, width, late=True), _Stage(width, latent_dim, late=False)])
        self.snake = _Snake(latent_dim)
        self.leave = _conv(latent_dim, channels << level, TAPS, bias=False)
        self.filter = nn.Conv1d(channels, channels, taps, padding=taps // 2)
        looks = 2 * (TAPS // 2) + 2 * (1 + TAPS // 2 * sum(DILATIONS))
        self.halo: int | None = looks + reach(level, wavelet) + ceil((taps // 2) / (1 << level))

    def forward(
        self, y_hat: Float[Tensor, "b d n"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c t"]:
        """Return the signal."""
        z = self.enter(y_hat)
        for stage in self.stages:
            z = stage(z)
        packets = self.leave(self.snake(z))
        x_hat: Tensor = self.filter(iwpt(packets, self.packet_level, self.wavelet, self.mode))
        return x_hat


class _Stage(nn.Module):
    """Stable Audio's stage of stride 1, whose two taps make one position more; ``late`` leaves the first out."""

    def __init__(self, channels: int, out: int, late: bool) -> None:
        super().__init__()
        self.late = late
        self.snake = _Snake(channels)
        self.up = weight_norm(nn.ConvTranspose1d(channels, out, 2))
        self.units = nn.ModuleList(
            nn.Sequential(_Snake(out), _conv(out, out, TAPS, dilation), _Snake(out), _conv(out, out, 1))
            for dilation in DILATIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.up(self.snake(x))
        z = z[..., 1:] if self.late else z[..., :-1]
        for unit in self.units:
            z = z + unit(z)
        return z


class _Snake(nn.Module):
    """``x + sin(a x)**2 / b``, with a and b of each channel, as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_a, self.log_b = (nn.Parameter(torch.zeros(channels, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.log_a.exp() * x).sin().square() / self.log_b.exp()


def _conv(channels: int, out: int, kernel: int, dilation: int = 1, bias: bool = True) -> nn.Module:
    padding = kernel // 2 * dilation
    conv = nn.Conv1d(channels, out, kernel, padding=padding, dilation=dilation, bias=bias)
    return cast(nn.Module, weight_norm(conv))
