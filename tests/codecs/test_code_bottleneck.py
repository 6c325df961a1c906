from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.code_bottleneck import kmeans
from codomain.codecs.coder import BitstreamError
from codomain.codecs.simvq import SimVQ


def test_kmeans_finds_clusters_that_lie_apart() -> None:
    centres = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]])
    x = centres.repeat_interleave(50, 0) + 0.1 * torch.randn(200, 2)
    found, sizes = kmeans(x, 8)
    assert float(sizes.sum()) == 200
    assert (torch.cdist(centres, found).min(1).values < 0.2).all()
    assert torch.equal(found, kmeans(x, 8)[0])


def test_fewer_vectors_than_centres() -> None:
    book, sizes = kmeans(torch.randn(3, 2), 8)
    assert book.shape == (8, 2)
    assert torch.isfinite(book).all()
    assert float(sizes.sum()) == 3


def test_planes_of_codes_come_back_and_smooth_ones_cost_less() -> None:
    quantizer = SimVQ(2, 256, n_classes=16)
    ramp = torch.stack(torch.meshgrid(torch.linspace(-2, 2, 40), torch.linspace(-2, 2, 40), indexing="ij"))[None]
    noise = torch.randn(1, 2, 40, 40)
    quantizer.start(torch.cat((ramp, noise)))
    quantizer.eval().freeze_tables([ramp[0], noise[0]])
    sizes = []
    for y in (ramp, noise):
        symbols = quantizer.to_symbols(y)[0].numpy()
        (data,) = quantizer.encode(symbols)
        assert np.array_equal(quantizer.decode([data], (40, 40)), symbols)
        sizes.append(len(data))
    assert sizes[0] < 0.8 * sizes[1] < 0.9 * 1600
    with pytest.raises(BitstreamError):
        quantizer.decode([data[:-2]], (40, 40))


def test_classes_fit_a_byte() -> None:
    with pytest.raises(ValueError, match="1 to 256; found 257"):
        SimVQ(2, 512, n_classes=257)
