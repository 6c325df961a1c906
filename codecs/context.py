"""Context: a bottleneck with many rates, whose tables are chosen by what is already decoded.

Channels are coded one after another, each in four passes over the plane (even/even, odd/odd, even/odd, odd/even), so
that all positions of a pass are independent. A symbol's value and scale are predicted from the channels before it, here
and at the four nearest positions, and from the nearest positions of its own channel that earlier passes hold.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from codomain.codecs.bottleneck import Bottleneck, BottleneckOutput
from jaxtyping import Float
from torch import Tensor, nn

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # row and column parity, in coding order
RING = ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, -1), (0, 1), (-1, 0), (1, 0))
KNOWN = ((0,) * 8, (1,) * 4 + (0,) * 4, (0,) * 4 + (1,) * 4, (1,) * 8)  # of RING, in each phase
STEPS_PER_OCTAVE = 16  # of quality


class ContextBottleneck(Bottleneck):
    """Uniform scalar quantizer, a learned step per channel and rate, and a context model.

    Args:
        channels: latent channels ``d``, coded in this order.
        anchors: qualities, evenly spaced over 1 to 100, that have steps of their own; between them the logarithm of the
            step is interpolated.
    """

    def __init__(self, channels: int, anchors: int = 9) -> None:
        super().__init__()
        self.channels, self.anchors = channels, anchors
        self.log_step = nn.Parameter(torch.zeros(anchors, channels))
        self.density: Any = None

    def steps(self, quality: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return interpolate(self.log_step, quality).exp()

    def forward(self, y: Float[Tensor, "b d h w"], quality: Float[Tensor, " b"]) -> BottleneckOutput:
        """Rounded latents, and the bits of the noisy (training) or rounded (evaluation) ones, per signal."""
        step = self.steps(quality)[:, :, None, None]
        v = y / step
        rounded = v + (v.round() - v).detach()
        noisy = v + torch.rand_like(v) - 0.5 if self.training else rounded
        bits = self.density(rounded, noisy, quality)
        return BottleneckOutput(rounded * step, bits, y.new_zeros(()))

    def prepare_training(self) -> None:
        if self.density is None:
            self.density = ContextDensity(self.channels, self.anchors)


class ContextDensity(nn.Module):
    """The context model in floating point, for training: logistic, of predicted value and scale."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        d = channels
        self.value = nn.Parameter(torch.zeros(d, d, 3, 3))
        self.value_ring = nn.Parameter(torch.zeros(4, d, 8))
        self.spread = nn.Parameter(torch.full((d, d, 3, 3), -6.0))
        self.spread_ring = nn.Parameter(torch.full((4, d, 8), -4.0))
        self.floor = nn.Parameter(torch.full((anchors, 4 * d), -1.0))
        plus = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
        self.register_buffer("mask", torch.tril(torch.ones(d, d), -1)[:, :, None, None] * plus)
        self.register_buffer("known", torch.tensor(KNOWN, dtype=torch.float32)[:, None])

    def predict(self, q: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Value and scale of every symbol, both in steps."""
        b, d, h, w = q.shape
        size = q.abs()
        value = F.conv2d(q, self.value * self.mask, padding=1)
        spread = F.conv2d(size, F.softplus(self.spread) * self.mask, padding=1)
        wide = F.pad(q, (1, 1, 1, 1))
        ring = torch.stack([wide[:, :, 1 + i : 1 + i + h, 1 + j : 1 + j + w] for i, j in RING], 2)
        floor = F.softplus(interpolate(self.floor, quality)).reshape(b, 4, d)
        mu, sigma = torch.empty_like(q), torch.empty_like(q)
        for phase, (i, j) in enumerate(PHASES):
            at = (..., slice(i, None, 2), slice(j, None, 2))
            near = ring[at]
            value_ring = self.value_ring[phase] * self.known[phase]
            spread_ring = F.softplus(self.spread_ring[phase]) * self.known[phase]
            mu[at] = value[at] + torch.einsum("bdkhw,dk->bdhw", near, value_ring)
            sigma[at] = (
                spread[at] + torch.einsum("bdkhw,dk->bdhw", near.abs(), spread_ring) + floor[:, phase, :, None, None]
            )
        return mu, sigma

    def forward(self, q: Tensor, noisy: Tensor, quality: Tensor) -> Tensor:
        mu, sigma = self.predict(q, quality)
        return logistic_bits(noisy - mu, sigma + 0.02).flatten(1).sum(1)


def logistic_bits(x: Tensor, s: Tensor) -> Tensor:
    """-log2 of the logistic mass within half a step of x."""
    a, b = (x + 0.5) / s, (x - 0.5) / s
    nats = F.logsigmoid(a) + F.logsigmoid(-b) + torch.log1p(-torch.exp(-1 / s) * (1 - 1e-6))
    return -nats / 0.6931471805599453


def interpolate(table: Float[Tensor, "anchors n"], quality: Float[Tensor, " b"]) -> Float[Tensor, "b n"]:
    """Rows of a table over qualities 1 to 100, linear between anchors."""
    at = (quality.clamp(1, 100) - 1) / 99 * (len(table) - 1)
    low = at.floor().clamp_max(len(table) - 2).long()
    t = (at - low)[:, None]
    return table[low] * (1 - t) + table[low + 1] * t
