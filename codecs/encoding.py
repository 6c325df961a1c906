"""Encoding: a clip's file in the making, segment by segment; memory holds one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from codomain.codecs import bitstream
from codomain.codecs.bitstream import NO_FLAGS, Flag, Header
from codomain.codecs.fit import Fit, Fitting
from codomain.codecs.nerv import VideoNetwork
from codomain.codecs.segments import Plan, Segment
from codomain.codecs.weight_bottleneck import Quantized
from jaxtyping import Bool, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from codomain.codecs.nerv_codec import NervCodec

FIRST = 2.0  # share of the bytes of a chain's first segment, to that of the others
ROOM = 88  # bytes of a file's header and plan, without its segments, at most
DEFAULT_SECONDS = 600.0


@dataclass(frozen=True)
class Settings:
    """What a user asks of an encoding.

    Attributes:
        n_bytes: of the file.
        seconds, epochs: that the fits take in all; without epochs, seconds.
        seed: of the networks.
    """

    n_bytes: int
    seconds: float | None = DEFAULT_SECONDS
    epochs: float | None = None
    seed: int = 0


class Encoding:
    """A file in the making: segments are fitted in their order, and memory holds one.

    Args:
        codec: whose.
        shape: (f, h, w) of the clip.
        settings: what is asked for.
        cuts: first frames of segments.
    """

    def __init__(self, codec: NervCodec, shape: Sequence[int], settings: Settings, cuts: Sequence[int]) -> None:
        self.codec, self.settings = codec, settings
        self.shape = frames, height, width = tuple(shape)
        spans = [(a, b - a) for a, b in zip(cuts, [*cuts[1:], frames], strict=True)]
        longest = max(n for _, n in spans)
        chained = codec.chained and len(spans) > 1
        segments = tuple(
            Segment(start, n, chained and i > 0, longest if chained else n) for i, (start, n) in enumerate(spans)
        )
        shares = [n * (FIRST if chained and i == 0 else 1.0) for i, (_, n) in enumerate(spans)]
        room = settings.n_bytes - ROOM - 12 * len(spans)
        self.bytes = [int(room * share / sum(shares)) for share in shares]
        self.seconds = [
            None if settings.seconds is None else settings.seconds * share / sum(shares) for share in shares
        ]
        largest = max(range(len(spans)), key=lambda i: self.bytes[i])
        architecture = codec.architecture(height, width, segments[largest].counted, self.bytes[largest])
        self.plan = Plan(architecture, segments)
        self.done: list[Quantized] = []
        self.chunks: list[bytes] = []

    def start(self, segment: Segment, x: UInt8[Tensor, "f 3 h w"], mask: Bool[Tensor, "f h w"] | None = None) -> Fit:
        """Return the fit of the next segment."""
        torch.manual_seed(self.settings.seed)
        network = VideoNetwork(self.plan.architecture, segment.counted)
        before = self.done[-1] if segment.chained else None
        i = len(self.done)
        return Fit(
            network, x, self.bytes[i], self.codec.recipe, self.settings.epochs,
            None if self.settings.epochs is not None else self.seconds[i], before, mask, self.settings.seed + i,
        )  # fmt: skip

    def fit(
        self,
        segment: Segment,
        x: UInt8[Tensor, "f 3 h w"],
        watch: Callable[[Fitting], None] = lambda state: None,
        mask: Bool[Tensor, "f h w"] | None = None,
    ) -> None:
        """Fit the next segment."""
        fit = self.start(segment, x, mask)
        fit.run(watch)
        self.add(segment, fit)

    def add(self, segment: Segment, fit: Fit) -> None:
        """Take a fit as it is, within its bytes."""
        before = self.done[-1] if segment.chained else None
        found = fit.squeeze()
        self.chunks.append(found.to_bytes(fit.layout.sizes, None if before is None else before.integers))
        self.done.append(found)

    def finish(
        self,
        rate: Fraction,
        index: int = 0,
        sections: Mapping[int, bytes] | None = None,
        depth: int = 8,
        flags: Flag = NO_FLAGS,
    ) -> bytes:
        """Return the file of the segments that are fitted: all, or the first of them."""
        segments = self.plan.segments[: len(self.chunks)]
        frames = sum(segment.frames for segment in segments)
        plan = replace(self.plan, segments=segments)
        shape = (self.shape[2], self.shape[1], frames, rate.numerator, rate.denominator)
        header = Header("video", self.codec.digest, shape, depth, index, flags)
        return bitstream.write(header, [plan.to_bytes(), *self.chunks], sections)
