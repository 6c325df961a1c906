"""SimVQ: a codebook that stays as it was drawn, behind one linear layer that is learned.

    c_1 ... c_k    drawn once, never trained
    q_j = W c_j + b,    code(y) = argmin_j |y - q_j|^2,    y_hat = q_code

In plain vector quantization only the chosen codes learn, and those that lie apart are left behind for good. Here every
step moves all of them, as W moves.

The paper draws codes from a normal distribution. Latents of pictures are far from normal: most patches are flat. Codes
drawn from the latents that training starts with lie where latents do: over 131 072 patches, before training, 99 % of
65 536 codes are chosen and the error is 2.5 dB lower; of normal codes, 37 %. The weights then hold the codebook.

The lookup needs no gradient; the chosen codes are gathered first and projected then, so that what is differentiated has
a row for each latent, and not for each code.

Source: Zhu et al., "Addressing representation collapse in vector quantized models with one linear layer" (SimVQ), 2024;
the rotation trick: Fifty et al., "Restructuring vector quantization with the rotation trick", 2024.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from codomain.codecs.bottleneck import BottleneckOutput
from codomain.codecs.code_bottleneck import CodeBottleneck, kmeans
from codomain.codecs.code_use import CodeUse
from codomain.kernels.vq import lookup, nearest_code
from jaxtyping import Float, Int32, Integer
from torch import Tensor, nn


class SimVQ(CodeBottleneck):
    """One code of a large frozen codebook for each position, behind a learned linear layer.

    Args:
        channels: latent channels ``d``.
        codebook_size: codes ``k``.
        commitment: weight of what draws latents to their codes, beside that of what draws codes to latents.
        weight: of the bottleneck's loss, both terms of which are means over all components.
        drawn: what the codebook is drawn from: "normal", a distribution that need not be stored, or "data", the latents
            that training starts with.
        rotation_trick: pass gradients on through the rotation from latent to code, in place of unchanged.
        seed: of a normal codebook.
        n_classes: clusters of codes for the entropy coder, at most 256.

    Raises:
        ValueError: if a codebook is drawn from neither.
    """

    codebook: Tensor

    def __init__(
        self,
        channels: int,
        codebook_size: int = 65536,
        commitment: float = 0.25,
        weight: float = 1.0,
        drawn: str = "normal",
        rotation_trick: bool = False,
        seed: int = 0,
        n_classes: int = 256,
    ) -> None:
        super().__init__(channels, 1, 1, codebook_size, n_classes)
        if drawn not in ("normal", "data"):
            raise ValueError(f'a codebook is drawn from "normal" or "data"; found {drawn!r}')
        self.commitment, self.weight, self.drawn, self.rotation_trick = commitment, weight, drawn, rotation_trick
        codes = torch.from_numpy(normal_codes(codebook_size, channels, seed))
        self.register_buffer("codebook", codes, persistent=drawn == "data")
        self.project = nn.Linear(channels, channels)
        self.use = CodeUse(codebook_size)
        self._codes: Tensor | None = None  # projected, when the layer does not change

    def forward(self, y: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None) -> BottleneckOutput:
        """Return the nearest codes, the bits of their indices, and what draws latents and codes to each other."""
        rows = y.movedim(1, -1)
        flat = rows.reshape(-1, self.channels).float()
        found = lookup(flat, self.codes())
        if self.training:
            self.use.add(found.counts)
            with torch.autocast(y.device.type, enabled=False):
                q = self.project(self.codebook[found.codes])
        else:
            q = self.codes()[found.codes]
        loss = F.mse_loss(q, flat.detach()) + self.commitment * F.mse_loss(flat, q.detach())
        through = Rotation if self.rotation_trick else StraightThrough
        y_hat = through.apply(flat, q.detach()).reshape(rows.shape).movedim(-1, 1)
        bits = y.new_full((len(y),), math.log2(self.codebook_size) * rows[0, ..., 0].numel())
        return BottleneckOutput(y_hat, bits, self.weight * loss)

    def to_symbols(self, y: Float[Tensor, "b d *grid"], index: int = 0) -> Int32[Tensor, "b 1 *grid"]:
        """Return the index of the nearest code.

        Raises:
            ValueError: if a latent is NaN or infinite.
        """
        if not torch.isfinite(y).all():
            raise ValueError("latents must be finite; found NaN or infinity in the signal")
        rows = y.movedim(1, -1)
        codes = nearest_code(rows.reshape(-1, self.channels), self.codes())
        return codes.to(torch.int32).reshape(rows.shape[:-1])[:, None]

    def from_symbols(self, symbols: Integer[Tensor, "b 1 *grid"], index: int = 0) -> Float[Tensor, "b d *grid"]:
        """Return the codes: bit for bit those of `forward`."""
        return self.codes()[symbols[:, 0].long()].movedim(-1, 1)

    @torch.no_grad()
    def codes(self) -> Float[Tensor, "k d"]:
        """Return all codes as the layer projects them."""
        if self.training or self._codes is None or self._codes.device != self.codebook.device:
            with torch.autocast(self.codebook.device.type, enabled=False):
                self._codes = self.project(self.codebook).detach()
        assert self._codes is not None
        return self._codes

    def code_vectors(self) -> Float[Tensor, "1 k d"]:
        """Return the projected codes."""
        return self.codes()[None]

    def statistics(self) -> dict[str, Tensor]:
        """Return the perplexity and the share of the codes that were used of late."""
        return {"perplexity": self.use.perplexity(), "used": self.use.share()}

    @torch.no_grad()
    def start(self, y: Float[Tensor, "b d *grid"], bits: float | None = None) -> None:
        """Codes like the latents ``y``.

        A normal codebook becomes the best Gaussian one for ``y``, were it infinitely long: the mean and the principal
        components of ``y``, each with the variance that reverse water-filling leaves it at the rate of the codebook.
        One drawn from data becomes vectors of ``y``, that the layer first undoes the whitening of.
        """
        rows = y.movedim(1, -1).reshape(-1, self.channels).double()
        mean = rows.mean(0)
        variances, axes = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        if self.drawn == "normal":
            variances = self._water_filled(variances)
        root = (variances.clamp_min(1e-9 * variances.max()) * self.channels).sqrt()
        self.project.weight.copy_((axes * root) @ axes.T)
        self.project.bias.copy_(mean)
        if self.drawn == "data":
            codes, _ = kmeans(rows.float(), self.codebook_size, 0)
            self.codebook.copy_((codes.double() - mean) @ (axes / root) @ axes.T)
        self._codes = None

    def _water_filled(self, variances: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """What is left of each variance when the codebook's bits are spent on all of them."""
        low, high = 0.0, float(variances.max())
        for _ in range(60):  # the level at which the bits are spent
            level = (low + high) / 2
            spent = 0.5 * (variances / level).log2().clamp_min(0).sum()
            low, high = (level, high) if spent > math.log2(self.codebook_size) else (low, level)
        return (variances - level).clamp_min(1e-3 * level)  # no direction is lost to the layer

    def train(self, mode: bool = True) -> SimVQ:
        """Set the mode; the projected codes are kept while the layer stands still."""
        self._codes = None
        super().train(mode)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._codes = None


