"""Blocks of video networks: enlarge features, and fit them to the frame.

    plain     act(PS(conv(f)))                                                   NeRV
    boosted   sin(PS(conv(f))), then f + conv(TAT(gelu(conv(TAT(f)))))           HNeRV-Boost
    sandwich  sep(f), act(PS(conv(f))) + bilinear(f), sep(f)                     NeRV++
    TAT(f)    f * (1 + g(z)) + h(z), of the time alone, equal over the picture

Sources: Chen et al., "NeRV", 2021; Zhang et al., "Boosting neural representations for videos with a conditional
decoder", 2024, equations 3 to 6; Ghorbel and Hamidouche, "NeRV++", 2024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from codomain.codecs.architecture import Architecture
from jaxtyping import Float
from torch import Tensor, nn


class Sine(nn.Module):
    """The sine."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sin(x)."""
        return x.sin()


ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "silu": nn.SiLU, "sine": Sine}


class TemporalAffine(nn.Module):
    """Factors and offsets of features, of the time alone (TAT).

    Args:
        width: numbers that stand for the time.
        hidden: between them and the factors; 0 for a linear map.
        channels: of the features.
    """

    def __init__(self, width: int, hidden: int, channels: int) -> None:
        super().__init__()
        if hidden:
            self.net = nn.ModuleList(
                nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, channels)) for _ in range(2)
            )
        else:
            self.net = nn.ModuleList(nn.Linear(width, channels) for _ in range(2))

    def forward(self, f: Float[Tensor, "b c h w"], z: Float[Tensor, "b z"]) -> Float[Tensor, "b c h w"]:
        """Return ``f (1 + g(z)) + h(z)``."""
        factor, offset = (net(z)[:, :, None, None] for net in self.net)
        return torch.addcmul(offset, f, 1 + factor)


class ResidualBlock(nn.Module):
    """Two convolutions, each of features that the time has scaled."""

    def __init__(self, channels: int, width: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = (TemporalAffine(width, hidden, channels) for _ in range(2))
        self.inner, self.outer = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, f: Float[Tensor, "b c h w"], z: Float[Tensor, "b z"]) -> Float[Tensor, "b c h w"]:
        """Return the features."""
        inner = F.gelu(self.inner(self.first(f, z)))
        outer: Tensor = f + self.outer(self.second(inner, z))
        return outer


class SeparableBlock(nn.Module):
    """``x + act(pointwise(depthwise(x)))``."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, f: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features."""
        out: Tensor = f + self.activation(self.pointwise(self.depthwise(f)))
        return out


class Block(nn.Module):
    """One enlargement.

    Args:
        a: whose.
        inputs, outputs: channels.
        stride: of the enlargement; 1 for none.
        kernel: taps.
    """

    def __init__(self, a: Architecture, inputs: int, outputs: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(inputs, outputs * stride**2, kernel, padding=kernel // 2)
        self.activation = ACTIVATIONS[a.activation]()
        self.residual = ResidualBlock(outputs, a.time_width, a.hidden) if a.block == "boosted" else None
        self.before = self.after = self.skip = None
        if a.block == "sandwich":
            self.before, self.after = SeparableBlock(inputs, a.activation), SeparableBlock(outputs, a.activation)
            self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, f: Float[Tensor, "b i h w"], z: Float[Tensor, "b z"] | None) -> Float[Tensor, "b o hs ws"]:
        """Return the enlarged features."""
        if self.before is not None:
            f = self.before(f)
        out: Tensor = self.activation(F.pixel_shuffle(self.convolution(f), self.stride))
        if self.skip is not None:
            wide = self.skip(f)
            if self.stride > 1:
                wide = F.interpolate(wide, scale_factor=self.stride, mode="bilinear")
            out = out + wide
        if self.after is not None:
            out = self.after(out)
        if self.residual is not None:
            assert z is not None
            out = self.residual(out, z)
        return out
