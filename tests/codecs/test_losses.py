from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from codomain.codecs.discriminators import Judgement
from codomain.codecs.losses import (
    MelDistance,
    StftDistance,
    discriminator_loss,
    feature_loss,
    generator_loss,
    magnitude,
    mel_filters,
)


@pytest.mark.parametrize(("n_mels", "n_fft", "rate"), [(80, 1024, 16000), (80, 1024, 24000), (20, 512, 16000)])
def test_mel_filters_equal_torchaudio(n_mels: int, n_fft: int, rate: int) -> None:
    expected = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, 0.0, rate / 2, n_mels, rate).T
    assert (mel_filters(n_mels, n_fft, rate) - expected).abs().max() < 1e-4


def test_magnitude_equals_numpy() -> None:
    x, window = torch.randn(1000, dtype=torch.float64), 256
    padded = np.pad(x.numpy(), window // 2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.stack([padded[i : i + window] * hann for i in range(0, 1001, 64)])
    expected = np.abs(np.fft.rfft(frames)).T
    assert np.abs(magnitude(x.float()[None], window)[0].numpy() - expected).max() < 1e-4


def test_mel_distance_is_its_definition() -> None:
    x, x_hat = torch.randn(2, 1, 4000) * 0.1, torch.randn(2, 1, 4000) * 0.1
    distance = MelDistance(16000, (256, 1024), (20, 40), weights=(3.0, 1.0))
    terms = []
    for window, n in ((256, 20), (1024, 40)):
        logs = [
            torch.log10(torch.clamp(mel_filters(n, window, 16000) @ magnitude(s[:, 0], window), min=1e-5))
            for s in (x, x_hat)
        ]
        terms.append((logs[0] - logs[1]).abs().mean())
    assert distance(x_hat, x).item() == pytest.approx(((3 * terms[0] + terms[1]) / 4).item(), rel=1e-5)
    assert distance(x, x).item() == 0
    assert MelDistance(16000)(10 * x, x).item() == pytest.approx(1, abs=0.01)  # a decade is 1


def test_stft_distance_is_its_definition() -> None:
    x, x_hat = torch.randn(1, 1, 4000) * 0.1, torch.randn(1, 1, 4000) * 0.1
    s, s_hat = magnitude(x[0], 512), magnitude(x_hat[0], 512)
    expected = torch.linalg.norm(s - s_hat) / torch.linalg.norm(s) + (s.log() - s_hat.log()).abs().mean()
    assert StftDistance((512,))(x_hat, x).item() == pytest.approx(expected.item(), rel=1e-5)
    assert StftDistance()(2 * x, x).item() == pytest.approx(1 + np.log(2), rel=1e-3)


def test_adversarial_terms_by_hand() -> None:
    real = [Judgement(torch.tensor([1.0, 0.5]), [torch.tensor([1.0, 2.0]), torch.tensor([0.0])])]
    fake = [Judgement(torch.tensor([0.0, 0.5]), [torch.tensor([2.0, 4.0]), torch.tensor([3.0])])]
    assert discriminator_loss(real, fake).item() == pytest.approx(0.125 + 0.125)
    assert generator_loss(fake).item() == pytest.approx((1 + 0.25) / 2)
    assert feature_loss(real, fake).item() == pytest.approx(1.5 + 3)
    assert discriminator_loss(real * 3, fake * 3).item() == pytest.approx(0.75)


def test_distances_have_finite_gradients_at_silence() -> None:
    x_hat = torch.zeros(1, 1, 4000, requires_grad=True)
    (MelDistance(16000)(x_hat, torch.zeros(1, 1, 4000)) + StftDistance()(x_hat, torch.zeros(1, 1, 4000))).backward()
    assert x_hat.grad is not None and x_hat.grad.isfinite().all()
