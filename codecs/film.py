"""Film: one file of video, decoded from start to end to learn what it holds, and again for its frames."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from codomain.codecs import audio_track, colour, timing
from codomain.codecs.bitstream import MAX_PIXELS, MAX_SAMPLES
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer

# brands of MP4 that are pictures or sound
STILLS = {b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"M4A ", b"M4B "}
REORDERED = 16  # frames that a decoder may hold back: so far before the one that is sought, a key frame is looked for
COUNTED = 2  # frames that the header of a whole AVI may count too many
LOST = Fraction(1, 4)  # seconds that a file announces and that are missing at its end: it was cut off


class Film:
    """An opened film.

    Args:
        source: a path, or the bytes of a file.
        scale: of its sides: see `colour.scaled_size`.

    Attributes:
        size: (width, height) of frames upright and scaled.
        rate: frames per second, constant.
        order: which frame of the file is shown at each tick of that rate.
        aspect: of a sample of an upright frame, width to height.
        primaries: H.273 number.
        transfer: H.273 number.
        audio: `audio_track.pack` of its sound, or None.
        notes: what was changed or left out.

    Raises:
        ValueError: one line that says why it is no film that we can hold.
    """

    def __init__(self, source: Path | bytes, scale: Fraction = Fraction(1)) -> None:
        self.source, self.scale = source, scale
        self.notes: list[str] = []
        self.times: list[int | None] = []  # when each frame of the file is shown
        self.turned, self.size = colour.UPRIGHT, (0, 0)
        with _opened(source) as container:
            self._look_through(container)

    def read(self, start: int, stop: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Yield what is shown at ticks from ``start`` to before ``stop``."""
        order = self.order[start:stop]
        done = 0
        for i, frame in self._numbered(int(order[0])):
            if i < order[done]:
                continue
            x = colour.shrink(colour.turn(colour.to_rgb(frame), self.turned), self.scale)
            while done < len(order) and order[done] <= i:
                yield np.ascontiguousarray(x)
                done += 1
            if done == len(order):
                return
        raise ValueError(f"ends after frame {start + done}; it had {len(self.order)} when it was opened")

    def _look_through(self, container: InputContainer) -> None:
        stream, sound = _streams(container, self.notes)
        check_size((stream.codec_context.width, stream.codec_context.height))
        tally = _Tally()
        first = frame = None
        for frame in _decode(container, stream, sound, tally):
            if first is None:
                first = frame
                self._look_at(stream, first)
            found, expected = (f"{x.width} x {x.height}" for x in (frame, first))
            if found != expected:
                raise ValueError(f"frame {len(self.times)} is {found}; expected {expected}")
            self.times.append(frame.pts)
            check_size(self.size, len(self.times))
        if first is None or frame is None:
            raise ValueError("no frame of it can be decoded")
        unit = Fraction(stream.time_base or Fraction(1, 1000))
        announced = [rate and Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate)]
        self.rate, self.order, resampled = timing.constant(self.times, unit, frame.duration or 0, announced)
        check_size(self.size, len(self.order))
        self.notes += tally.losses(container, stream, len(self.times), self.rate)
        if resampled:
            self.notes.append(resampled)
        self.audio = None
        if sound is not None and tally.sound:
            try:
                self.audio = audio_track.pack(sound, tally.sound, unit * (self.times[0] or 0))
            except ValueError as error:
                self.notes.append(str(error))

    def _look_at(self, stream: VideoStream, frame: VideoFrame) -> None:
        """Learn from the first frame what holds for all."""
        turned = colour.turned_by(frame)
        if turned is None:
            self.notes.append("turned by an angle that is no multiple of 90 degrees: left as it is")
        self.turned = turned or colour.UPRIGHT
        lies = self.turned[0] == 0
        check_size((frame.width, frame.height))
        self.size = colour.scaled_size(
            *((frame.height, frame.width) if lies else (frame.width, frame.height)), self.scale
        )
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        self.aspect = 1 / aspect if lies else aspect
        self.primaries = frame.color_primaries or colour.UNSPECIFIED
        self.transfer = frame.color_trc or colour.UNSPECIFIED
        components = frame.format.components
        depth = max(component.bits for component in components)
        if depth > 8:
            self.notes.append(f"{depth} bits rounded to 8")
        if stream.metadata.get("alpha_mode") == "1" or any(component.is_alpha for component in components):
            self.notes.append("alpha dropped")

    def _numbered(self, wanted: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the file's frames with their numbers, from ``wanted`` or before it on."""
        known = {time: i for i, time in enumerate(self.times) if time is not None}
        if wanted > REORDERED and len(known) == len(self.times):
            with _opened(self.source) as container:
                stream, _ = _streams(container, [])
                if _seek(container, stream, self.times[wanted - REORDERED] or 0):
                    frames = ((known.get(frame.pts or 0, -1), frame) for frame in _decode(container, stream))
                    first = next(frames, None)
                    if first is not None and 0 <= first[0] <= wanted:  # else its index leads astray
                        yield first
                        yield from frames
                        return
        with _opened(self.source) as container:
            yield from enumerate(_decode(container, _streams(container, [])[0]))


class _Tally:
    """What has been read of a file."""

    def __init__(self) -> None:
        self.sound: list[tuple[int | None, int, bytes]] = []  # time, duration, data of packets
        self.n_packets, self.n_broken, self.end = 0, 0, Fraction(0)

    def count(self, packet: Packet, stream: VideoStream) -> None:
        """Count a packet of any stream."""
        self.n_packets += packet.stream_index == stream.index
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None and packet.time_base:
            self.end = max(self.end, (time + (packet.duration or 0)) * packet.time_base)

    def losses(self, container: InputContainer, stream: VideoStream, n: int, rate: Fraction) -> list[str]:
        """Say what is missing of a file that was cut off, or is damaged."""
        announced = Fraction(container.duration or 0, 1_000_000)
        late = self.end - Fraction(container.start_time or 0, 1_000_000)
        if self.n_packets + COUNTED < stream.frames:
            return [f"truncated file: {n} of {stream.frames} frames"]
        if stream.frames == 0 and late + LOST < announced:
            return [f"truncated file: {n} of about {max(n, round(announced * rate))} frames"]
        if self.n_broken:
            return [f"damaged file: {self.n_broken} packets left out, {n} frames remain"]
        return []


def demuxer_of(head: bytes) -> str | None:
    """Return libav's name of what reads a file with these first 12 bytes; None where they are no film's."""
    if head[4:8] == b"ftyp":
        return None if head[8:12] in STILLS else "mov"
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return {b"\x1a\x45\xdf\xa3": "matroska", b"YUV4": "yuv4mpegpipe"}.get(head[:4])


@contextmanager
def _opened(source: Path | bytes) -> Iterator[InputContainer]:
    import av

    with ExitStack() as stack:
        if isinstance(source, Path) and not source.exists():
            raise ValueError(f"{source}: no such file")
        file = io.BytesIO(source) if isinstance(source, bytes) else stack.enter_context(source.open("rb"))
        name = demuxer_of(file.read(12))
        if name is None:
            raise ValueError("not a film that can be read: expected MP4, MOV, Matroska, WebM, AVI or Y4M")
        file.seek(0)
        try:
            # the format is ours to choose, and files are read through Python: no playlist leads elsewhere
            container = stack.enter_context(av.open(file, "r", format=name, metadata_errors="replace"))
        except (av.error.FFmpegError, ValueError) as error:
            if name == "mov" and not _has_index(file):
                raise ValueError("it ends before its index (moov): it was cut off") from None
            raise ValueError(f"not a film that can be read ({_reason(error)})") from None
        yield container


def _has_index(file: io.BufferedIOBase) -> bool:
    """Whether an MP4 has a box called moov."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or head[4:8] == b"moov":
            return len(head) >= 8
        size = int.from_bytes(head[:4])
        size = int.from_bytes(head[8:]) if size == 1 else size
        if size < 8:
            return False
        at += size


def _streams(container: InputContainer, notes: list[str]) -> tuple[VideoStream, AudioStream | None]:
    """Return the first video stream, set up to be decoded, and the best sound."""
    from av.stream import Disposition

    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        raise ValueError("no video stream")
    if films[0].codec_context is None:
        raise ValueError("a video stream of an unknown codec")
    films[0].codec_context.thread_type = "AUTO"
    films[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    sound: Any = container.streams.best("audio")
    for kind, streams in (("video streams", films), ("sound tracks", container.streams.audio)):
        if len(streams) > 1:
            notes.append(f"1 of {len(streams)} {kind} kept")
    if container.streams.subtitles:
        notes.append("subtitles dropped")
    return films[0], sound


def _seek(container: InputContainer, stream: VideoStream, time: int) -> bool:
    import av

    try:
        container.seek(time, stream=stream)
    except av.error.FFmpegError:
        return False
    return True


def _decode(
    container: InputContainer, stream: VideoStream, sound: AudioStream | None = None, tally: _Tally | None = None
) -> Iterator[VideoFrame]:
    """Yield the frames of a stream, in the order in which they are shown; leave out what is damaged."""
    import av

    tally = tally or _Tally()
    packets = iter(container.demux())
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the file ends inside a packet
            packet, tally.n_broken = None, tally.n_broken + 1
        if packet is not None and packet.size:
            tally.count(packet, stream)
            if packet.is_corrupt:
                tally.n_broken += packet.stream_index == stream.index
                continue
            if sound is not None and packet.stream_index == sound.index:
                tally.sound.append(
                    (packet.dts if packet.pts is None else packet.pts, packet.duration or 0, bytes(packet))
                )
            if packet.stream_index != stream.index:
                continue
        elif packet is not None:
            continue
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError:
            frames, tally.n_broken = [], tally.n_broken + 1
        yield from (frame for frame in frames if not frame.is_corrupt)
        if packet is None:
            return


def check_size(size: tuple[int, int], frames: int = 1) -> None:
    """Refuse what the container of `bitstream.py` does not hold."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels; at most {MAX_PIXELS} are allowed")
    if width * height * frames > MAX_SAMPLES:
        raise ValueError(
            f"more than {frames - 1} frames of {width} x {height}; at most {MAX_SAMPLES} pixels in all are allowed"
        )


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
