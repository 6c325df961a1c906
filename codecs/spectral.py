"""Sound through its spectrum: an encoder of log magnitudes, a decoder that ends in an inverse STFT.

    x --STFT, log|.|--> ConvNeXt blocks --> y          y_hat --> ConvNeXt blocks --> magnitude, phase --iSTFT--> x_hat

All learned layers run at the rate of the latents, hundreds of times below that of the samples: cheap on any machine.
Layers normalise each position over its channels and never over time, so what an output looks at ends at `halo`.

Source: Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders", ICLR 2024; blocks of
Liu et al., "A ConvNet for the 2020s", CVPR 2022. Here several short frames may share one latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

FLOOR = 1e-6  # of squared magnitudes, of signals in [-1, 1]
LOUDEST = 100.0  # magnitude of a bin at most: an unlucky latent must not overflow


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, then two layers at each position; residual.

    Args:
        width: channels.
        hidden: channels between the two layers.
        kernel: taps of the convolution, odd.
        scale: of the residual branch at the start of training.
    """

    def __init__(self, width: int, hidden: int, kernel: int = 7, scale: float = 0.2) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Float[Tensor, "b w n"]) -> Float[Tensor, "b w n"]:
        """Same shape."""
        z = self.norm(cast(Tensor, self.mix(x)).transpose(1, 2))
        z = cast(Tensor, self.scale * self.narrow(F.gelu(self.widen(z))))
        return x + z.transpose(1, 2)


