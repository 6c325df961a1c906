from __future__ import annotations

from pathlib import Path

import pytest
import torch
from codomain.codecs.load import build
from codomain.codecs.oobleck import OobleckDecoder
from codomain.codecs.walloc import WaLLoC
from codomain.kernels.wpt import wpt

CONFIGS = Path(__file__).parents[2] / "configs" / "codecs"


@pytest.mark.parametrize(("rate", "encoder", "decoder"), [("16x", 2316, 56.884e6), ("4x", 9264, 57.132e6)])
def test_the_papers_configurations_have_its_parameters(rate: str, encoder: int, decoder: float) -> None:
    codec = build(CONFIGS / f"walloc_rgb_{rate}_paper.yaml")
    assert isinstance(codec, WaLLoC)
    assert sum(p.numel() for p in codec.encoder.parameters()) == encoder
    assert sum(p.numel() for p in codec.decoder.parameters()) == pytest.approx(decoder, abs=500)
    assert codec.mode == "periodization"


@pytest.mark.parametrize(("rate", "encoder", "total"), [("5x", 55404, 16.346e6), ("20x", 13851, None)])
def test_the_papers_stereo_configurations(rate: str, encoder: int, total: float | None) -> None:
    codec = build(CONFIGS / f"walloc_stereo_{rate}_paper.yaml")
    assert isinstance(codec, WaLLoC) and codec.mode == "periodization"
    assert sum(p.numel() for p in codec.encoder.parameters()) == encoder
    if total is not None:
        assert sum(p.numel() for p in codec.parameters()) == pytest.approx(total, abs=500)
    assert isinstance(codec.decoder, OobleckDecoder)
    assert sum(p.numel() for p in codec.decoder.filter.parameters()) == 518
    x = torch.rand(1, 2, 256 * 5) - 0.5
    with torch.no_grad():
        y = codec.analysis(x)
        assert y.shape == (1, codec.latent_dim, 5)
        assert codec.synthesis(y).shape == x.shape


@pytest.mark.parametrize("rate", ["16x", "4x"])
def test_ours_has_the_papers_encoder(rate: str) -> None:
    ours, paper = (build(CONFIGS / f"walloc_rgb_{rate}{end}.yaml") for end in ("", "_paper"))
    for theirs, own in zip(paper.encoder.parameters(), ours.encoder.parameters(), strict=True):
        assert theirs.shape == own.shape


def test_encoder_is_linear_in_the_packets(codec: WaLLoC) -> None:
    x, z = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    middle = codec.analysis(0.25 * x + 0.75 * z)
    assert torch.allclose(middle, 0.25 * codec.analysis(x) + 0.75 * codec.analysis(z), atol=1e-5)
    assert torch.allclose(codec.analysis(x), codec.encoder(wpt(x, 3)), atol=1e-5)


def test_start_finds_the_principal_components(codec: WaLLoC) -> None:
    basis = codec.encoder.weight.flatten(1)
    assert torch.allclose(basis @ basis.T, torch.eye(12), atol=1e-4)
    assert torch.allclose(codec.decoder.linear.weight.flatten(1).T, basis)
