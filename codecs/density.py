"""Density: the context model in floating point, for training; it becomes integers when weights are exported.

Value and scale of every symbol are those of `kernels/context.py`; the distribution is logistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from codomain.codecs.coder import Tables
from codomain.codecs.context import ContextModel
from codomain.kernels.context import FRACTION, KNOWN, N_TABLES, PHASES, PLUS, RING, Forms, part
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 0.01  # steps: of the scale, below which everything is certain
SYMBOLS = 512  # largest magnitude that a table holds
ROW = 256  # positions of a row that a step of the fit sees
PRIOR = 64  # observations that the logistic distribution counts for in a table


class ContextDensity(nn.Module):
    """Predicts value and scale of latents from their neighbours, and prices them.

    Args:
        channels: latent channels ``d``.
        anchors: qualities that have least scales of their own.
    """

    mask: Tensor
    known: Tensor

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        d = channels
        self.value = nn.Parameter(torch.zeros(d, d, 3, 3))
        self.value_ring = nn.Parameter(torch.zeros(len(PHASES), d, 8))
        self.spread = nn.Parameter(torch.full((d, d, 3, 3), -6.0))
        self.spread_ring = nn.Parameter(torch.full((len(PHASES), d, 8), -4.0))
        self.floor = nn.Parameter(torch.full((anchors, len(PHASES) * d), -1.0))
        plus = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
        self.register_buffer("mask", torch.tril(torch.ones(d, d), -1)[:, :, None, None] * plus)
        self.register_buffer("known", torch.tensor(KNOWN, dtype=torch.float32)[:, None])

    def forward(
        self, q: Float[Tensor, "b d h w"], noisy: Float[Tensor, "b d h w"], quality: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the bits of ``noisy``, of each signal, given the integers ``q`` around it."""
        value, scale = self.predict(q, quality)
        return logistic_bits(noisy - value, scale).flatten(1).sum(1)

    def predict(
        self, q: Float[Tensor, "b d h w"], quality: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b d h w"]]:
        """Return predicted value and scale of every symbol, in steps."""
        b, d = q.shape[:2]
        wide = _mirrored(q)
        value = F.conv2d(wide, self.value * self.mask)
        spread = F.conv2d(wide.abs(), F.softplus(self.spread) * self.mask)
        floor = F.softplus(interpolate(self.floor, quality)).reshape(b, len(PHASES), d)
        values, scales = torch.empty_like(q), torch.empty_like(q)
        for phase, one in enumerate(PHASES):
            at = (..., *part(phase))
            values[at], scales[at] = value[at], spread[at] + floor[:, phase, :, None, None]
            if one.distance and values[at].numel():
                # on the grid of that spacing the ring is next door, and the edges mirror
                grid = _mirrored(q[..., :: one.distance, :: one.distance])
                grid = grid[..., one.top // one.distance :, one.left // one.distance :]
                signed, sizes = self.value_ring[phase], F.softplus(self.spread_ring[phase])
                values[at] += _ring(grid, signed * self.known[phase])
                scales[at] += _ring(grid.abs(), sizes * self.known[phase])
        return values, scales + LEAST

    @torch.enable_grad()
    def fit(self, y: Sequence[Float[Tensor, "d h w"]], log_step: Float[Tensor, "anchors d"], steps: int) -> None:
        """Fit to the integers that files will hold, at qualities as training draws them."""
        self.requires_grad_(True)  # the end of a training run holds it still
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            crops = torch.stack(
                [_crop(y[int(torch.randint(len(y), (), generator=generator))], generator) for _ in range(8)]
            )
            quality = draw_quality(len(crops), generator).to(crops)
            q = (crops / interpolate(log_step, quality).exp()[:, :, None, None]).round()
            bits = self(q, q, quality)
            loss = (bits * rate_weight(quality)).sum() / crops[:, 0].numel()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def to_integers(self, y: Sequence[Float[Tensor, "d h w"]], log_step: Float[Tensor, "anchors d"]) -> ContextModel:
        """Return the integer model, its tables counted on the integers of ``y`` at several qualities."""
        ring = tuple(weights * self.known for weights in (self.value_ring, F.softplus(self.spread_ring)))
        plus = (self.value * self.mask, F.softplus(self.spread) * self.mask)
        taps = [(1 + i, 1 + j) for i, j in PLUS]
        value, spread = (_fixed(torch.stack([w[:, :, i, j] for i, j in taps], 2), np.int16) for w in plus)
        forms = Forms(value, spread, *(_fixed(weights, np.int16) for weights in ring))
        anchors, d = log_step.shape
        floors = _fixed(F.softplus(self.floor).reshape(anchors, len(PHASES), d) + LEAST, np.int32).clip(1)
        prior = _logistic_tables()
        flat = Tables.from_counts((prior * 2.0**30).astype(np.int64), np.full(N_TABLES, -SYMBOLS))
        model = ContextModel(forms, floors, flat)
        counts = np.zeros(prior.shape)
        for quality in (15, 30, 40, 50, 60, 75):
            step = interpolate(log_step, torch.tensor([float(quality)]))[0].exp()
            for latents in y:
                q = (latents / step[:, None, None]).round().to(torch.int32).numpy()
                rows, symbols = model.choose(q, 4 * quality)
                inside = np.abs(symbols) <= SYMBOLS
                flat_at = rows[inside].astype(np.int64) * counts.shape[1] + symbols[inside] + SYMBOLS
                counts += np.bincount(flat_at, minlength=counts.size).reshape(counts.shape)
        mass = counts + PRIOR * prior
        mass /= mass.sum(1, keepdims=True)
        mass[mass < 0.5 / (1 << 14)] = 0  # left to the escape
        return ContextModel(forms, floors, Tables.from_counts((mass * 2.0**40).astype(np.int64), flat.offsets))


def logistic_bits(x: Float[Tensor, "*shape"], scale: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return -log2 of the logistic mass within half a step of ``x``, stable in both tails."""
    a, b = (x + 0.5) / scale, (x - 0.5) / scale
    # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a))
    nats = F.logsigmoid(a) + F.logsigmoid(-b) + torch.log1p(-torch.exp(-1 / scale) * (1 - 1e-6))
    return -nats / math.log(2)


def interpolate(table: Float[Tensor, "anchors n"], quality: Float[Tensor, " b"]) -> Float[Tensor, "b n"]:
    """Return rows of a table whose anchors lie evenly over qualities 1 to 100, linear between them."""
    at = (quality.clamp(1, 100) - 1) / 99 * (len(table) - 1)
    low = at.floor().clamp_max(len(table) - 2).long()
    t = (at - low)[:, None]
    return table[low] * (1 - t) + table[low + 1] * t


def draw_quality(n: int, generator: torch.Generator | None = None) -> Float[Tensor, " n"]:
    """Return qualities to train on: around the middle, where files are made."""
    return (50 + 20 * torch.randn(n, generator=generator)).clamp(1, 100)


def rate_weight(quality: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return what a bit counts at a quality, so that every rate counts the same: rates double every 16."""
    return 2.0 ** ((50 - quality) / 16)


def _mirrored(q: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h2 w2"]:
    """Extend by one on every side: mirror images, 0 where an axis is one position."""
    for axis, margin in ((2, (0, 0, 1, 1)), (3, (1, 1, 0, 0))):
        q = F.pad(q, margin, mode="reflect" if q.shape[axis] > 1 else "constant")
    return q


def _ring(grid: Float[Tensor, "b d h w"], weights: Float[Tensor, "d 8"]) -> Float[Tensor, "b d h2 w2"]:
    """Sum the neighbours of every second position, in the order of `RING`."""
    kernel = weights.new_zeros(len(weights), 3, 3)
    rows, columns = zip(*RING, strict=True)
    kernel[:, [1 + i for i in rows], [1 + j for j in columns]] = weights
    return F.conv2d(grid, kernel[:, None], stride=2, groups=len(weights))


def _crop(y: Float[Tensor, "d h w"], generator: torch.Generator) -> Float[Tensor, "d a b"]:
    """A part of so many positions, on the coarsest grid; of a row, as long."""
    step, side = PHASES[0].stride, 32 if y.shape[1] > 1 else ROW
    top, left = (
        step * int(torch.randint(max(1, (n - side) // step + 1), (), generator=generator)) for n in y.shape[1:]
    )
    return y[:, top : top + side, left : left + side].float()


def _fixed(weights: Tensor, dtype: type) -> np.ndarray:
    bound = np.iinfo(dtype).max
    return (weights.double() * (1 << FRACTION)).round().clamp(-bound, bound).numpy().astype(dtype)


def _logistic_tables() -> np.ndarray:
    """(N_TABLES, 2 * SYMBOLS + 1) masses of logistic distributions at the middle of every table's range."""
    row = torch.arange(N_TABLES, dtype=torch.float64)[:, None]
    scale = 2.0 ** (torch.div(row, 4, rounding_mode="floor") / 4 - 7 + 0.125)
    shift = (row % 4 + 0.5) / 8
    x = torch.arange(-SYMBOLS, SYMBOLS + 1, dtype=torch.float64) - shift
    return torch.exp2(-logistic_bits(x, scale.expand(-1, x.shape[1]))).numpy()
