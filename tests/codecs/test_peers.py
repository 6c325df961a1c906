from __future__ import annotations

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
