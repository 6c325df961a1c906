"""ContextBottleneck: one set of weights for many rates, entropy-coded with what is decoded already.

y --/ step of channel and quality--> integers --ContextModel--> bytes
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from codomain.codecs.bottleneck import Bottleneck, BottleneckOutput, round_and_noise, step_for
from codomain.codecs.coder import Tables
from codomain.codecs.context import ContextModel
from codomain.codecs.density import ContextDensity, interpolate
from codomain.kernels.analysis import round_to
from codomain.kernels.context import N_TABLES, PHASES, Forms
from jaxtyping import Float, Int32, Integer
from torch import Tensor, nn

PRECISION = 14  # bits of the tables' sums
QUALITIES_PER_OCTAVE = 16  # of the step, where training starts


class ContextBottleneck(Bottleneck):
    """Uniform scalar quantizer with a learned step per channel and quality, and a context model.

    Latents of one axis, those of sound, are a plane of one row: of its ten passes four have positions, in time alone.

    Trained as `EntropyBottleneck`: noise for the rate, rounding with a straight-through gradient for the decoder.

    Args:
        channels: latent channels ``d``; they are coded in this order.
        anchors: qualities, evenly spaced over 1 to 100, with steps of their own; between them the logarithm is linear.
        fit_steps: of the context model, on rounded latents, when the tables are made.
    """

    has_rates = True

    def __init__(self, channels: int, anchors: int = 9, fit_steps: int = 1500) -> None:
        super().__init__()
        self.channels, self.anchors, self.fit_steps = channels, anchors, fit_steps
        self.log_step = nn.Parameter(torch.zeros(anchors, channels))
        for name, shape in (
            ("value", (channels, channels, 5)),
            ("spread", (channels, channels, 5)),
            ("value_ring", (len(PHASES), channels, 8)),
            ("spread_ring", (len(PHASES), channels, 8)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int16))
        self.register_buffer("floors", torch.zeros(anchors, len(PHASES), channels, dtype=torch.int32))
        self.register_buffer("freqs", torch.zeros(N_TABLES, 0, dtype=torch.int16))
        self.register_buffer("offsets", torch.zeros(N_TABLES, dtype=torch.int32))
        self.density: ContextDensity | None = None

    def forward(self, y: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None) -> BottleneckOutput:
        """Return rounded latents and the bits of the noisy (training) or rounded (evaluation) ones."""
        if self.density is None or quality is None:
            raise RuntimeError("forward needs qualities and the density: call prepare_training() first")
        step = interpolate(self.log_step, quality).exp().reshape(len(y), -1, *[1] * (y.dim() - 2))
        rounded, noisy = round_and_noise(y / step, self.training)
        bits = self.density(as_planes(rounded), as_planes(noisy), quality)
        return BottleneckOutput(rounded * step, bits, y.new_zeros(()))

    def to_symbols(self, y: Float[Tensor, "b d *grid"], index: int = 0) -> Int32[Tensor, "b d *grid"]:
        """Round to the nearest step of a quality; values beyond int32 saturate.

        Raises:
            ValueError: if a latent is NaN or infinite.
        """
        return round_to(y / self._step(index, y.dim()))

    def steps(self, index: int = 0) -> Float[Tensor, " d"]:
        """Return the step of each channel at a quality."""
        return self._step(index, 2)[0]

    def from_symbols(self, symbols: Integer[Tensor, "b d *grid"], index: int = 0) -> Float[Tensor, "b d *grid"]:
        """Multiply by the steps of a quality: the scale of `y`, whatever the quality."""
        return symbols.to(self.log_step.dtype) * self._step(index, symbols.dim())

    def encode(self, symbols: Int32[np.ndarray, " d *grid"], index: int = 0) -> list[bytes]:
        """Return the payload of one region of symbols."""
        return [self.model().encode(symbols.reshape(len(symbols), -1, symbols.shape[-1]), index)]

    def decode(self, payloads: Sequence[bytes], grid: Sequence[int], index: int = 0) -> Int32[np.ndarray, " d *grid"]:
        """Return exactly the symbols that `encode` was given.

        Raises:
            BitstreamError: if the bytes are not such a payload.
        """
        (data,), (height, width) = payloads, _plane(grid)
        return self.model().decode(data, self.channels, height, width, index).reshape(-1, *grid)

    def _encode_on_gpu(self, symbols: Sequence[Tensor], index: int) -> list[list[bytes]]:
        from codomain.codecs import chunks

        planes = [part.reshape(len(part), -1, part.shape[-1]) for part in symbols]
        return [[data] for data in chunks.encode_in_context(planes, self.model(), index)]

    def _decode_on_gpu(
        self, payloads: Sequence[Sequence[bytes]], grids: Sequence[Sequence[int]], index: int, device: torch.device
    ) -> list[Tensor]:
        from codomain.codecs import chunks

        data = [data for (data,) in payloads]
        planes = chunks.decode_in_context(data, self.model(), [_plane(grid) for grid in grids], index, device)
        return [part.reshape(-1, *grid) for part, grid in zip(planes, grids, strict=True)]

    def start(self, y: Float[Tensor, "b d *grid"], bits: float | None = None) -> None:
        """One step for all channels at quality 50, such that a position of ``y`` costs about ``bits`` without
        contexts; `QUALITIES_PER_OCTAVE` from there; density fitted.
        """
        self.prepare_training()
        if bits is not None:
            octaves = (50 - torch.linspace(1, 100, self.anchors)) / QUALITIES_PER_OCTAVE
            rows = y.movedim(1, -1).flatten(0, -2)
            with torch.no_grad():
                self.log_step.copy_((step_for(rows, bits) + octaves * math.log(2))[:, None].expand_as(self.log_step))
        assert self.density is not None
        self.density.fit(list(as_planes(y)), self.log_step.detach(), min(500, self.fit_steps))

    def prepare_training(self) -> None:
        """Create the density."""
        if self.density is None:
            self.density = ContextDensity(self.channels, self.anchors)

    def freeze_tables(self, y: Sequence[Float[Tensor, " d *_"]] = ()) -> None:
        """Fit the density to the rounded latents ``y``, and make it integers.

        Raises:
            ValueError: without samples: there is nothing to count.
        """
        if self.density is None or not y:
            raise ValueError("the tables of a context model are counted: expected latents of samples")
        log_step, planes = self.log_step.detach(), [as_planes(part[None])[0] for part in y]
        self.density.fit(planes, log_step, self.fit_steps)
        self._keep(self.density.to_integers(planes, log_step))

    def model(self) -> ContextModel:
        """Return the integer model that the weights carry.

        Raises:
            ValueError: if they carry none.
        """
        if self._integers is None:
            if self.freqs.shape[1] == 0:
                raise ValueError("this bottleneck has no tables yet: train it, or load trained weights")
            forms = Forms(*(getattr(self, name).cpu().numpy() for name in Forms._fields))
            tables = Tables(self.freqs.cpu().numpy().astype(np.int32), self.offsets.cpu().numpy(), PRECISION)
            self._integers = ContextModel(forms, self.floors.cpu().numpy(), tables)
        model: ContextModel = self._integers
        return model

    def tables(self) -> Tables:
        """Return the tables that all channels share."""
        return self.model().tables

    def _step(self, index: int, dims: int = 4) -> Float[Tensor, "1 d *ones"]:
        step = interpolate(self.log_step, self.log_step.new_tensor([index / 4])).exp()
        return step.reshape(1, -1, *[1] * (dims - 2))

    def _keep(self, model: ContextModel) -> None:
        for name, weights in model.forms._asdict().items():
            setattr(self, name, torch.from_numpy(weights))
        self.floors = torch.from_numpy(model.floors)
        self.freqs = torch.from_numpy(model.tables.freqs.astype(np.int16))
        self.offsets = torch.from_numpy(model.tables.offsets.astype(np.int32))
        self._integers = None


def as_planes(y: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b d h w"]:
    """Return latents of one axis as planes of one row, and planes as they are."""
    return y[:, :, None] if y.dim() == 3 else y


def _plane(grid: Sequence[int]) -> tuple[int, int]:
    height, width = grid if len(grid) == 2 else (1, *grid)
    return height, width
