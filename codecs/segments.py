"""Segments: which frames of a clip are which network's, and what a file says of it.

The first chunk of a file of video networks:

    the architecture, as `architecture.py` says; varint segments, then for each: varint frames * 2 + chained;
    varint frames that its network counts
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from codomain.codecs import bitstream
from codomain.codecs.architecture import Architecture
from codomain.codecs.bitstream import File, Header
from codomain.codecs.coder import BitstreamError, read_varint, write_varint
from jaxtyping import Float, UInt8
from torch import Tensor

THUMBNAIL = (9, 16)
CUT, TIMES_AROUND = 20.0, 5.0  # grey levels that a cut changes at least, absolutely and relative to the frames around
SHORTEST = 8  # frames of a segment at a cut


@dataclass(frozen=True)
class Segment:
    """Frames that one network knows.

    Attributes:
        start, frames: which.
        chained: whether its network is coded as differences to the one before.
        counted: frames that its network counts: its times are shares of them.
    """

    start: int
    frames: int
    chained: bool
    counted: int


@dataclass(frozen=True)
class Plan:
    """What the networks of a file have in common, and which frames are whose."""

    architecture: Architecture
    segments: tuple[Segment, ...]

    def to_bytes(self) -> bytes:
        """Return the first chunk of a file."""
        numbers = [len(self.segments)]
        for segment in self.segments:
            numbers += [2 * segment.frames + segment.chained, segment.counted]
        return self.architecture.to_bytes() + b"".join(map(write_varint, numbers))

    @classmethod
    def read(cls, data: bytes, header: Header) -> Plan:
        """Invert `to_bytes`.

        Raises:
            BitstreamError: if it is none, or not that of such a clip.
        """
        architecture, at = Architecture.read(data)
        width, height, frames = header.shape[:3]
        n, at = read_varint(data, at)
        if n > len(data):
            raise BitstreamError(f"{n} segments in a plan of {len(data)} bytes")
        segments: list[Segment] = []
        start = 0
        for i in range(n):
            code, at = read_varint(data, at)
            counted, at = read_varint(data, at)
            chained = bool(code & 1)
            if not 0 < code // 2 <= counted <= bitstream.MAX_SAMPLES or (
                chained and (i == 0 or counted != segments[-1].counted)
            ):
                raise BitstreamError(f"segment {i + 1} is damaged: {code // 2} frames of {counted}")
            segments.append(Segment(start, code // 2, chained, counted))
            start += code // 2
        if start != frames or at != len(data):
            raise BitstreamError(f"segments of {start} frames; the clip has {frames}")
        fault = architecture.fault(height, width, max(segment.counted for segment in segments))
        if fault:
            raise BitstreamError(fault)
        return cls(architecture, tuple(segments))


def cuts_of(x: UInt8[Tensor, "f 3 h w"], most: int) -> list[int]:
    """Return the first frames of segments: at cuts, and so that none has more than ``most`` frames."""
    return cuts_from(torch.cat([thumbnails(part) for part in x.split(64)]), most)


def thumbnails(x: UInt8[Tensor, "f 3 h w"]) -> Float[Tensor, "f 3 9 16"]:
    """Return what `cuts_from` looks at."""
    return F.adaptive_avg_pool2d(x.float(), THUMBNAIL)


def cuts_from(small: Float[Tensor, "f 3 9 16"], most: int) -> list[int]:
    """Return the first frames of segments, from the frames' thumbnails."""
    change = (small[1:] - small[:-1]).abs().mean((1, 2, 3))
    cuts = [0]
    for i, value in enumerate(change.tolist(), 1):
        around = float(change[max(0, i - 7) : i + 6].median())
        if value > CUT and value > TIMES_AROUND * around and i - cuts[-1] >= SHORTEST:
            cuts.append(i)
    firsts = []
    for start, stop in zip(cuts, [*cuts[1:], len(small)], strict=True):
        parts = -(-(stop - start) // most)
        firsts += [start + k * (stop - start) // parts for k in range(parts)]
    return firsts


def plan_of(file: File) -> Plan:
    """Return the plan of a parsed file.

    Raises:
        BitstreamError: if it has none, or other chunks than it says.
    """
    if not file.chunks or file.chunks[0] is None:
        raise BitstreamError("the plan of the clip is missing: nothing can be decoded")
    plan = Plan.read(file.chunks[0], file.header)
    if len(file.chunks) != 1 + len(plan.segments):
        raise BitstreamError(f"{len(file.chunks)} chunks; a clip of {len(plan.segments)} segments has one more")
    return plan


def segment_at(plan: Plan, time: float) -> int:
    """Return the segment of a time; between two, the first."""
    return bisect_right(plan.segments, time, key=lambda segment: segment.start) - 1
