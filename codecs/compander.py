"""Compander: the bottleneck of the WaLLoC paper, a fixed Gaussian compander before rounding.

    x --Gaussian CDF--> (-2**(b-1), 2**(b-1)) --round--> integers --Gaussian quantile--> x'

Source: Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from codomain.codecs.bottleneck import Bottleneck, BottleneckOutput
from codomain.codecs.coder import Tables
from jaxtyping import Float, Int32, Integer
from torch import Tensor


class GaussianCompander(Bottleneck):
    """Equal use of ``latent_bits`` bits by a Gaussian latent; uniform noise in training, no rate term.

    The paper stores the integers as lossless WebP. Here they go through the tables of the one coder, counted
    during training.

    Args:
        channels: latent channels ``d``.
        latent_bits: b; the integers are within ``+-(2**(b - 1) - 1)``.
    """

    counts: Tensor

    def __init__(self, channels: int, latent_bits: int = 8) -> None:
        super().__init__()
        self.channels, self.latent_bits = channels, latent_bits
        self.most = 2 ** (latent_bits - 1) - 1
        self.scale = self.most / 1.85
        self.half_range = self.most + 0.5 - 1e-3
        self.register_buffer("counts", torch.ones(channels, 2 * self.most + 1, dtype=torch.int64))

    def forward(self, y: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None) -> BottleneckOutput:
        """Return noisy (training) or rounded (evaluation) latents; the bits, of a fixed-length code."""
        v = self._compress(y)
        if self.training:
            self._count(v.detach().round())
            v = v + torch.rand_like(v) - 0.5
        else:
            v = v.round()
        bits = y.new_full((len(y),), float(self.latent_bits * v[0].numel()))
        return BottleneckOutput(self._expand(v), bits, y.new_zeros(()))

    def to_symbols(self, y: Float[Tensor, "b d *grid"], index: int = 0) -> Int32[Tensor, "b d *grid"]:
        """Compand and round.

        Raises:
            ValueError: if a latent is NaN or infinite.
        """
        if not torch.isfinite(y).all():
            raise ValueError("latents must be finite; found NaN or infinity in the signal")
        return self._compress(y).round().to(torch.int32)

    def from_symbols(self, symbols: Integer[Tensor, "b d *grid"], index: int = 0) -> Float[Tensor, "b d *grid"]:
        """Expand."""
        return self._expand(symbols.to(torch.float32))

    def start(self, y: Float[Tensor, "b d *grid"], bits: float | None = None) -> None:
        """Nothing to set: the encoder learns the scale of every channel."""

    def freeze_tables(self, y: Sequence[Float[Tensor, " d *grid"]] = ()) -> None:
        """Nothing to do: the counts are integers already."""

    def tables(self) -> Tables:
        """Return tables of the counted integers, each at least once."""
        offsets = torch.full((self.channels,), -self.most, dtype=torch.int32)
        return Tables.from_counts(self.counts.cpu().numpy(), offsets.numpy())

    def _compress(self, y: Tensor) -> Tensor:
        v: Tensor = 2 * self.half_range * (torch.special.ndtr(y / self.scale) - 0.5)
        return v

    def _expand(self, v: Tensor) -> Tensor:
        uniform = (v / (2 * self.half_range) + 0.5).clamp(1e-4, 1 - 1e-4)
        y: Tensor = self.scale * torch.special.ndtri(uniform)
        return y

    def _count(self, v: Tensor) -> None:
        columns = v.transpose(0, 1).reshape(self.channels, -1).long() + self.most
        self.counts.scatter_add_(1, columns, torch.ones_like(columns))
