from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs import peers
from codomain.kernels.vq import nearest_code, residual_codes
from codomain.kernels.wpt import wpt


def test_a_missing_package_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.is_installed("torch")
    assert not peers.is_installed("no_such_package")
    assert capsys.readouterr().out == "no_such_package is not installed: left out\n"


def test_packets_are_those_of_pytorch_wavelets() -> None:
    pytest.importorskip("pytorch_wavelets")
    split, merge = peers.pytorch_wavelets()
    x = torch.rand(1, 3, 160, 192)
    assert torch.allclose(split(x), wpt(x, 3, mode="periodization"), atol=1e-5)
    assert torch.allclose(merge(split(x)), x, atol=1e-5)


def test_codes_are_those_of_vector_quantize_pytorch() -> None:
    pytest.importorskip("vector_quantize_pytorch")
    x, books = torch.randn(200, 8), torch.randn(3, 64, 8)
    with torch.inference_mode():
        assert torch.equal(peers.vector_quantize_pytorch(x, books[0])(), nearest_code(x, books[0]))
        assert torch.equal(peers.vector_quantize_pytorch(x, books)(), residual_codes(x, books)[0])


def test_packets_are_those_of_ptwt_and_pywavelets() -> None:
    pytest.importorskip("ptwt")
    x = torch.rand(1, 3, 80, 96)
    for split, merge in (peers.ptwt(), peers.pywavelets(3, 2)):
        assert torch.allclose(split(x), wpt(x, 3, mode="periodization"), atol=1e-5)
        assert torch.allclose(merge(split(x)), x, atol=1e-5)
    split, merge = peers.pywavelets(5, 1)
    assert torch.allclose(split(x[0, :, :2]), wpt(x[0, :, :2], 5, mode="periodization"), atol=1e-5)
    assert torch.allclose(merge(split(x[0, :, :2])), x[0, :, :2], atol=1e-5)


@pytest.mark.parametrize("library", ["constriction", "compressai"])
def test_coders_come_back_in_as_many_bytes_as_the_entropy(library: str) -> None:
    pytest.importorskip(library)
    symbols = np.round(np.random.default_rng(0).laplace(0, [[6], [1]], (2, 4000))).clip(-50, 50).astype(np.int32)
    counts = np.stack([np.bincount(row + 50, minlength=101) for row in symbols])
    encode, decode = getattr(peers, library)(symbols, counts, 50)
    assert np.array_equal(decode(), symbols)
    if library == "constriction":  # the other prices symbols with a density of its own
        shares = counts / counts.sum(1, keepdims=True)
        bits = -(counts * np.log2(np.maximum(shares, 1e-9))).sum()
        assert bits <= 32 * len(encode()) < 1.01 * bits + 64
