"""FrameEncoder: makes the embeddings of a video network from its frames, while it is fitted.

    frame --patches--> stage --patches--> ... --> embedding                      strides of the decoder
    stage  x + scale * pointwise(gelu(pointwise(norm(depthwise(x)))))            ConvNeXt, 7 x 7 taps, 4 times as wide

It is thrown away: a file holds the embeddings. What it is for: a step of it moves the embeddings of all frames, where
a step of the embeddings alone moves those of the frames that it saw.

Sources: Chen et al., "HNeRV: A hybrid neural representation for videos", 2023; Liu et al., "A ConvNet for the 2020s",
2022.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from codomain.codecs.architecture import Architecture
from jaxtyping import Float
from torch import Tensor, nn

TAPS = 7
SCALE = 1e-6  # of what a stage adds, at the start


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of every place."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """One block of ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, TAPS, padding=TAPS // 2, groups=channels)
        self.norm = ChannelNorm(channels, eps=1e-6)
        self.inner, self.outer = nn.Conv2d(channels, 4 * channels, 1), nn.Conv2d(4 * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), SCALE))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features."""
        out: Tensor = x + self.scale * self.outer(F.gelu(self.inner(self.norm(self.depthwise(x)))))
        return out


class FrameEncoder(nn.Module):
    """Frames to embeddings.

    Args:
        a: of the network that has the embeddings.
        width: channels of all stages but the last, which has an embedding's.
    """

    def __init__(self, a: Architecture, width: int) -> None:
        super().__init__()
        self.size = a.size
        strides = (a.strides[0] * (2 if a.head == "yuv420" else 1), *a.strides[1:])
        channels = (3, *[width] * (len(strides) - 1), a.embedding)
        layers: list[nn.Module] = []
        for stride, (inputs, outputs) in zip(strides, pairwise(channels), strict=True):
            patches = nn.Conv2d(inputs, outputs, stride, stride)
            norm = ChannelNorm(outputs if not layers else inputs, eps=1e-6)
            layers += [norm, patches] if layers else [patches, norm]
            layers.append(ConvNextBlock(outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e gh gw"]:
        """Return the embeddings of frames in [-1, 1], which are continued to the network's size."""
        right, below = self.size[1] - x.shape[3], self.size[0] - x.shape[2]
        made: Tensor = self.layers(F.pad(x, (0, right, 0, below), mode="replicate"))
        return made
