from __future__ import annotations

import pytest
import torch
from codomain.tasks.isotropic import Isotropic


@pytest.mark.parametrize(
    ("channels", "patch", "space", "tokens"),
    [(12, 2, (24, 32), (12, 16)), (3, 16, (192, 256), (12, 16)), (3, 4, (47, 64), (12, 16)), (8, 4, (101,), (26,))],
)
def test_one_network_for_every_input(
    channels: int, patch: int, space: tuple[int, ...], tokens: tuple[int, ...]
) -> None:
    net = Isotropic(channels, patch, width=16, depth=2, ndim=len(space)).eval()
    assert net(torch.randn(2, channels, *space)).shape == (2, 16, *tokens)
    rest = sum(p.numel() for name, p in net.named_parameters() if not name.startswith("enter"))
    kernel = 5 ** len(space)
    assert rest == 2 * 16 + 2 * (16 * kernel + 16 + 32 + 16 * 32 + 32 + 32 * 16 + 16 + 16)


def test_blocks_are_dropped_in_training_alone() -> None:
    net = Isotropic(3, 4, width=8, depth=2, drop=1.0 - 1e-6)
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(net.eval()(x), net(x))
    entered = net.norm(net.enter(x).movedim(1, -1)).movedim(-1, 1)
    assert not torch.allclose(net(x), entered)
    net.train()
    assert all(torch.equal(net.blocks[1](entered), entered) for _ in range(3))