class Trunk(nn.Module):
    """A convolution, ConvNeXt blocks and a layer at each position, with normalisation at both ends.

    Args:
        channels, width, out: channels of input, blocks and output.
        hidden: channels inside a block.
        blocks: how many.
        kernel: taps of every convolution, odd.

    Attributes:
        halo: positions to either side that an output looks at.
    """

    def __init__(self, channels: int, width: int, out: int, hidden: int, blocks: int, kernel: int = 7) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, width, kernel, padding=kernel // 2)
        self.enter_norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width, hidden, kernel, 1 / blocks) for _ in range(blocks)))
        self.leave_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, out)
        self.halo = (blocks + 1) * (kernel // 2)

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b o n"]:
        """Same length."""
        z = self.enter_norm(cast(Tensor, self.enter(x)).transpose(1, 2)).transpose(1, 2)
        z = cast(Tensor, self.leave(self.leave_norm(self.blocks(z).transpose(1, 2))))
        return z.transpose(1, 2)


class SpectralEncoder(nn.Module):
    """Log-magnitude spectra of overlapping frames, then a trunk at the rate of the latents.

    Args:
        latent_dim: channels of the latents.
        stride: samples per latent.
        n_ffts: lengths of the frames: long ones tell pitch, short ones time.
        frames: for each length, frames per latent.
        width, hidden, blocks: of the trunk.
        channels: of the signal, 1.

    Attributes:
        halo: latents to either side that a latent looks at.
    """

    def __init__(
        self,
        latent_dim: int,
        stride: int = 320,
        n_ffts: Sequence[int] = (1024, 320),
        frames: Sequence[int] = (1, 4),
        width: int = 160,
        hidden: int = 480,
        blocks: int = 3,
        channels: int = 1,
    ) -> None:
        super().__init__()
        if len(n_ffts) != len(frames) or channels != 1:
            raise ValueError(
                f"one channel, and as many frames as n_ffts; found {channels}, {len(frames)} and {len(n_ffts)}"
            )
        self.stride, self.n_ffts, self.frames = stride, tuple(n_ffts), tuple(frames)
        features = sum(m * (n // 2 + 1) for n, m in zip(n_ffts, frames, strict=True))
        self.project = nn.Conv1d(features, width, 1)
        self.trunk = Trunk(width, width, latent_dim, hidden, blocks)
        beyond = max((n - stride // m) / 2 for n, m in zip(n_ffts, frames, strict=True))
        self.halo: int | None = self.trunk.halo + ceil(beyond / stride)

    def forward(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d n"]:
        """Signal to latents; t is a multiple of `stride`."""
        features = [
            log_magnitude(x[:, 0], n, self.stride // m).unflatten(2, (-1, m)).movedim(3, 1).flatten(1, 2)
            for n, m in zip(self.n_ffts, self.frames, strict=True)
        ]
        y: Tensor = self.trunk(self.project(torch.cat(features, 1)))
        return y.float()


class SpectralDecoder(nn.Module):
    """A trunk at the rate of the latents that says magnitude and phase of frames, and their inverse STFT.

    Args:
        latent_dim: channels of the latents.
        stride: samples per latent.
        n_fft: samples of a frame.
        frames: frames per latent, ``stride / frames`` samples apart.
        width, hidden, blocks: of the trunk.
        channels: of the signal, 1.

    Attributes:
        halo: latents to either side that a sample looks at.
    """

    def __init__(
        self,
        latent_dim: int,
        stride: int = 320,
        n_fft: int = 1280,
        frames: int = 1,
        width: int = 256,
        hidden: int = 768,
        blocks: int = 4,
        channels: int = 1,
    ) -> None:
        super().__init__()
        if stride % frames or n_fft < 2 * (stride // frames) or channels != 1:
            raise ValueError(
                f"one channel, frames that divide stride and overlap by half; found {channels}, {frames}, {n_fft}"
            )
        self.n_fft, self.frames, self.hop = n_fft, frames, stride // frames
        self.trunk = Trunk(latent_dim, width, frames * (n_fft + 2), hidden, blocks)
        self.halo: int | None = self.trunk.halo + ceil((n_fft - self.hop) / 2 / stride)

    def forward(
        self, y_hat: Float[Tensor, "b d n"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b 1 t"]:
        """Latents to signal."""
        frames = self.trunk(y_hat).float().unflatten(1, (self.frames, self.n_fft + 2)).movedim(1, 3).flatten(2)
        magnitude, phase = frames.chunk(2, 1)
        return inverse_stft(torch.polar(magnitude.exp().clamp_max(LOUDEST), phase), self.hop)[:, None]


def log_magnitude(x: Float[Tensor, "b t"], n_fft: int, hop: int) -> Float[Tensor, "b bins n"]:
    """Return natural logarithms of the magnitudes of ``t / hop`` frames, each in the middle of its hop; silence around.

    Args:
        x: signal; t is a multiple of ``hop``.
        n_fft: samples of a frame under a Hann window.
        hop: samples from one frame to the next.
    """
    before = (n_fft - hop) // 2
    frames = F.pad(x, (before, n_fft - hop - before)).unfold(1, n_fft, hop)
    spectra = torch.fft.rfft(frames * torch.hann_window(n_fft, device=x.device))
    power: Tensor = spectra.real.square() + spectra.imag.square()
    return (0.5 * (power + FLOOR).log()).transpose(1, 2)


def inverse_stft(spectra: Complex[Tensor, "b bins n"], hop: int) -> Float[Tensor, "b t"]:
    """Return the signal of ``n`` frames, ``n * hop`` samples: windowed, overlapped, added, divided by the windows' sum.

    The least-squares inverse (Griffin and Lim 1984, equation 6) of frames in the middle of their hops, under a Hann
    window.
    """
    n_fft, n = 2 * (spectra.shape[1] - 1), spectra.shape[2]
    window = torch.hann_window(n_fft, device=spectra.device)
    frames = torch.fft.irfft(spectra.transpose(1, 2)) * window
    weights = window.square().expand(1, n, n_fft)
    before = (n_fft - hop) // 2
    both = [overlap_add(part, hop)[:, before : before + n * hop] for part in (frames, weights)]
    return both[0] / both[1]


def overlap_add(frames: Float[Tensor, "b n size"], hop: int) -> Float[Tensor, "b t"]:
    """Return the sum of frames ``hop`` samples apart: ``(n - 1) * hop + size`` samples."""
    n, size = frames.shape[1:]
    t = (n - 1) * hop + size
    return F.fold(frames.transpose(1, 2), (1, t), (1, size), stride=(1, hop))[:, 0, 0]
