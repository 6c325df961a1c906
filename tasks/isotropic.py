"""Isotropic: a small network of one resolution, the same for every input but its first layer.

    x --patch x patch convolution--> tokens --blocks--> tokens

A block is a depthwise convolution, LayerNorm, and two 1x1 convolutions around a GELU, added to what it was given.

Source: Trockman and Kolter, "Patches Are All You Need?", 2022; Liu et al., "A ConvNet for the 2020s", 2022, isotropic
models of section 3.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from codomain.codecs.synthesis import convolution
from jaxtyping import Float
from torch import Tensor, nn


class Isotropic(nn.Module):
    """Signals, or latents, to tokens.

    Args:
        channels: of the input.
        patch: positions of the input per token, along each axis.
        width: of a token.
        depth: blocks.
        kernel: of the depthwise convolutions, tokens.
        expand: width of a block's middle over ``width``.
        drop: share of training signals that pass by the last block; of the others fewer, in proportion.
        ndim: axes after batch and channel.
    """

    def __init__(
        self,
        channels: int,
        patch: int,
        width: int = 96,
        depth: int = 6,
        kernel: int = 5,
        expand: int = 2,
        drop: float = 0.1,
        ndim: int = 2,
    ) -> None:
        super().__init__()
        self.patch, self.width, self.ndim = patch, width, ndim
        self.enter = convolution(ndim)(channels, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, kernel, expand, drop * (i + 1) / depth, ndim) for i in range(depth))

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b w *tokens"]:
        """Return the tokens; a side that is no multiple of ``patch`` is extended by zeros."""
        lacking = [-n % self.patch for n in x.shape[2:]]
        if any(lacking):
            x = F.pad(x, [m for n in reversed(lacking) for m in (0, n)])
        if self.ndim == 2:
            x = x.contiguous(memory_format=torch.channels_last)
        tokens: Tensor = self.enter(x)
        tokens = self.norm(tokens.movedim(1, -1)).movedim(-1, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class _Block(nn.Module):
    def __init__(self, width: int, kernel: int, expand: int, drop: float, ndim: int) -> None:
        super().__init__()
        self.mix = convolution(ndim)(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, expand * width), nn.Linear(expand * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.drop = drop

    def forward(self, x: Float[Tensor, "b w *tokens"]) -> Float[Tensor, "b w *tokens"]:
        change: Tensor = self.norm(self.mix(x).movedim(1, -1))
        change = self.scale * self.down(F.gelu(self.up(change), approximate="tanh"))
        if self.training and self.drop:
            kept = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) >= self.drop
            change = change * kept / (1 - self.drop)
        return x + change.movedim(-1, 1)
