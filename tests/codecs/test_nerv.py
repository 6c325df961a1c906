from __future__ import annotations

from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from codomain.codecs.architecture import Architecture
from codomain.codecs.nerv import VideoNetwork, sized

A = Architecture((2, 3), (3, 2), (10, 8, 7), (1, 3), (2, 1), knot=4, time_levels=6, time_base=125, time_width=5)


@pytest.mark.parametrize("block", ["plain", "boosted", "sandwich"])
@pytest.mark.parametrize("embedding", [0, 4])
@pytest.mark.parametrize("head", ["rgb", "yuv420"])
def test_shapes(block: str, embedding: int, head: str) -> None:
    a = replace(A, block=block, embedding=embedding, head=head)
    network = VideoNetwork(a, 9)
    x_hat = network(torch.tensor([0.0, 3.5, 8.0]))
    assert x_hat.shape == (3, 3, *a.size)
    assert a.size == {"rgb": (12, 18), "yuv420": (24, 36)}[head]
    assert (x_hat[0] - x_hat[1]).abs().max() > 1e-4


def test_encoding_of_time() -> None:
    t = np.array([0, 2.5, 8])
    angles = (t[:, None] + 1) / 9 * 1.25 ** np.arange(6) * pi
    found = VideoNetwork(A, 9).encoded(torch.from_numpy(t).float())
    np.testing.assert_allclose(found.numpy(), np.concatenate((np.sin(angles), np.cos(angles)), 1), atol=1e-6)


def test_embeddings_are_exact_at_knots_and_linear_between() -> None:
    network = VideoNetwork(A, 10)
    held = network.embeddings.detach()
    assert len(held) == 4
    with torch.no_grad():
        assert torch.equal(network.embedded(torch.tensor([0.0, 4.0, 8.0])), held[:3])
        found = network.embedded(torch.tensor([1.0, 6.0, 9.0]))
    assert torch.allclose(found[0], 0.75 * held[0] + 0.25 * held[1])
    assert torch.allclose(found[1], 0.5 * held[1] + 0.5 * held[2])
    assert torch.allclose(found[2], 0.75 * held[2] + 0.25 * held[3])


def test_one_frame() -> None:
    network = VideoNetwork(A, 1)
    assert network.embeddings.shape == (1, 16, 2, 3)
    assert torch.equal(network.embedded(torch.zeros(1)), network.embeddings)
    assert network(torch.zeros(1)).isfinite().all()


def test_other_embeddings_in_place_of_those_held() -> None:
    network, t = VideoNetwork(A, 9), torch.tensor([4.0])
    assert torch.equal(network(t, network.embeddings[1:2]), network(t))
    assert not torch.allclose(network(t, network.embeddings[2:3]), network(t))


def test_planes_of_luma_and_chroma() -> None:
    f = torch.randn(1, 6, 4, 5)
    x = VideoNetwork(A, 2).to_frames(f)
    luma = torch.stack(
        [torch.stack([f[0, 0], f[0, 1]], 2).flatten(1), torch.stack([f[0, 2], f[0, 3]], 2).flatten(1)], 1
    )
    cb, cr = F.interpolate(f[:, 4:], scale_factor=2, mode="bilinear")[0]
    y = luma.reshape(8, 10)
    assert torch.allclose(x[0, 0], y + 1.402 * cr, atol=1e-5)
    assert torch.allclose(x[0, 1], y - 0.344136 * cb - 0.714136 * cr, atol=1e-5)
    assert torch.allclose(x[0, 2], y + 1.772 * cb, atol=1e-5)
    assert torch.allclose(0.299 * x[0, 0] + 0.587 * x[0, 1] + 0.114 * x[0, 2], y, atol=1e-4)


def test_the_widest_of_so_many_parameters() -> None:
    found = sized(A, 9, 20_000, 1.3, 6)
    wider = A.widened(found.channels[0] + 1, 1.3, 6)
    assert found.n_parameters(9) <= 20_000 < wider.n_parameters(9)
    with pytest.raises(ValueError, match=r"the smallest such network has \d+ parameters; found room for 100"):
        sized(A, 9, 100, 1.3, 6)
