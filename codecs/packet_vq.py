"""PacketVQ: pictures as one index of a large codebook for each patch.

    x --wpt--> packets --1x1 + net--> y --vector quantizer--> y_hat --net, PacketRefiner--> packets --iwpt--> x_hat

Encoder and decoder start as the principal components of the packets, and their nets from nothing. Both see some patches
around theirs, no more: a tile with its halo gives what the whole picture does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.synthesis import PacketRefiner
from codomain.kernels.wpt import iwpt, reach, wpt
from jaxtyping import Float
from torch import Tensor, nn


class ResidualNet(nn.Module):
    """Convolutions of three taps: one in, ``blocks`` residual pairs, one out.

    Args:
        inputs, outputs: channels.
        width: features between.
        blocks: pairs.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2)) for _ in range(blocks)
        )
        self.leave = nn.Conv2d(width, outputs, 3, padding=1)
        self.halo = 2 * blocks + 2

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Return what the convolutions make of ``x``."""
        z = self.enter(x)
        for block in self.blocks:
            inner, outer = cast(nn.ModuleList, block)
            z = z + outer(F.relu(inner(F.relu(z))))
        leave: Tensor = self.leave(F.relu(z))
        return leave


class PacketEncoder(nn.Module):
    """Packets to latents: a linear map, and what a net adds that sees the patches around.

    Args:
        packets: channels in.
        latent_dim: channels out.
        width, blocks: of the net.
    """

    def __init__(self, packets: int, latent_dim: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(packets, latent_dim, 1)
        self.net = ResidualNet(packets, latent_dim, width, blocks)
        self.halo = self.net.halo

    def forward(self, packets: Float[Tensor, "b p h w"]) -> Float[Tensor, "b d h w"]:
        """Return latents."""
        y: Tensor = self.linear(packets) + self.net(packets)
        return y


class PacketDecoder(nn.Module):
    """Latents to packets: features of the patches around, and then the refiner of both.

    Args:
        latent_dim: channels in.
        features: that the net adds to them.
        width, blocks: of the net.
        widths, refinements: of the `PacketRefiner`, coarse to fine.
        channels, level: of the signal, and of its packets.
    """

    def __init__(
        self,
        latent_dim: int,
        features: int,
        width: int,
        blocks: int,
        widths: Sequence[int],
        refinements: Sequence[int],
        channels: int = 3,
        level: int = 3,
    ) -> None:
        super().__init__()
        self.net = ResidualNet(latent_dim, features, width, blocks)
        self.refiner = PacketRefiner(latent_dim + features, channels, 2, level, widths, refinements)
        assert self.refiner.halo is not None
        self.halo = self.net.halo + self.refiner.halo

    def forward(self, y_hat: Float[Tensor, "b d h w"]) -> Float[Tensor, "b p *finer"]:
        """Return packets of the refiner's level."""
        packets: Tensor = self.refiner(torch.cat((y_hat, self.net(y_hat)), 1))
        return packets


class PacketVQ(Codec):
    """A codec of pictures for vector quantizers.

    Args:
        bottleneck: quantizes the latents.
        latent_dim: their channels.
        encoder_width, encoder_blocks: of the encoder's net.
        decoder_width, decoder_blocks, features: of the decoder's net at the grid of the patches.
        widths, refinements: of the decoder's nets at finer grids.
        channels: of the signal.
        level: each halves the grid; a patch has ``2**level`` pixels on a side.
    """

    kind = "image"
    ndim = 2

    def __init__(
        self,
        bottleneck: Bottleneck,
        *,
        latent_dim: int,
        encoder_width: int = 96,
        encoder_blocks: int = 2,
        decoder_width: int = 128,
        decoder_blocks: int = 2,
        features: int = 64,
        widths: Sequence[int] = (96, 32),
        refinements: Sequence[int] = (2, 1),
        channels: int = 3,
        level: int = 3,
    ) -> None:
        super().__init__(bottleneck)
        self.channels, self.level, self.latent_dim, self.stride = channels, level, latent_dim, 1 << level
        self.encoder = PacketEncoder(channels << 2 * level, latent_dim, encoder_width, encoder_blocks)
        self.decoder = PacketDecoder(
            latent_dim, features, decoder_width, decoder_blocks, widths, refinements, channels, level
        )
        self.analysis_halo, self.synthesis_halo = reach(level) + self.encoder.halo, self.decoder.halo

    def analysis(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h8 w8"]:
        """Signal to unquantized latents; sides are multiples of ``2**level``."""
        y: Tensor = self.encoder(wpt(x, self.level))
        return y

    def synthesis(
        self, y_hat: Float[Tensor, "b d h8 w8"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Quantized latents to signal."""
        return iwpt(self.decoder(y_hat), self.decoder.refiner.level)

    def preview(self, y_hat: Float[Tensor, "b d h8 w8"]) -> Float[Tensor, "b c h w"]:
        """Quantized latents to signal by the linear part of the decoder alone."""
        linear = self.decoder.refiner.linear
        return iwpt(F.conv2d(y_hat, linear.weight[:, : self.latent_dim], linear.bias), self.level)

    @torch.no_grad()
    def start(self, x: Float[Tensor, "n c h w"], bpp: float | None = None) -> None:
        """Linear parts: the principal components of the packets, and their transpose; then the bottleneck.

        Args:
            x: sample signals; a few thousand patches in all are enough.
            bpp: not used: the codebook has one rate.
        """
        rows = wpt(x, self.level).movedim(1, -1).flatten(0, -2)
        mean, spread = rows.mean(0), rows.std(0)
        _, _, vt = torch.linalg.svd((rows - mean).T @ (rows - mean))
        basis = vt[: self.latent_dim]
        linear, guess = self.encoder.linear, self.decoder.refiner.linear
        assert linear.bias is not None and guess.bias is not None
        linear.weight.copy_(basis[:, :, None, None])
        linear.bias.copy_(-basis @ mean)
        guess.weight.zero_()
        guess.weight[:, : self.latent_dim].copy_(basis.T[:, :, None, None])
        guess.bias.copy_(mean)
        nn.init.zeros_(self.encoder.net.leave.weight)
        nn.init.zeros_(self.encoder.net.leave.bias)  # type: ignore[arg-type]
        self.encoder.net.enter.weight.div_(spread[:, None, None])  # packets are far from equally large
        y = self.analysis(x)
        self.decoder.net.enter.weight.div_(y.std((0, 2, 3))[:, None, None])
        self.bottleneck.start(y)
