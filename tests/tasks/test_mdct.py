from __future__ import annotations

import pytest
import torch
from codomain.tasks.mdct import inverse_mdct, mdct


@pytest.mark.parametrize(("n", "windows"), [(1, 5), (16, 4), (256, 3)])
def test_orthonormal_and_inverted(n: int, windows: int) -> None:
    x, z = torch.randn(2, 3, 2, n * windows)[:2]
    X, Z = mdct(x, n), mdct(z, n)
    assert X.shape == (3, 2 * n, windows + 1)
    assert torch.allclose(inverse_mdct(X, n), x, atol=1e-4)
    assert float((X * Z).sum()) == pytest.approx(float((x * z).sum()), abs=1e-2)
    assert torch.allclose(inverse_mdct(mdct(inverse_mdct(Z, n), n), n), z, atol=1e-4)


def test_a_tone_is_in_its_band() -> None:
    tone = torch.sin(2 * torch.pi * 1000 / 44100 * torch.arange(64 * 256))
    energy = mdct(tone.expand(1, 2, -1), 256).square().mean(2)[0]
    assert energy[:256].argmax() == energy[256:].argmax() == int(1000 / (44100 / 2 / 256))
    assert float(energy[:256].topk(4).values.sum() / energy[:256].sum()) > 0.98


def test_the_formula() -> None:
    x, n = torch.randn(1, 1, 16, dtype=torch.float64), 4
    windows = torch.nn.functional.pad(x, (n, n))[0, 0].unfold(0, 2 * n, n)
    t, k = torch.arange(2 * n, dtype=torch.float64), torch.arange(n, dtype=torch.float64)[:, None]
    phases = torch.pi / n * (t + 0.5 + n / 2) * (k + 0.5)
    expected = (2 / n) ** 0.5 * (phases.cos() * (torch.pi * (t + 0.5) / (2 * n)).sin()) @ windows.T
    assert torch.allclose(mdct(x, n)[0], expected, atol=1e-6)


def test_lengths() -> None:
    with pytest.raises(ValueError, match="expected a multiple of 4 samples; found 6"):
        mdct(torch.zeros(1, 1, 6), 4)


def test_what_inference_has_asked_for_can_be_learnt_through() -> None:
    with torch.inference_mode():
        mdct(torch.zeros(1, 1, 36), 12)
    x = torch.randn(1, 1, 36, requires_grad=True)
    inverse_mdct(mdct(x, 12), 12).sum().backward()
    assert torch.allclose(x.grad, torch.ones_like(x), atol=1e-5)
