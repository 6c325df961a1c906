"""Decoders: latents to wavelet packets. A codec is given one; `level` says which packets it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import cast

import torch
import torch.nn.functional as F
from codomain.kernels.wpt import Mode, iwpt, reach
from jaxtyping import Float
from torch import Tensor, nn


def convolution(ndim: int) -> type[nn.Conv1d] | type[nn.Conv2d]:
    """Return torch's convolution for one or two dimensions."""
    return nn.Conv1d if ndim == 1 else nn.Conv2d


class PacketRefiner(nn.Module):
    """A local decoder: a linear guess of the packets, refined on finer and finer grids.

        y_hat --1x1--> packets --iwpt--> packets + net --iwpt--> packets + net ...

    One level of the packet tree is undone before every net, so a net's weights are shared over more
    positions than the latents have. No normalisation, no attention: an output depends on the latents within
    `halo` alone, so tiled decoding equals whole decoding.

    Args:
        latent_dim: channels of the latents.
        channels: channels of the signal.
        ndim: 1 for sound, 2 for images.
        level: packet levels of the linear guess.
        widths: features of the net at each grid, coarse to fine.
        blocks: residual blocks of each net; a block is two convolutions of three taps.
        wavelet, mode: as for `wpt`.
        rates: whether the nets are told the quality: a gain and a shift per feature, quadratic in it (Perez et al.,
            "FiLM", 2018).
    """

    def __init__(
        self,
        latent_dim: int,
        channels: int,
        ndim: int,
        level: int = 3,
        widths: Sequence[int] = (96, 32),
        blocks: Sequence[int] = (2, 1),
        wavelet: str = "bior4.4",
        mode: Mode = "symmetric",
        rates: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < len(widths) == len(blocks) <= level:
            raise ValueError(
                f"widths and blocks name the same 1 to {level} grids; found {len(widths)} and {len(blocks)}"
            )
        self.ndim, self.wavelet, self.mode = ndim, wavelet, mode
        self.level = level - len(widths)
        self.linear = convolution(ndim)(latent_dim, channels << (level * ndim), 1)
        self.nets = nn.ModuleList()
        carried = 0
        for i, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            bands = channels << ((level - 1 - i) * ndim)
            self.nets.append(_PacketNet(bands, carried >> ndim, width, depth, ndim, rates))
            carried = width
        # how far an output looks, in latents: one position of a finer and finer grid per convolution
        looks = [reach(1, wavelet) * 2.0**-i + (2 * depth + 2) * 2.0 ** -(i + 1) for i, depth in enumerate(blocks)]
        self.halo: int | None = ceil(sum(looks) + reach(self.level, wavelet) * 2.0 ** -len(widths))

    def forward(
        self, y_hat: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b packets *finer"]:
        """Return packets of `level` levels."""
        packets: Tensor = self.linear(y_hat)
        features: Tensor | None = None
        for net in self.nets:
            packets = iwpt(packets, 1, self.wavelet, self.mode)
            if features is not None:
                features = shuffle(features, self.ndim)
            packets, features = net(packets, features, quality)
        return packets


class _PacketNet(nn.Module):
    def __init__(self, bands: int, carried: int, width: int, depth: int, ndim: int, rates: bool) -> None:
        super().__init__()
        conv = convolution(ndim)
        self.enter = conv(bands + carried, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([conv(width, width, 3, padding=1), conv(width, width, 3, padding=1)]) for _ in range(depth)
        )
        self.leave = conv(width, bands, 3, padding=1)
        self.modulate = nn.Linear(2, 4 * width) if rates else None
        for last in (self.leave, self.modulate):  # training starts at the linear guess, and with one decoder for all
            if last is not None:
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, packets: Tensor, features: Tensor | None, quality: Tensor | None) -> tuple[Tensor, Tensor]:
        z = self.enter(packets if features is None else torch.cat((packets, features), 1))
        first, last = self._modulations(quality, z)
        z = first(z)
        for block in self.blocks:
            inner, outer = cast(nn.ModuleList, block)
            z = z + outer(F.relu(inner(F.relu(z))))
        return packets + self.leave(F.relu(last(z))), z

    def _modulations(self, quality: Tensor | None, z: Tensor) -> tuple[Callable[[Tensor], Tensor], ...]:
        if self.modulate is None:
            return (lambda z: z, lambda z: z)
        if quality is None:
            raise ValueError("this decoder needs to know the quality of its latents")
        t = (quality - 50) / 50
        both = self.modulate(torch.stack((t, t * t), 1)).reshape(len(z), -1, *[1] * (z.dim() - 2)).chunk(4, 1)
        return tuple(
            lambda z, gain=gain, shift=shift: z * (1 + gain) + shift
            for gain, shift in zip(both[::2], both[1::2], strict=True)
        )


def shuffle(x: Float[Tensor, "b c *grid"], ndim: int) -> Float[Tensor, "b s *finer"]:
    """Move channels into a grid twice as fine on every axis."""
    if ndim == 2:
        return F.pixel_shuffle(x, 2)
    b, c, n = x.shape
    return x.reshape(b, c // 2, 2, n).transpose(2, 3).reshape(b, c // 2, 2 * n)


class AttentionDecoder(nn.Module):
    """The decoder of the WaLLoC paper: a KL-VAE decoder block without upsampling, and one global attention.

        conv - res - attention - res - res - res - res - norm, SiLU, conv

    56.9 million parameters at width 768. Not local: it sees the whole picture at once.
    Source: Jacobellis and Yadwadkar 2024; the blocks are those of Rombach et al. 2022.

    Args:
        latent_dim: channels of the latents.
        channels: channels of the signal.
        level: packet levels, all of which it returns.
        width: features.
    """

    halo: int | None = None

    def __init__(self, latent_dim: int, channels: int, level: int = 3, width: int = 768) -> None:
        super().__init__()
        self.level = level
        self.enter = nn.Conv2d(latent_dim, width, 3, padding=1)
        self.middle = nn.Sequential(_ResBlock(width), _Attention(width), _ResBlock(width))
        self.blocks = nn.Sequential(*(_ResBlock(width) for _ in range(3)))
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.leave = nn.Conv2d(width, channels << (2 * level), 3, padding=1)

    def forward(
        self, y_hat: Float[Tensor, "b d h w"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b packets h w"]:
        """Return packets of `level` levels."""
        z = self.blocks(self.middle(self.enter(y_hat)))
        packets: Tensor = self.leave(F.silu(self.norm(z)))
        return packets


class _ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(32, width, eps=1e-6) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        z = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            z = conv(F.silu(norm(z)))
        return x + z


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)[:, None]  # one head: (b, 1, h w, width)
        z = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        z = cast(Tensor, self.out(z))[:, 0].transpose(1, 2).reshape(x.shape)
        return x + z
