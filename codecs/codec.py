"""Codec: analysis -> bottleneck -> synthesis, and what all codecs share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codomain.codecs.bottleneck import Bottleneck


class CodecOutput(NamedTuple):
    """One training forward pass."""

    x_hat: Float[Tensor, "b c *space"]
    y_hat: Float[Tensor, "b d *grid"]
    bits: Float[Tensor, ""]  # of the whole batch
    loss: Float[Tensor, ""]  # the bottleneck's own


class Codec(nn.Module):
    """A signal to latents, to bytes, and back. Subclasses give `analysis` and `synthesis`."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def analysis(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *grid"]:
        """Signal to unquantized latents (g_a)."""
        raise NotImplementedError

    def synthesis(self, y_hat: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b c *space"]:
        """Quantized latents to signal (g_s)."""
        raise NotImplementedError

    def start(self, x: Float[Tensor, "n c *space"], bpp: float | None = None) -> None:
        """Set the parameters from sample signals before training, at about ``bpp`` bits per position."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b c *space"]) -> CodecOutput:
        """Code differentiably, for training."""
        y_hat, bits, loss = self.bottleneck(self.analysis(x))
        return CodecOutput(self.synthesis(y_hat), y_hat, bits, loss)
