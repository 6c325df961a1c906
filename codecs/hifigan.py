"""HiFi-GAN's generator, and the convolutional encoder that HiFi-Codec puts before it: networks at the rate of samples.

    x --conv, (strided conv, residual blocks) x 4, conv--> y
    y_hat --conv, (transposed conv, residual blocks) x 4, conv, tanh--> x_hat

Sources: Kong, Kim and Bae, "HiFi-GAN", NeurIPS 2020 (generator V1); Yang et al., "HiFi-Codec", 2023 (encoder).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1  # of every leaky ReLU
KERNELS, DILATIONS = (3, 7, 11), (1, 3, 5)  # of the residual blocks


class ConvolutionalEncoder(nn.Module):
    """Samples to latents by strided convolutions.

    The sums of residual blocks are normalised over groups of 16 channels and all of time, as published: a latent
    depends on the whole signal, so there is no halo, and a signal is analysed whole.

    Args:
        latent_dim: channels of the latents.
        strides: of the stages; samples per latent are their product.
        kernels: taps of the strided convolutions.
        width: channels before the first stage; each stage doubles them.
    """

    halo: int | None = None

    def __init__(
        self,
        latent_dim: int = 512,
        strides: Sequence[int] = (2, 4, 5, 8),
        kernels: Sequence[int] = (4, 8, 11, 16),
        width: int = 32,
    ) -> None:
        super().__init__()
        self.enter = _conv(1, width, 7)
        self.downs, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stride, kernel in zip(strides, kernels, strict=True):
            down = nn.Conv1d(width, 2 * width, kernel, stride, padding=(kernel - stride + 1) // 2)
            self.downs.append(_normed(down))
            width *= 2
            self.blocks.append(_ResidualBlocks(width, tuple(reversed(KERNELS)), normalise=True))
        self.leave = _conv(width, latent_dim, 3)

    def forward(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d n"]:
        """Signal to latents; t is a multiple of the product of the strides."""
        z = self.enter(x)
        for down, blocks in zip(self.downs, self.blocks, strict=True):
            z = blocks(down(F.leaky_relu(z, SLOPE)))
        y: Tensor = self.leave(F.leaky_relu(z, SLOPE))
        return y.float()


class HiFiGenerator(nn.Module):
    """Latents to samples by transposed convolutions and multi-receptive-field blocks.

    Args:
        latent_dim: channels of the latents.
        strides: of the stages; samples per latent are their product.
        kernels: taps of the transposed convolutions.
        width: channels before the first stage; each stage halves them.

    Attributes:
        halo: latents to either side that a sample looks at.
    """

    def __init__(
        self,
        latent_dim: int = 512,
        strides: Sequence[int] = (8, 5, 4, 2),
        kernels: Sequence[int] = (16, 11, 8, 4),
        width: int = 512,
    ) -> None:
        super().__init__()
        self.enter = _conv(latent_dim, width, 7)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        reach, rate = 3.0, 1  # in latents; positions per latent
        for stride, kernel in zip(strides, kernels, strict=True):
            odd = (kernel - stride) % 2
            up = nn.ConvTranspose1d(
                width, width // 2, kernel, stride, padding=(kernel - stride + odd) // 2, output_padding=odd
            )
            self.ups.append(_normed(up))
            width //= 2
            blocks = _ResidualBlocks(width, KERNELS, normalise=False)
            self.blocks.append(blocks)
            reach += ceil(kernel / stride) / rate + blocks.reach / (rate * stride)
            rate *= stride
        self.leave = _conv(width, 1, 7)
        self.halo: int | None = ceil(reach + 3 / rate)

    def forward(
        self, y_hat: Float[Tensor, "b d n"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b 1 t"]:
        """Latents to signal."""
        z = self.enter(y_hat)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            z = blocks(up(F.leaky_relu(z, SLOPE)))
        x_hat: Tensor = self.leave(F.leaky_relu(z))  # HiFi-GAN's last slope is torch's default, 0.01
        return x_hat.tanh().float()


class _ResidualBlocks(nn.Module):
    """The mean of residual blocks of type 1, one for each kernel; or of their normalised running sums."""

    def __init__(self, width: int, kernels: Sequence[int], normalise: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.ModuleList(nn.ModuleList([_conv(width, width, k, d), _conv(width, width, k)]) for d in DILATIONS)
            for k in kernels
        )
        groups = max(1, width // 16)
        self.norms = nn.ModuleList(
            nn.GroupNorm(groups, width, eps=1e-6) if normalise else nn.Identity() for _ in kernels
        )
        self.reach = max(kernels) // 2 * (sum(DILATIONS) + len(DILATIONS))

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        for branch, norm in zip(self.branches, self.norms, strict=True):
            z = x
            for pair in cast(nn.ModuleList, branch):
                first, second = cast(nn.ModuleList, pair)
                z = z + second(F.leaky_relu(first(F.leaky_relu(z, SLOPE)), SLOPE))
            total = norm(total + z)
        return cast(Tensor, total) / len(self.branches)


def _conv(channels: int, out: int, kernel: int, dilation: int = 1) -> nn.Module:
    return _normed(nn.Conv1d(channels, out, kernel, padding=kernel // 2 * dilation, dilation=dilation))


def _normed(conv: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    nn.init.normal_(conv.weight, 0.0, 0.01)
    return cast(nn.Module, weight_norm(conv))
