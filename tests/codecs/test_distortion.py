from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
from codomain.codecs.distortion import TERMS, Distortion, ms_ssim


def pair(h: int = 24, w: int = 20, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.nn.functional.avg_pool2d(torch.rand(2, 3, h + 4, w + 4), 5, 1) * 4 - 2
    return (x + noise * torch.randn(x.shape)).clamp(-1, 1), x.clamp(-1, 1)


def test_each_term_is_its_formula() -> None:
    x_hat, x = pair()
    error = (x_hat - x).double().numpy()
    mse = (error**2).mean((1, 2, 3))
    spectrum = np.fft.fft2(error, norm="ortho")
    expected = {
        "log_mse": np.log(mse + 1e-5).mean(),
        "mse": mse.mean(),
        "l1": np.abs(error).mean() / 2,
        "ms_ssim": 1 - float(ms_ssim(x_hat, x)),
        "spectrum": (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean() / 4,
    }
    for name, value in expected.items():
        loss, found = Distortion({name: 3.0})(x_hat, x)
        assert loss.item() == pytest.approx(3 * value, rel=1e-4), name
        np.testing.assert_allclose(found.numpy(), mse, rtol=1e-4)
    both = Distortion({"l1": 2.0, "mse": 0.5})(x_hat, x)[0].item()
    assert both == pytest.approx(2 * expected["l1"] + 0.5 * expected["mse"], rel=1e-4)


@pytest.mark.parametrize(("h", "w"), [(161, 170), (176, 163), (192, 256)])
def test_ms_ssim_is_that_of_the_library(h: int, w: int) -> None:
    x_hat, x = pair(h, w)
    expected = pytorch_msssim.ms_ssim(x_hat, x, data_range=2.0)
    assert ms_ssim(x_hat, x).item() == pytest.approx(expected.item(), abs=2e-5)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 9), (10, 10), (11, 11), (16, 48), (21, 33), (80, 90)])
def test_ms_ssim_of_small_frames(h: int, w: int) -> None:
    x_hat, x = pair(h, w)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-5)
    assert ms_ssim(x_hat, x).item() < 1


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite_where_frames_are_equal_or_opposite(name: str) -> None:
    for sign in (1, -1):
        x = pair(48, 48)[1]
        x_hat = (sign * x).requires_grad_()
        Distortion({name: 1.0})(x_hat, x)[0].backward()
        assert x_hat.grad.isfinite().all()


@pytest.mark.parametrize("name", TERMS)
def test_masked_pixels_do_not_matter(name: str) -> None:
    x_hat, x = pair()
    mask = torch.ones(2, 24, 20, dtype=torch.bool)
    mask[:, 5:12, 3:9] = False
    other = x.clone()
    other[:, :, 5:12, 3:9] = 0.7
    loss, mse = Distortion({name: 1.0})(x_hat, x, mask)
    counted = (x_hat - x).square()[mask[:, None].expand_as(x)].view(2, -1)
    assert torch.allclose(mse, counted.mean(1), rtol=1e-4)
    if name != "ms_ssim":  # which looks at what is about a pixel
        assert torch.allclose(loss, Distortion({name: 1.0})(x_hat, other, mask)[0], rtol=1e-4)
    x_hat.requires_grad_()
    Distortion({name: 1.0})(x_hat, x, mask)[0].backward()
    assert (x_hat.grad[:, :, 5:12, 3:9] == 0).all()


def test_terms_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="found psnr"):
        Distortion({"psnr": 1.0})
    with pytest.raises(ValueError, match="found none"):
        Distortion({})
