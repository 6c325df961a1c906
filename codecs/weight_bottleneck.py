"""WeightBottleneck: the numbers of a network as integers, whose rate is learned with them.

    w --/ step--> round --integers--> bytes; integers * step --> w_hat

Numbers come in groups: a tensor, or the channel of an embedding. A group has a step, of 8 bits, and a table of
`weight_tables.py`, of 8 bits. In training the rate of a group is that of a Laplace distribution about zero, or about
the integers of the network before, whose spread is the group's own: nothing is learned for it, and a code is sent.

Source: Zhang et al., "Boosting neural representations for videos with a conditional decoder", 2024, section 3.4
(consistent entropy minimization); the residuals of weights: Maiya et al., "NIRVANA", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from codomain.codecs import weight_tables
from codomain.codecs.coder import BitstreamError, Decoder, Encoder
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn

PER_OCTAVE, LOWEST = 16, -14  # of steps: 2 ** (code / 16 - 14)
START_BITS = 6  # of the largest number of a group, at the start
MAX_INTEGER = 1 << 24  # beyond which float32 would round


class Quantized(NamedTuple):
    """Integers of a network, group by group, and how large a unit of each is."""

    integers: Int32[np.ndarray, " n"]
    steps: UInt8[np.ndarray, " g"]  # codes

    def values(self, sizes: Sequence[int]) -> Float[Tensor, " n"]:
        """Return the numbers."""
        return torch.from_numpy(self.integers.astype(np.float32) * np.repeat(step_sizes(self.steps), sizes))

    def to_bytes(self, sizes: Sequence[int], before: Int32[np.ndarray, " n"] | None = None) -> bytes:
        """Return the codes of the steps and tables, and the payload.

        Args:
            sizes: of the groups.
            before: integers of the network before, with the same steps, whose differences are coded.
        """
        coded = self.integers if before is None else self.integers - before
        groups = np.split(coded, np.cumsum(sizes)[:-1])
        chosen = np.array([weight_tables.choose(group)[0] for group in groups], np.uint8)
        kinds, rows = np.unique(chosen, return_inverse=True)
        encoder = Encoder(weight_tables.tables(kinds))
        encoder.push(coded, np.repeat(rows, sizes))
        steps = self.steps.tobytes() if before is None else b""
        return steps + chosen.tobytes() + encoder.finish()


def read_quantized(data: bytes | memoryview, sizes: Sequence[int], before: Quantized | None = None) -> Quantized:
    """Invert `Quantized.to_bytes`.

    Raises:
        BitstreamError: if the bytes are not such a network.
    """
    head = len(sizes) * (2 if before is None else 1)
    if len(data) < head:
        raise BitstreamError(f"network of {len(data)} bytes ends before its {head} codes")
    codes = np.frombuffer(data, np.uint8, head)
    steps, chosen = (codes[: len(sizes)], codes[len(sizes) :]) if before is None else (before.steps, codes)
    kinds, rows = np.unique(chosen, return_inverse=True)
    decoder = Decoder(memoryview(data)[head:], weight_tables.tables(kinds), sum(sizes))
    found = decoder.pop(np.repeat(rows, sizes)).astype(np.int64)
    decoder.finish()
    if before is not None:
        found += before.integers
    if len(found) and np.abs(found).max() > MAX_INTEGER:
        raise BitstreamError(f"network holds integers beyond {MAX_INTEGER}")
    return Quantized(found.astype(np.int32), steps.copy())


class WeightBottleneck(nn.Module):
    """Numbers and their steps while they are learned.

    Args:
        values: numbers, group by group.
        sizes: of the groups.
        before: the network before: numbers start as its, and their differences in its steps are priced.
    """

    before: Tensor
    groups: Tensor
    counts: Tensor

    def __init__(self, values: Float[Tensor, " n"], sizes: Sequence[int], before: Quantized | None = None) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.register_buffer("groups", torch.repeat_interleave(torch.tensor(self.sizes)), persistent=False)
        self.register_buffer("counts", torch.tensor(self.sizes, dtype=torch.float32), persistent=False)
        if before is None:
            largest = torch.stack([group.abs().max() for group in values.split(self.sizes)]).clamp_min(1e-3)
            start = (largest / 2 ** (START_BITS - 1)).log2()
        else:
            start = torch.from_numpy(np.log2(step_sizes(before.steps)))
            values = before.values(self.sizes)
        self.chained = before is not None
        self.values = nn.Parameter(values.clone())
        self.log_steps = nn.Parameter(start.float(), requires_grad=before is None)
        integers = np.zeros(len(values), np.float32) if before is None else before.integers.astype(np.float32)
        self.register_buffer("before", torch.from_numpy(integers))

    def forward(self, rounded: bool = True) -> tuple[Float[Tensor, " n"], Float[Tensor, ""]]:
        """Return what the decoder will have, and the bits of it; with gradients as if nothing were rounded.

        Args:
            rounded: whether numbers are; else they are returned as they are, at the same price.
        """
        log_steps = self.log_steps
        codes = log_steps + (_to_codes(log_steps) / PER_OCTAVE + LOWEST - log_steps).detach()
        steps = codes.exp2()[self.groups]
        scaled = self.values / steps
        integers = scaled + (scaled.round() - scaled).detach()
        bits = self._bits(integers - self.before if self.chained else integers)
        return (integers * steps if rounded else self.values), bits

    def _bits(self, integers: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        magnitudes = integers.abs()
        spread = torch.zeros_like(self.counts).index_add(0, self.groups, magnitudes) / self.counts
        inverse = (1 / (spread + 0.05))[self.groups]
        near = torch.special.expm1(-0.5 * inverse).neg()  # probability of 0
        # of others: exp(-m / b) sinh(1 / 2b)
        others = magnitudes * inverse - (torch.special.expm1(inverse) / 2).log() + 0.5 * inverse
        nats = torch.where(integers.detach().abs() < 0.5, -near.log() + magnitudes * inverse, others)
        return nats.sum() / 0.6931471805599453

    @torch.no_grad()
    def quantized(self) -> Quantized:
        """Return the integers."""
        codes = _to_codes(self.log_steps).cpu().numpy().astype(np.uint8)
        steps = torch.from_numpy(step_sizes(codes)).to(self.values.device)[self.groups]
        integers = (self.values / steps).round().clamp(-MAX_INTEGER, MAX_INTEGER)
        return Quantized(integers.cpu().numpy().astype(np.int32), codes)


def step_sizes(codes: UInt8[np.ndarray, " g"]) -> Float[np.ndarray, " g"]:
    """Return the steps that codes stand for."""
    steps: np.ndarray = np.exp2(codes.astype(np.float64) / PER_OCTAVE + LOWEST).astype(np.float32)
    return steps


def _to_codes(log_steps: Float[Tensor, " g"]) -> Float[Tensor, " g"]:
    return ((log_steps - LOWEST) * PER_OCTAVE).round().clamp(0, 255)
