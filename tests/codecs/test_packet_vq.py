from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.packet_vq import PacketVQ
from codomain.codecs.simvq import SimVQ


@pytest.fixture(scope="module")
def small() -> PacketVQ:
    torch.manual_seed(0)
    codec = PacketVQ(
        SimVQ(6, 64, n_classes=8), latent_dim=6, encoder_width=8, encoder_blocks=1, decoder_width=8, decoder_blocks=1,
        features=4, widths=(8, 4), refinements=(1, 1),
    )  # fmt: skip
    x = torch.nn.functional.avg_pool2d(torch.rand(4, 3, 128, 128) * 2 - 1, 5, 1, 2)
    codec.start(x)
    for net in (codec.encoder.net, *codec.decoder.refiner.nets):  # as after training: every convolution counts
        torch.nn.init.normal_(net.leave.weight, std=0.02)
    codec.eval().requires_grad_(False)
    codec.bottleneck.freeze_tables([codec.analysis(x)[0]])
    return codec


@pytest.mark.parametrize("size", [(1, 1), (37, 90), (64, 8)])
def test_any_size_comes_back(small: PacketVQ, size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size) * 2 - 1
    data = small.compress(x)
    assert small.decompress(data).shape == x.shape
    assert torch.equal(small.read_latents(data), small.encode(x))


def test_tiles_decode_to_the_whole(small: PacketVQ) -> None:
    y = small.encode(torch.rand(1, 3, 300, 260) * 2 - 1)
    assert torch.allclose(small.decode(y, tile=9), small.decode(y, tile=64), atol=1e-5)


def test_latents_do_not_depend_on_what_lies_beyond_the_halo(small: PacketVQ) -> None:
    assert small.analysis_halo is not None
    x = torch.rand(1, 3, 8, 400) * 2 - 1
    changed = x.clone()
    changed[..., 200:] = 0
    same = (small.analysis(x) == small.analysis(changed)).all(1)[0, 0]
    first = int(np.flatnonzero(~same.numpy())[0])
    assert 25 - small.analysis_halo <= first < 25


def test_it_starts_as_principal_components() -> None:
    codec = PacketVQ(SimVQ(12, 16), latent_dim=12)
    x = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 64, 64) * 2 - 1, 7, 1, 3)
    codec.start(x)
    y = codec.analysis(x)
    assert torch.allclose(codec.synthesis(y), codec.preview(y), atol=1e-5)
    covariance = torch.cov(y.movedim(1, 0).flatten(1))
    off = covariance - torch.diag(covariance.diag())
    assert off.abs().max() < 1e-3 * covariance.max()
    assert (codec.preview(y) - x).square().mean() < 0.6 * x.var()
