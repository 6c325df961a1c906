from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.spectral import (
    SpectralDecoder,
    SpectralEncoder,
    inverse_stft,
    log_magnitude,
    overlap_add,
)


def oracle_inverse(spectra: np.ndarray, hop: int) -> np.ndarray:
    """Frame by frame in float64; the middle of frame k lies at (k + 1/2) * hop."""
    n_fft, n = 2 * (len(spectra) - 1), spectra.shape[1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    before = (n_fft - hop) // 2
    total, weight = np.zeros((2, n * hop + n_fft))
    for k in range(n):
        total[k * hop : k * hop + n_fft] += np.fft.irfft(spectra[:, k]) * window
        weight[k * hop : k * hop + n_fft] += window**2
    return (total[before : before + n * hop] / weight[before : before + n * hop]).astype(np.float64)


@pytest.mark.parametrize(("n_fft", "hop"), [(1280, 320), (640, 320), (640, 160), (512, 128)])
def test_inverse_stft_equals_the_oracle_in_float64(n_fft: int, hop: int) -> None:
    rng = np.random.default_rng(0)
    spectra = rng.normal(size=(2, n_fft // 2 + 1, 9)) + 1j * rng.normal(size=(2, n_fft // 2 + 1, 9))
    x = inverse_stft(torch.from_numpy(spectra).to(torch.complex64), hop)
    for part, expected in zip(x.numpy(), (oracle_inverse(s, hop) for s in spectra), strict=True):
        assert part.shape == (9 * hop,)
        assert np.abs(part - expected).max() < 2e-6


def test_inverse_stft_undoes_the_stft() -> None:
    x, hop, n_fft = torch.randn(1, 320 * 12), 320, 1280
    before = (n_fft - hop) // 2
    frames = torch.nn.functional.pad(x, (before, before)).unfold(1, n_fft, hop) * torch.hann_window(n_fft)
    assert (inverse_stft(torch.fft.rfft(frames).transpose(1, 2), hop) - x).abs().max() < 1e-5


def test_overlap_add_by_hand() -> None:
    frames = torch.tensor([[[1.0, 2, 3, 4], [10, 20, 30, 40], [100, 200, 300, 400]]])
    assert overlap_add(frames, 2).tolist() == [[1, 2, 13, 24, 130, 240, 300, 400]]


def test_log_magnitude_of_a_sine() -> None:
    n_fft, hop = 512, 128
    x = 0.5 * torch.cos(2 * torch.pi * 32 / n_fft * torch.arange(128 * 20))[None]
    frames = log_magnitude(x, n_fft, hop)
    assert frames.shape == (1, 257, 20)
    assert frames[0, 32, 10].exp().item() == pytest.approx(0.5 / 2 * n_fft / 2, rel=1e-4)  # half the sum of the window
    assert frames[0, 100, 10].item() == pytest.approx(0.5 * np.log(1e-6), abs=0.05)


@pytest.mark.parametrize(("n_fft", "frames"), [(1280, 1), (640, 2), (640, 1)])
def test_halo_of_the_decoder_is_exact(n_fft: int, frames: int) -> None:
    decoder = SpectralDecoder(8, n_fft=n_fft, frames=frames, width=16, hidden=24, blocks=2).requires_grad_(False)
    y, halo = torch.randn(1, 8, 60), decoder.halo
    assert halo is not None
    whole = decoder(y)[..., 25 * 320 : 35 * 320]
    part = decoder(y[..., 25 - halo : 35 + halo])[..., halo * 320 : (halo + 10) * 320]
    assert (whole - part).abs().max() < 1e-6 * whole.abs().max()
    y[..., : 25 - halo] = torch.randn(8, 25 - halo)  # nothing beyond counts, and the last within does
    assert torch.equal(decoder(y)[..., 25 * 320 : 35 * 320], whole)
    y[..., 25 - halo] = 5
    assert not torch.equal(decoder(y)[..., 25 * 320 : 35 * 320], whole)


def test_halo_of_the_encoder_is_exact() -> None:
    encoder = SpectralEncoder(8, n_ffts=(1024, 320), frames=(1, 4), width=16, hidden=24, blocks=2).requires_grad_(False)
    x, halo = torch.randn(1, 1, 60 * 320) * 0.1, encoder.halo
    assert halo is not None
    whole = encoder(x)[..., 25:35]
    part = encoder(x[..., (25 - halo) * 320 : (35 + halo) * 320])[..., halo : halo + 10]
    assert (whole - part).abs().max() < 1e-6
    x[..., : (25 - halo) * 320] = 0
    assert torch.equal(encoder(x)[..., 25:35], whole)
    x[..., (25 - halo) * 320 : (26 - halo) * 320] *= 30
    assert not torch.equal(encoder(x)[..., 25:35], whole)


def test_a_loud_latent_stays_finite() -> None:
    decoder = SpectralDecoder(4, width=8, hidden=8, blocks=1).requires_grad_(False)
    decoder.trunk.leave.bias.fill_(200.0)
    assert decoder(torch.full((1, 4, 5), 1e4)).isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpectralEncoder(8, n_ffts=(512,), frames=(1, 2)),
        lambda: SpectralEncoder(8, channels=2),
        lambda: SpectralDecoder(8, frames=3),
        lambda: SpectralDecoder(8, n_fft=320),
    ],
)
def test_wrong_arguments(make: object) -> None:
    with pytest.raises(ValueError, match="one channel"):
        make()  # type: ignore[operator]
