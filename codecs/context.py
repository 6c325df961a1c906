"""Context: integer symbols of a plane of latents to bytes and back, each with the table that its neighbours choose.

    channel by channel, ten phases each: forms of what is decoded --> table, rounded value --> coder

The forms and their order are specified in `kernels/context.py`. No floats enter this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from codomain.codecs.coder import BitstreamError, Decoder, Encoder, Tables
from codomain.kernels import context
from codomain.kernels.context import N_TABLES, PHASES, Forms, Weights
from jaxtyping import Int32, UInt16


@dataclass(frozen=True)
class ContextModel:
    """Integer weights and tables of a context model.

    Attributes:
        forms: weights of the predictions.
        floors: (anchors, phases, d) least spread of each phase and channel, at qualities evenly spaced over 1 to 100.
        tables: `N_TABLES` rows.

    Raises:
        ValueError: for weights that could overflow, or shapes that do not fit.
    """

    forms: Forms
    floors: Int32[np.ndarray, "anchors p d"]
    tables: Tables
    _floors: dict[int, Int32[np.ndarray, "p d"]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        context.check(self.forms)
        d = len(self.forms.value)
        if (
            self.floors.shape[1:] != (len(PHASES), d)
            or len(self.floors) < 2
            or (self.floors < 1).any()
            or (self.floors >> 24).any()
        ):
            raise ValueError(
                f"expected floors (2 or more, {len(PHASES)}, {d}) from 1 to 2**24; found {self.floors.shape}"
            )
        if len(self.tables) != N_TABLES:
            raise ValueError(f"expected {N_TABLES} tables; found {len(self.tables)}")

    @cached_property
    def weights(self) -> Weights:
        """Those of the forms, as the compiled functions take them."""
        return context.packed(self.forms)

    def encode(self, symbols: Int32[np.ndarray, "d h w"], index: int, backend: str = "numba") -> bytes:
        """Return the payload of one chunk; any integer within +-2**30 is legal.

        Args:
            symbols: of one chunk.
            index: of the quality, 4 to 400.
            backend: "numba", or "numpy", the specification.
        """
        encoder = Encoder(self.tables, backend)
        rows, coded = self.choose(symbols, index, backend)
        encoder.push(coded, rows)
        return encoder.finish()

    def decode(
        self, data: bytes | memoryview, d: int, h: int, w: int, index: int, backend: str = "numba"
    ) -> Int32[np.ndarray, "d h w"]:
        """Return exactly the symbols that `encode` was given.

        Raises:
            BitstreamError: if the bytes are not such a payload.
        """
        decoder = Decoder(data, self.tables, d * h * w, backend)
        symbols = np.zeros((d, h, w), np.int32)
        if backend == "numba":
            decoder.pop_all(symbols, self.weights, self.floor(index))
        else:
            for c, phase, row, nearest, mirror in context.steps_reference(symbols, self.forms, self.floor(index)):
                part = decoder.pop(row).astype(np.int64) * mirror + nearest
                if len(part) and max(part.max(), -part.min()) > 1 << 30:
                    raise BitstreamError("a latent is beyond 2**30 steps")
                target = symbols[c][context.part(phase)]
                target[...] = part.reshape(target.shape)
        decoder.finish()
        return symbols

    def choose(
        self, symbols: Int32[np.ndarray, "d h w"], index: int, backend: str = "numba"
    ) -> tuple[UInt16[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
        """Return the table and the coded integer of every symbol, in coding order."""
        if len(symbols) != len(self.forms.value):
            raise ValueError(f"expected {len(self.forms.value)} channels; found {len(symbols)}")
        if backend == "numba":
            return context.choose(np.ascontiguousarray(symbols), self.weights, self.floor(index))
        rows, coded = [], []
        for c, phase, row, nearest, mirror in context.steps_reference(symbols, self.forms, self.floor(index)):
            rows.append(row)
            coded.append((symbols[c][context.part(phase)].ravel() - nearest) * mirror)
        return np.concatenate(rows), np.concatenate(coded)

    def floor(self, index: int) -> Int32[np.ndarray, "p d"]:
        """Interpolate the least spreads; the same integers on every machine."""
        if index not in self._floors:
            self._floors[index] = self._interpolated(index)
        return self._floors[index]

    def _interpolated(self, index: int) -> Int32[np.ndarray, "p d"]:
        low, t = divmod((index - 4) * (len(self.floors) - 1), 396)
        low, t = (low, t) if low < len(self.floors) - 1 else (low - 1, 396)
        between = self.floors[low].astype(np.int64) * (396 - t) + self.floors[low + 1].astype(np.int64) * t
        floors: np.ndarray = (between // 396).astype(np.int32)
        return floors
