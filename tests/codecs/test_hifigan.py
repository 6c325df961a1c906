from __future__ import annotations

import torch
from codomain.codecs.hifigan import ConvolutionalEncoder, HiFiGenerator


def test_encoder_gives_a_latent_for_each_stride() -> None:
    encoder = ConvolutionalEncoder(latent_dim=24, width=4)
    assert encoder(torch.randn(2, 1, 320 * 7)).shape == (2, 24, 7)
    encoder = ConvolutionalEncoder(latent_dim=24, strides=(2, 3, 5, 8), kernels=(4, 7, 11, 16), width=4)
    assert encoder(torch.randn(1, 1, 240 * 5)).shape == (1, 24, 5)


def test_published_sizes() -> None:
    """V1's generator has 13.92 million parameters with 80 inputs; weight norm adds one number per channel."""
    generator = HiFiGenerator(latent_dim=80, strides=(8, 8, 2, 2), kernels=(16, 16, 4, 4))
    weights = sum(p.numel() for n, p in generator.named_parameters() if not n.endswith("original0"))
    assert 13.92 <= weights / 1e6 < 13.93


def test_halo_of_the_generator_holds() -> None:
    generator = HiFiGenerator(latent_dim=6, width=16).requires_grad_(False)
    for parameter in generator.parameters():
        parameter.mul_(5)  # so that far latents count
    y, halo = torch.randn(1, 6, 50), generator.halo
    assert halo is not None
    whole = generator(y)
    assert whole.shape == (1, 1, 50 * 320)
    whole = whole[..., 20 * 320 : 30 * 320]
    part = generator(y[..., 20 - halo : 30 + halo])[..., halo * 320 : (halo + 10) * 320]
    assert (whole - part).abs().max() < 1e-5
    y[..., : 20 - halo] = 0
    assert torch.equal(generator(y)[..., 20 * 320 : 30 * 320], whole)


def test_normalised_blocks_see_all_of_time() -> None:
    encoder = ConvolutionalEncoder(latent_dim=8, width=4).requires_grad_(False)
    x = torch.randn(1, 1, 320 * 200)
    y = encoder(x)[..., :5]
    x[..., -320:] *= 10
    assert not torch.equal(encoder(x)[..., :5], y)
    assert encoder.halo is None
