from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from codomain.codecs.architecture import Architecture
from codomain.codecs.nerv_encoder import ChannelNorm, ConvNextBlock, FrameEncoder

A = Architecture((2, 3), (3, 2), (10, 8, 7), (1, 3), (1, 1), embedding=5, time_levels=6, time_width=5)


@pytest.mark.parametrize("head", ["rgb", "yuv420"])
@pytest.mark.parametrize("strides", [(3, 2), (2,), (5, 2, 2)])
def test_an_embedding_of_every_frame(head: str, strides: tuple[int, ...]) -> None:
    a = replace(A, head=head, strides=strides)
    encoder = FrameEncoder(a, 12)
    x = torch.rand(2, 3, a.size[0] - 1, a.size[1] - 2) * 2 - 1
    y = encoder(x)
    assert y.shape == (2, 5, 2, 3)
    assert 0.1 < y.std() < 2
    assert torch.allclose(encoder(x[1:]), y[1:], atol=1e-6)


def test_a_place_sees_its_pixels_and_those_around() -> None:
    encoder, x = FrameEncoder(A, 12), torch.rand(1, 3, 24, 36)
    other = x.clone()
    other[..., :12, :12] += 0.5
    change = (encoder(other) - encoder(x)).abs().amax((0, 1))
    assert change[0, 0] > 1e-3 > change[1, 2]


def test_norm_is_over_channels() -> None:
    y = ChannelNorm(6)(torch.randn(2, 6, 4, 5) * 3 + 1)
    assert torch.allclose(y.mean(1), torch.zeros(2, 4, 5), atol=1e-5)
    assert torch.allclose(y.var(1, correction=0), torch.ones(2, 4, 5), atol=1e-3)


def test_a_block_is_nearly_nothing_at_the_start() -> None:
    block, x = ConvNextBlock(6), torch.randn(1, 6, 4, 5)
    assert 0 < (block(x) - x).abs().max() < 1e-4
    assert sum(p.numel() for p in block.parameters()) == 6 * 50 + 2 * 6 + 7 * 24 + 25 * 6 + 6
