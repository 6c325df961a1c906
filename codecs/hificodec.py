"""HiFi-Codec: speech as a few codebook indices per frame.

    x --encoder--> y --group-residual VQ--> y_hat --decoder--> x_hat

Parts are passed in: `codecs/hifigan.py` has those of the paper, `codecs/spectral.py` those that two cores run fast.

Source: Yang et al., "HiFi-Codec: Group-residual vector quantization for high fidelity audio codec", 2023.
"""

from __future__ import annotations

from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.hifigan import ConvolutionalEncoder, HiFiGenerator
from codomain.codecs.spectral import SpectralDecoder, SpectralEncoder
from jaxtyping import Float
from torch import Tensor


class HiFiCodec(Codec):
    """One channel of sound to vectors, a few hundred samples each, and back.

    Args:
        bottleneck: quantizes and prices the latents.
        encoder: maps samples to latents.
        decoder: maps latents to samples.
        sample_rate: Hz, of the sound that the weights are made for.
        latent_dim: channels of the latents.
        stride: samples per latent.
    """

    kind = "sound"
    channels = 1
    ndim = 1

    def __init__(
        self,
        bottleneck: Bottleneck,
        encoder: SpectralEncoder | ConvolutionalEncoder,
        decoder: SpectralDecoder | HiFiGenerator,
        *,
        sample_rate: int,
        latent_dim: int,
        stride: int = 320,
    ) -> None:
        super().__init__(bottleneck)
        self.sample_rate, self.latent_dim, self.stride = sample_rate, latent_dim, stride
        self.encoder, self.decoder = encoder, decoder
        self.analysis_halo, self.synthesis_halo = encoder.halo, decoder.halo

    def analysis(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d n"]:
        """Signal to unquantized latents; t is a multiple of `stride`."""
        y: Tensor = self.encoder(x)
        return y

    def synthesis(
        self, y_hat: Float[Tensor, "b d n"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b 1 t"]:
        """Quantized latents to signal."""
        x_hat: Tensor = self.decoder(y_hat)
        return x_hat

    def start(self, x: Float[Tensor, "n 1 t"], bpp: float | None = None) -> None:
        """Start the bottleneck from the latents of samples; the networks start at random, as they were made."""
        self.bottleneck.start(self.analysis(x))
