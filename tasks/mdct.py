"""MDCT: a waveform as coefficients of overlapping windows, orthonormal: errors of the ones are errors of the other.

    X[k] = sqrt(2 / n) sum_t sin(pi (t + 1/2) / 2n) x[t] cos(pi / n (t + 1/2 + n/2) (k + 1/2)),  t < 2n, k < n

Every window of 2n samples begins n after the one before it; what one lacks, its neighbours have, and the transposed
transform is the inverse. Silence is beyond both ends.

Source: Princen and Bradley 1986; Malvar, "Lapped transforms for efficient transform/subband coding", 1990.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def mdct(x: Float[Tensor, "b c t"], n: int) -> Float[Tensor, "b d m"]:
    """Return t / n + 1 windows of n coefficients of each channel.

    Raises:
        ValueError: for a length that is no multiple of n.
    """
    if x.shape[-1] % n:
        raise ValueError(f"expected a multiple of {n} samples; found {x.shape[-1]}")
    windows = F.pad(x, (n, n)).unfold(-1, 2 * n, n)  # b, c, m, 2n
    X: Tensor = windows @ _basis(n).to(x)
    return X.transpose(2, 3).flatten(1, 2)


def inverse_mdct(X: Float[Tensor, "b d m"], n: int) -> Float[Tensor, "b c t"]:
    """Invert `mdct`: (m - 1) * n samples of d / n channels."""
    windows = X.unflatten(1, (-1, n)).transpose(2, 3) @ _basis(n).to(X).T  # b, c, m, 2n
    first, second = windows[..., :n], windows[..., n:]
    x: Tensor = second[:, :, :-1] + first[:, :, 1:]
    return x.flatten(2)


@cache
@torch.inference_mode(False)  # kept for all, whoever asks first
def _basis(n: int) -> Float[Tensor, "t k"]:
    t, k = torch.arange(2 * n, dtype=torch.float64)[:, None] + 0.5, torch.arange(n, dtype=torch.float64) + 0.5
    window = (2 / n) ** 0.5 * torch.sin(torch.pi * t / (2 * n))
    basis: Tensor = window * torch.cos(torch.pi / n * (t + n / 2) * k)
    return basis.float()
