"""Bottleneck: makes latents discrete and prices them; `EntropyBottleneck` is the scalar one.

y --to_symbols--> integers --coder--> bytes        (deployed: integer tables, no floats decide)
y --forward--> y_hat, bits, loss                   (training: a learned density gives the bits)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from codomain.codecs.coder import Tables, decode_symbols, encode_symbols
from codomain.kernels.analysis import round_to
from jaxtyping import Float, Int32, Integer
from torch import Tensor, nn

Result = TypeVar("Result")
PRIOR = 1024  # observations that the training density counts for in the tables


class BottleneckOutput(NamedTuple):
    """What training needs: discrete latents, their information, and the bottleneck's own loss."""

    y_hat: Float[Tensor, "b d *grid"]
    bits: Float[Tensor, " b"]  # of each signal
    loss: Float[Tensor, ""]  # commitment terms and the like; 0 where there are none


class Bottleneck(nn.Module):
    """Interface of everything between an encoder and the entropy coder.

    Where one set of weights has many rates (``has_rates``), the methods take a quality: in training a float from 1 to
    100 per signal, in files its index, 4 * quality, an integer from 4 to 400. Elsewhere it is None, and 0.

    A region of the latent grid is coded as one payload for each of ``layers``; of a residual quantizer, a layer is a
    stage. The rows of symbols are those of layer 0, then those of layer 1 and so on, equally many each; the first alone
    stand for latents too, coarser ones. A layer may be coded with the layers before it as context.

    Attributes:
        channels: of the latents.
        layers: payloads of a region.
    """

    channels: int
    layers: int = 1
    has_rates = False
    _integers: Any = None  # what coding needs, made of the buffers when first asked for

    @property
    def n_symbols(self) -> int:
        """Integers at each position of the grid: of a scalar quantizer, one for each latent."""
        return self.channels

    def forward(self, y: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None) -> BottleneckOutput:
        """Quantize and price, differentiably."""
        raise NotImplementedError

    def to_symbols(self, y: Float[Tensor, "b d *grid"], index: int = 0) -> Int32[Tensor, "b s *grid"]:
        """Return the integers that are entropy-coded."""
        raise NotImplementedError

    def steps(self, index: int = 0) -> Float[Tensor, " d"] | None:
        """Return the steps, if `to_symbols` is no more than rounding to multiples of one step per channel."""
        return None

    def from_symbols(self, symbols: Integer[Tensor, "b s *grid"], index: int = 0) -> Float[Tensor, "b d *grid"]:
        """Return the latents that the integers of the first layers, or of all, stand for; of the same scale at every
        quality.
        """
        raise NotImplementedError

    def encode(self, symbols: Int32[np.ndarray, " s *grid"], index: int = 0) -> list[bytes]:
        """Return the payloads of one region of symbols, one a layer."""
        tables = self.tables()
        return [encode_symbols(np.ascontiguousarray(symbols.reshape(len(symbols), -1)), tables)]

    def decode(self, payloads: Sequence[bytes], grid: Sequence[int], index: int = 0) -> Int32[np.ndarray, " s *grid"]:
        """Return exactly the symbols that `encode` was given; of the first layers alone, where only they are given.

        Raises:
            BitstreamError: if the bytes are not such payloads.
        """
        tables, (data,) = self.tables(), payloads
        return decode_symbols(data, tables, prod(grid)).reshape(len(tables), *grid)

    def encode_chunks(self, symbols: Sequence[Int32[Tensor, " s *_"]], index: int = 0) -> list[list[bytes]]:
        """Return the payloads of every region, one a layer: all at once where they lie on a GPU, else a thread each."""
        self.tables()  # before the threads: it is made once
        if symbols[0].is_cuda:
            with torch.cuda.device(symbols[0].device):
                return self._encode_on_gpu(symbols, index)
        return list(in_threads(lambda part: self.encode(part.numpy(), index), symbols))

    def read_chunks(
        self, payloads: Sequence[Sequence[bytes]], grids: Sequence[Sequence[int]], index: int = 0
    ) -> Iterator[Int32[Tensor, " s *_"]]:
        """Yield the integers of every region, on the CPU, a thread each; see `decode_chunks`."""
        self.tables()
        return in_threads(lambda layers, grid: torch.from_numpy(self.decode(layers, grid, index)), payloads, grids)

    def decode_chunks(
        self, payloads: Sequence[Sequence[bytes]], grids: Sequence[Sequence[int]], index: int, device: torch.device
    ) -> Iterator[Float[Tensor, " 1 d *_"]]:
        """Yield the latents of every region, on a device: all at once if it is a GPU, else a thread each.

        Args:
            payloads: of each region those of its first layers, one at least.
            grids: sides of each region.
            index: of the quality.
            device: where the latents are wanted.

        Raises:
            BitstreamError: if the bytes of one are not such a payload.
        """
        self.tables()
        if device.type == "cuda":
            with torch.cuda.device(device):
                for part in self._decode_on_gpu(payloads, grids, index, device) if payloads else []:
                    yield self.from_symbols(part[None], index)
            return
        for part in self.read_chunks(payloads, grids, index):
            yield self.from_symbols(part[None], index)

    def _encode_on_gpu(self, symbols: Sequence[Tensor], index: int) -> list[list[bytes]]:
        from codomain.codecs import chunks

        return [[data] for data in chunks.encode_symbols([part.flatten(1) for part in symbols], self.tables())]

    def _decode_on_gpu(
        self, payloads: Sequence[Sequence[bytes]], grids: Sequence[Sequence[int]], index: int, device: torch.device
    ) -> list[Tensor]:
        from codomain.codecs import chunks

        parts = chunks.decode_symbols(
            [data for (data,) in payloads], self.tables(), [prod(grid) for grid in grids], device
        )
        return [part.unflatten(1, tuple(grid)) for part, grid in zip(parts, grids, strict=True)]

    def start(self, y: Float[Tensor, "b d *grid"], bits: float | None = None) -> None:
        """Set the parameters from sample latents before training; ``bits`` is the wanted rate per position."""
        raise NotImplementedError

    def prepare_training(self) -> None:
        """Create what only training needs."""

    def statistics(self) -> dict[str, Tensor]:
        """Return what is worth watching in training, by name: how codebooks are used, where there are any."""
        return {}

    def freeze_tables(self, y: Sequence[Float[Tensor, " d *grid"]] = ()) -> None:
        """Make the integers that `encode` and `decode` need: from the density, sharpened by latents of samples."""
        raise NotImplementedError

    def tables(self) -> Tables:
        """Return the integer tables."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        freqs = state_dict.get(prefix + "freqs")
        if freqs is not None:  # tables have the width that the weights bring
            self.freqs = torch.zeros_like(freqs)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._integers = None


class EntropyBottleneck(Bottleneck):
    """Uniform scalar quantizer with a learned step and a learned density per channel.

    Training follows Minnen and Singh, "Channel-wise autoregressive entropy models", 2020, section 3.3: the
    rate is that of ``y / step + U(-1/2, 1/2)`` under a factorized density (Balle et al. 2018, appendix 6.1;
    CompressAI's), while the decoder sees rounded latents through a straight-through gradient.

    Args:
        channels: latent channels ``d``.
        precision: table frequencies sum to ``2**precision``.
    """

    freqs: Tensor
    offsets: Tensor

    def __init__(self, channels: int, precision: int = 14) -> None:
        super().__init__()
        self.channels, self.precision = channels, precision
        self.log_step = nn.Parameter(torch.zeros(channels))
        self.register_buffer("freqs", torch.zeros(channels, 0, dtype=torch.int32))
        self.register_buffer("offsets", torch.zeros(channels, dtype=torch.int32))
        self.density: Any = None  # CompressAI's, which has no types

    def forward(self, y: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None) -> BottleneckOutput:
        """Return rounded latents and the bits of the noisy (training) or rounded (evaluation) ones."""
        if self.density is None:
            raise RuntimeError("forward needs the density: call prepare_training() first")
        step = self._per_channel(self.log_step.exp(), y)
        rounded, noisy = round_and_noise(y / step, self.training)
        return BottleneckOutput(rounded * step, self._bits(noisy), y.new_zeros(()))

    def to_symbols(self, y: Float[Tensor, "b d *grid"], index: int = 0) -> Int32[Tensor, "b d *grid"]:
        """Round to the nearest step; values beyond int32 saturate.

        Raises:
            ValueError: if a latent is NaN or infinite.
        """
        return round_to(y / self._per_channel(self.log_step.exp(), y))

    def steps(self, index: int = 0) -> Float[Tensor, " d"]:
        """Return the step of each channel."""
        return self.log_step.exp()

    def from_symbols(self, symbols: Integer[Tensor, "b d *grid"], index: int = 0) -> Float[Tensor, "b d *grid"]:
        """Multiply by the steps."""
        v = symbols.to(self.log_step.dtype)
        return v * self._per_channel(self.log_step.exp(), v)

    @torch.no_grad()
    def start(self, y: Float[Tensor, "b d *grid"], bits: float | None = None) -> None:
        """One step for all channels, such that a position of ``y`` costs about ``bits``; density fitted to it.

        One step for all is the optimum of reverse water-filling for orthonormal latents.
        """
        self.prepare_training()
        y = y.movedim(1, -1).flatten(0, -2)
        if bits is not None:
            self.log_step.fill_(step_for(y, bits))
        assert self.density is not None
        with torch.enable_grad():
            fit = torch.optim.Adam(self.density.parameters(), lr=2e-2)
            for _ in range(400):
                rows = y[torch.randint(len(y), (min(len(y), 2048),))]
                v = (rows / self.log_step.exp()).detach().T[None]
                cost = self._bits(v + torch.rand_like(v) - 0.5).sum() / len(rows)
                fit.zero_grad()
                cost.backward()
                fit.step()

    def prepare_training(self) -> None:
        """Create CompressAI's density; its import takes seconds, so nothing else here imports it."""
        if self.density is None:
            from compressai.entropy_models import EntropyBottleneck as Density

            self.density = Density(self.channels)
            self.density.quantiles.requires_grad_(False)  # only CompressAI's own coder reads them

    @torch.no_grad()
    def freeze_tables(self, y: Sequence[Float[Tensor, " d *grid"]] = (), widest: int = 2048) -> None:
        """Count the integers of ``y``; what lies beyond ``2**-precision`` is left to the escape.

        The density has seen noisy latents, and is smoother than rounded ones are: by itself it costs one percent
        more. Here it is a prior, worth `PRIOR` observations.
        """
        if self.density is None:
            raise RuntimeError("freeze_tables needs the density: call prepare_training() first")
        grid = torch.arange(-widest, widest + 1, dtype=torch.float32)
        mass = self._likelihood(grid.expand(self.channels, 1, -1)).double().numpy()[:, 0]
        if y:
            rows = torch.cat([part.flatten(1) for part in y], 1)
            symbols = (rows / self.log_step.exp()[:, None]).round().clamp(-widest, widest).long() + widest
            counts = torch.zeros(mass.shape, dtype=torch.int64).scatter_add_(1, symbols, torch.ones_like(symbols))
            mass = (counts.numpy() + PRIOR * mass) / (rows.shape[1] + PRIOR)
        seen = mass > 0.5 / (1 << self.precision)
        first = seen.argmax(1)
        width = int((seen.shape[1] - seen[:, ::-1].argmax(1) - first).max())
        pick = np.minimum(first[:, None] + np.arange(width), 2 * widest)
        kept = np.where(np.take_along_axis(seen, pick, 1), np.take_along_axis(mass, pick, 1) * 2.0**40, 0)
        tables = Tables.from_counts(kept.astype(np.int64), first - widest, self.precision)
        self.freqs = torch.from_numpy(tables.freqs.astype(np.int32))
        self.offsets = torch.from_numpy(tables.offsets.astype(np.int32))
        self._integers = None

    def tables(self) -> Tables:
        """Return the tables stored with the weights.

        Raises:
            ValueError: if the weights carry none.
        """
        if self._integers is None:
            if self.freqs.shape[1] == 0:
                raise ValueError("this bottleneck has no tables yet: train it, or load trained weights")
            self._integers = Tables(self.freqs.cpu().numpy(), self.offsets.cpu().numpy(), self.precision)
        tables: Tables = self._integers
        return tables

    def _bits(self, v: Float[Tensor, "b d *grid"]) -> Float[Tensor, " b"]:
        rows = v.transpose(0, 1).reshape(self.channels, 1, -1)
        bits = -self._likelihood(rows).clamp_min(1e-9).log2()
        return bits.reshape(self.channels, len(v), -1).sum((0, 2))

    def _likelihood(self, rows: Float[Tensor, "d 1 n"]) -> Float[Tensor, "d 1 n"]:
        assert self.density is not None
        likelihood: Tensor = self.density._likelihood(rows)[0]  # F(v + 1/2) - F(v - 1/2); forward() adds noise
        return likelihood

    @staticmethod
    def _per_channel(v: Float[Tensor, " d"], like: Tensor) -> Tensor:
        return v.reshape(-1, *[1] * (like.dim() - 2))


def in_threads(function: Callable[..., Result], *arguments: Sequence[Any]) -> Iterator[Result]:
    """Map as `map` does, but a thread a call where there are several: the coder leaves the interpreter free."""
    threads = min(torch.get_num_threads(), len(arguments[0]))
    if threads < 2:  # to start a thread takes as long as to decode a small picture
        yield from map(function, *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, *arguments)


def round_and_noise(
    v: Float[Tensor, "*shape"], training: bool
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return what the decoder sees, rounded with a straight-through gradient, and what the rate is of: in training with
    uniform noise, else the same.
    """
    rounded = v + (v.round() - v).detach()
    return rounded, v + torch.rand_like(v) - 0.5 if training else rounded


def step_for(y: Float[Tensor, "n d"], bits: float) -> float:
    """Return the natural logarithm of the one step at which a row of ``y`` costs about ``bits``, a table a channel."""
    low, high = -8.0, 4.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _entropy(y / np.exp(middle)) > bits else (low, middle)
    return high


def _entropy(v: Float[Tensor, "n d"]) -> float:
    """Empirical entropy of the rounded values: bits per row, one table per column."""
    total = 0.0
    for column in v.round().T:
        p = column.unique(return_counts=True)[1] / len(column)
        total -= float((p * p.log2()).sum())
    return total
