"""Audio track: the sound of a film, its packets untouched <-> bytes of ours. Nothing here decodes sound.

All numbers are varints (unsigned LEB128); *signed* ones are zigzag: 0, -1, 1, -2 are 0, 1, 2, 3.

    varint  version: 1
    varint  length of the codec's description, then it: the elements CodecID, CodecPrivate, CodecDelay, SeekPreRoll and
            Audio of a Matroska TrackEntry (RFC 9559), each at most once, as bytes of EBML
    varints unit of time in seconds: numerator, denominator, 1 to 2^31 - 1
    signed  time of the first packet; the first frame of the film is shown at 0
    varint  step: the usual time from a packet to the next
    varint  number of packets; then for each
    varint  2 * size in bytes + 1 if the time to the next packet, or to the end, is not the step
    signed  in that case: that time - step
    ...     the packets, one after the other, to the end
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from codomain.codecs.coder import BitstreamError, read_varint, write_varint

if TYPE_CHECKING:
    from av import AudioStream, Packet
    from av.container import OutputContainer

VERSION = 1
EBML, SEGMENT, CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
TRACKS, ENTRY = b"\x16\x54\xae\x6b", b"\xae"
CODEC = b"\x86"
KEPT = (CODEC, b"\x63\xa2", b"\x56\xaa", b"\x56\xbb", b"\xe1")  # what says how packets are decoded
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
PROBED = 8  # packets, from which the size of frames is found that Matroska does not store
FARTHEST = 1 << 60  # time
LARGEST = (1 << 31) - 1


@dataclass(frozen=True)
class Track:
    """Packets of one sound track.

    Attributes:
        description: elements of a Matroska TrackEntry.
        time_base: unit of time, in seconds.
        times: when each packet begins, and, behind them, when the last ends; 0 is the first frame of the film.
        packets: as the source has them.
    """

    description: bytes
    time_base: Fraction
    times: Sequence[int]
    packets: Sequence[bytes | memoryview]

    @property
    def codec(self) -> str:
        """Name of the codec in Matroska."""
        return next(str(body, "ascii", "replace") for name, body in _elements(self.description) if name == CODEC)

    def add_to(self, out: OutputContainer) -> AudioStream:
        """Add a stream for these packets to a file.

        Raises:
            ValueError: if that format does not hold such sound.
            BitstreamError: if the description is damaged.
        """
        import av

        try:
            with av.open(io.BytesIO(self._matroska()), format="matroska") as source:
                template = source.streams.audio[0]
                if template.codec_context is None:
                    raise BitstreamError(f"sound of an unknown codec, {self.codec}")
                try:
                    stream = out.add_stream_from_template(template, opaque=True)
                except ValueError:
                    name = out.format.name.upper()
                    raise ValueError(f"{name} holds no {template.codec_context.name} sound: write .mkv") from None
        except (av.error.FFmpegError, IndexError):
            raise BitstreamError(f"the description of the sound track, {self.codec}, is damaged") from None
        if stream.layout.name == f"{stream.channels} channels" and stream.channels in LAYOUTS:
            stream.layout = LAYOUTS[stream.channels]  # Matroska counts channels; MP4 wants to know where they are
        return stream

    def packets_for(self, stream: AudioStream) -> Iterator[Packet]:
        """Yield packets to write to a stream, in order."""
        import av

        for data, (start, stop) in zip(self.packets, pairwise(self.times), strict=True):
            packet = av.Packet(bytes(data))
            packet.stream, packet.time_base, packet.is_keyframe = stream, self.time_base, True
            packet.pts = packet.dts = start
            packet.duration = max(0, stop - start)
            yield packet

    def to_bytes(self) -> bytes:
        """Serialise."""
        gaps = [stop - start for start, stop in pairwise(self.times)]
        step = max(0, Counter(gaps).most_common(1)[0][0]) if gaps else 0
        unit = (self.time_base.numerator, self.time_base.denominator)
        numbers = [*unit, _zigzag(self.times[0]), step, len(gaps)]
        for packet, gap in zip(self.packets, gaps, strict=True):
            numbers += [2 * len(packet)] if gap == step else [2 * len(packet) + 1, _zigzag(gap - step)]
        head = write_varint(VERSION) + write_varint(len(self.description)) + self.description
        return b"".join((head, *map(write_varint, numbers), *self.packets))

    @staticmethod
    def from_bytes(data: bytes | memoryview) -> Track:
        """Invert `to_bytes`, of untrusted bytes; packets are views of them.

        Raises:
            BitstreamError: if they are damaged.
        """
        data, at = memoryview(data), 0

        def number(most: int, what: str) -> int:
            nonlocal at
            value, at = read_varint(data, at)
            if value > most:
                raise BitstreamError(f"sound track: {what} is {value}; at most {most} is allowed")
            return value

        version = number(LARGEST, "version")
        if version != VERSION:
            raise BitstreamError(f"sound track of version {version}; this reader knows version {VERSION}")
        size = number(len(data) - at, "length of the description")
        description, at = bytes(data[at : at + size]), at + size
        names = [name for name, _ in _elements(description)]
        if CODEC not in names or len(names) != len(set(names)) or not set(names) <= set(KEPT):
            raise BitstreamError("the description of the sound track is damaged")
        unit = number(LARGEST, "unit of time"), number(LARGEST, "unit of time")
        if not all(unit):
            raise BitstreamError("sound track: its unit of time is 0")
        times = [_signed(number(2 * FARTHEST, "time"))]
        step = number(FARTHEST, "step")
        sizes: list[int] = []
        for _ in range(number(len(data) - at, "number of packets")):
            size = number(2 * len(data) + 1, "size of a packet")
            gap = step + (_signed(number(2 * FARTHEST, "time")) if size & 1 else 0)
            sizes.append(size >> 1)
            times.append(times[-1] + gap)
            if abs(times[-1]) > FARTHEST:
                raise BitstreamError("sound track: a time is out of range")
        if at + sum(sizes) != len(data):
            raise BitstreamError(f"sound track of {len(data)} bytes; its packets make it {at + sum(sizes)}")
        packets = []
        for size in sizes:
            packets.append(data[at : at + size])
            at += size
        return Track(description, Fraction(*unit), times, packets)

    def _matroska(self) -> bytes:
        """Return a file with the description and the first packets, for libav to make a stream of."""
        kind = _element(b"\x42\x82", b"matroska") + _element(b"\x42\x87", b"\4") + _element(b"\x42\x85", b"\2")
        entry = _element(b"\xd7", b"\1") + _element(b"\x73\xc5", b"\1") + _element(b"\x83", b"\2") + self.description
        cluster = _element(b"\xe7", b"\0")
        for i, packet in enumerate(self.packets[:PROBED]):
            cluster += _element(b"\xa3", b"\x81" + (20 * i).to_bytes(2) + b"\x80" + bytes(packet))
        tracks = _element(TRACKS, _element(ENTRY, entry))
        return _element(EBML, kind) + _element(SEGMENT, tracks + _element(CLUSTER, cluster))


def pack(stream: AudioStream, packets: Sequence[tuple[int | None, int, bytes]], origin: Fraction) -> bytes:
    """Serialise the packets of a source's stream.

    Args:
        stream: of the source.
        packets: of each, time and duration in units of the stream, 0 if that is not known, and data.
        origin: when the first frame of the film is shown, in seconds.

    Raises:
        ValueError: if Matroska, whose description of codecs we use, knows no such codec.
    """
    unit = Fraction(stream.time_base or Fraction(1, 1000))
    start = round(origin / unit)
    times: list[int] = []
    end = 0
    for time, duration, _ in packets:
        times.append(end if time is None else time - start)
        end = times[-1] + duration
    return Track(_describe(stream), unit, [*times, end], [data for _, _, data in packets]).to_bytes()


def _describe(stream: AudioStream) -> bytes:
    """Return the elements of `KEPT`, as libav writes them."""
    import av

    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as out:
            out.add_stream_from_template(stream, opaque=True)
            out.start_encoding()
    except (av.error.FFmpegError, ValueError):
        raise ValueError(f"{stream.name or 'unknown'} sound cannot be kept") from None
    inside: Any = file.getvalue()
    for wanted in (SEGMENT, TRACKS, ENTRY):
        inside = next(body for name, body in _elements(inside) if name == wanted)
    return b"".join(_element(name, bytes(body)) for name, body in _elements(inside) if name in KEPT)


def _elements(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (name, content) of elements of EBML, whose first byte's leading zeros say how long a number is."""
    data, at = memoryview(data), 0
    while at < len(data):
        start = at + 9 - data[at].bit_length()
        if start >= len(data) or start + 9 - data[start].bit_length() > len(data):
            raise BitstreamError("the description of the sound track ends early")
        body = start + 9 - data[start].bit_length()
        size = int.from_bytes(data[start:body]) & (1 << 7 * (body - start)) - 1
        if body - start > 8 or size > len(data) - body:
            raise BitstreamError("the description of the sound track ends early")
        yield bytes(data[at:start]), data[body : body + size]
        at = body + size


def _element(name: bytes, body: bytes) -> bytes:
    width = 1 if len(body) < 127 else 8
    return name + (len(body) | 1 << 7 * width).to_bytes(width) + body


def _zigzag(n: int) -> int:
    return 2 * n if n >= 0 else -2 * n - 1


def _signed(n: int) -> int:
    return n >> 1 if n & 1 == 0 else -(n + 1 >> 1)
