"""WaLLoC: wavelet packets, one linear layer, a bottleneck, a deep decoder.

    x --wpt--> packets --1x1--> y --bottleneck--> y_hat --decoder--> packets --iwpt--> x_hat

Source: Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025. Here the boundary
is symmetric, the rate is part of the loss, and the decoder may be local.
"""

from __future__ import annotations

import torch
from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.oobleck import OobleckDecoder
from codomain.codecs.synthesis import AttentionDecoder, PacketRefiner, convolution
from codomain.kernels.analysis import analyse, takes
from codomain.kernels.wpt import Mode, iwpt, reach, wpt
from jaxtyping import Float, Int32, Shaped
from torch import Tensor


class WaLLoC(Codec):
    """A codec whose encoder is cheap enough for a sensor.

    Args:
        bottleneck: quantizes and prices the latents.
        decoder: maps latents to wavelet packets of ``decoder.level`` levels; of 0, to the signal.
        channels: signal channels (3 for RGB, 2 for stereo).
        ndim: 1 for sound, 2 for images.
        level: wavelet packet levels; each divides every axis by two.
        latent_dim: latent channels.
        wavelet, mode: as for `wpt`.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        decoder: PacketRefiner | AttentionDecoder | OobleckDecoder,
        *,
        channels: int,
        ndim: int,
        level: int,
        latent_dim: int,
        wavelet: str = "bior4.4",
        mode: Mode = "symmetric",
    ) -> None:
        super().__init__(bottleneck)
        self.kind = "sound" if ndim == 1 else "image"
        self.channels, self.ndim, self.level, self.latent_dim = channels, ndim, level, latent_dim
        self.stride = 1 << level
        self.analysis_halo = None if mode == "periodization" else reach(level, wavelet)
        self.synthesis_halo = None if mode == "periodization" else decoder.halo
        self.wavelet, self.mode = wavelet, mode
        self.encoder = convolution(ndim)(channels << (level * ndim), latent_dim, 1)
        self.decoder = decoder

    def analysis(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *grid"]:
        """Signal to unquantized latents: a linear map; sides are multiples of ``2**level``."""
        y: Tensor = self.encoder(wpt(x, self.level, self.wavelet, self.mode))
        return y

    def symbols(self, x: Shaped[Tensor, "b c *space"], index: int) -> Int32[Tensor, "b d *grid"]:
        """Signal to integers; of pictures without a float copy of them."""
        steps, x = self.bottleneck.steps(index), x.to(self.device)
        if steps is None or not takes(x, self.latent_dim, self.level, self.wavelet):
            return super().symbols(x, index)
        assert self.encoder.bias is not None
        weight = self.encoder.weight.flatten(1) / steps[:, None]
        return analyse(x, weight, self.encoder.bias / steps, self.level, self.wavelet, self.mode)

    def in_one_pass(self, x: Shaped[Tensor, "b c *space"], index: int) -> bool:
        """Whether `analyse` makes the integers: a signal's are the same in every batch."""
        return self.bottleneck.steps(index) is not None and takes(
            x[:1].to(self.device), self.latent_dim, self.level, self.wavelet
        )

    def synthesis(
        self, y_hat: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c *space"]:
        """Quantized latents to signal."""
        return iwpt(self.decoder(y_hat, quality), self.decoder.level, self.wavelet, self.mode)

    def preview(self, y_hat: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b c *space"]:
        """Quantized latents to signal by the linear part of the decoder alone.

        Raises:
            ValueError: if the decoder has none.
        """
        if not isinstance(self.decoder, PacketRefiner):
            raise ValueError(f"{type(self.decoder).__name__} has no linear part to decode fast with")
        return iwpt(self.decoder.linear(y_hat), self.level, self.wavelet, self.mode)

    @torch.no_grad()
    def start(self, x: Float[Tensor, "n c *space"], bpp: float | None = None) -> None:
        """Encoder: the principal components of the packets. Linear part of the decoder: their transpose.

        Args:
            x: sample signals; a few thousand latent positions in all are enough.
            bpp: starting rate in bits per pixel or sample frame.
        """
        packets = wpt(x, self.level, self.wavelet, self.mode).movedim(1, -1).flatten(0, -2)  # (n, packets)
        mean = packets.mean(0)
        _, _, vt = torch.linalg.svd((packets - mean).T @ (packets - mean))
        basis = vt[: self.latent_dim]
        self.encoder.weight.copy_(basis.reshape(self.encoder.weight.shape))
        assert self.encoder.bias is not None
        self.encoder.bias.copy_(-basis @ mean)
        if isinstance(self.decoder, PacketRefiner):
            self.decoder.linear.weight.copy_(basis.T.reshape(self.decoder.linear.weight.shape))
            assert self.decoder.linear.bias is not None
            self.decoder.linear.bias.copy_(mean)
        per_position = None if bpp is None else bpp * 2.0 ** (self.level * self.ndim)
        self.bottleneck.start(self.analysis(x), per_position)
