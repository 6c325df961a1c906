from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from codomain.codecs.architecture import Architecture
from codomain.codecs.nerv_blocks import Block, ResidualBlock, TemporalAffine

A = Architecture((2, 2), (2,), (4, 6), (3,), (1,), time_width=5, hidden=7)


@pytest.mark.parametrize("hidden", [0, 7])
def test_affine_in_time(hidden: int) -> None:
    affine, f, z = TemporalAffine(5, hidden, 4), torch.randn(2, 4, 3, 3), torch.randn(2, 5)
    g, h = (net(z) for net in affine.net)
    if hidden:
        first, _, second = affine.net[0]
        g = F.relu(z @ first.weight.T + first.bias) @ second.weight.T + second.bias
    for b in range(2):
        for c in range(4):
            expected = f[b, c] * (1 + g[b, c]) + h[b, c]
            assert torch.allclose(affine(f, z)[b, c], expected, atol=1e-6)


def test_residual_block_is_the_formula() -> None:
    block, f, z = ResidualBlock(4, 5, 7), torch.randn(1, 4, 6, 5), torch.randn(1, 5)
    expected = f + block.outer(block.second(F.gelu(block.inner(block.first(f, z))), z))
    assert torch.allclose(block(f, z), expected)


def test_features_become_pixels() -> None:
    block = Block(Architecture((2, 2), (2,), (1, 1), (1,), (1,), block="plain", activation="sine"), 1, 1, 2, 1)
    with torch.no_grad():
        block.convolution.weight.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1, 1))
        block.convolution.bias.zero_()
    out = block(torch.ones(1, 1, 2, 2), None)
    assert torch.allclose(out[0, 0], torch.tensor([[0.1, 0.2], [0.3, 0.4]]).sin().repeat(2, 2))


@pytest.mark.parametrize("kind", ["plain", "boosted", "sandwich"])
@pytest.mark.parametrize(("inputs", "stride"), [(6, 1), (4, 2), (6, 3)])
def test_shapes_and_gradients(kind: str, inputs: int, stride: int) -> None:
    a = Architecture((2, 2), (2,), (4, 6), (3,), (1,), block=kind, time_width=5)
    block, f = Block(a, inputs, 6, stride, 5), torch.randn(2, inputs, 4, 5, requires_grad=True)
    out = block(f, torch.randn(2, 5))
    assert out.shape == (2, 6, 4 * stride, 5 * stride)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_the_sandwich_keeps_smooth_features() -> None:
    """With silent convolutions, what is left is the bilinear enlargement."""
    block = Block(Architecture((2, 2), (2,), (3, 3), (3,), (1,), block="sandwich"), 3, 3, 2, 3)
    with torch.no_grad():
        for p in block.parameters():
            p.zero_()
    f = torch.randn(1, 3, 4, 4)
    assert torch.allclose(block(f, None), F.interpolate(f, scale_factor=2, mode="bilinear"))