class StraightThrough(torch.autograd.Function):
    """The code, whose gradient goes to the latent unchanged."""

    @staticmethod
    def forward(ctx: Any, y: Float[Tensor, "n d"], q: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return ``q``."""
        return q.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on."""
        return gradient, None


class Rotation(torch.autograd.Function):
    """The code, as the latent turned and scaled: ``q = |q| / |y| R y``, with R and the scale held constant.

    R = I - 2 w w^T + 2 q' y'^T, where y' and q' are unit vectors and w that between them (Fifty et al., section 4).
    """

    @staticmethod
    def forward(ctx: Any, y: Float[Tensor, "n d"], q: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return ``q``."""
        ctx.save_for_backward(y, q)
        return q.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return ``|q| / |y| R^T g``."""
        y, q = ctx.saved_tensors
        scale = q.norm(dim=1, keepdim=True) / y.norm(dim=1, keepdim=True).clamp_min(1e-12)
        from_, to = F.normalize(y, dim=1), F.normalize(q, dim=1)
        between = F.normalize(from_ + to, dim=1)

        def along(unit: Tensor) -> Tensor:
            return (unit * gradient).sum(1, keepdim=True)

        return scale * (gradient - 2 * between * along(between) + 2 * from_ * along(to)), None


def normal_codes(k: int, d: int, seed: int = 0) -> np.ndarray:
    """Return (k, d) float32 with mean 0 and variance 1 / d: a codebook that need not be stored.

    Sums of twelve uniform 16-bit integers, which are normal but for tails beyond 6 standard deviations; made of the raw
    words of PCG64, so that they are the same on every machine and with every version of numpy.
    """
    words = np.random.PCG64(seed).random_raw(k * d * 3).reshape(k, d, 3)
    sums = sum(((words >> np.uint64(16 * i)) & np.uint64(0xFFFF)).sum(2).astype(np.int64) for i in range(4))
    scale = 1 / (65536 * math.sqrt(d))
    codes: np.ndarray = ((sums - 6 * 65535) * scale).astype(np.float32)
    return codes
