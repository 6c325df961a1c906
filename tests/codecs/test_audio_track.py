from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from codomain.codecs.audio_track import Track
from codomain.codecs.coder import BitstreamError
from codomain.codecs.film import Film

AAC = b"\x86\x85A_AAC\x63\xa2\x82\x11\x90\xe1\x8d\x9f\x81\x02\xb5\x88\x40\xe7\x70\x00\x00\x00\x00\x00"


def track(n: int = 20) -> Track:
    rng = np.random.default_rng(0)
    packets = [rng.bytes(int(size)) for size in rng.integers(0, 300, n)]
    times = [-1024 + 1024 * i + (7 if i > 12 else 0) for i in range(n + 1)]
    return Track(AAC, Fraction(1, 44100), times, packets)


def test_the_bytes_are_those_of_the_description() -> None:
    small = Track(b"\x86\x81X", Fraction(1, 1000), [-20, 0, 20, 45], [b"ab", b"", b"c"])
    assert small.to_bytes() == bytes([1, 3, 0x86, 0x81, ord("X"), 1, 0xE8, 7, 39, 20, 3, 4, 0, 3, 10]) + b"abc"


def test_tracks_come_back() -> None:
    x = track()
    data = x.to_bytes()
    y = Track.from_bytes(data)
    assert (y.description, y.time_base, list(y.times)) == (x.description, x.time_base, list(x.times))
    assert [bytes(packet) for packet in y.packets] == x.packets
    assert y.codec == "A_AAC"
    assert len(data) <= sum(map(len, x.packets)) + 2 * 20 + len(AAC) + 20
    empty = Track(AAC, Fraction(1, 1000), [5], [])
    assert Track.from_bytes(empty.to_bytes()) == empty


def test_hostile_bytes_are_an_error() -> None:
    data, rng = track().to_bytes(), np.random.default_rng(0)
    for n in range(0, len(data), 37):
        with pytest.raises(BitstreamError):
            Track.from_bytes(data[:n])
    with pytest.raises(BitstreamError, match="its packets make it"):
        Track.from_bytes(data + b"\0")
    for _ in range(2000):
        bad = bytearray(data[:200])
        for at in rng.integers(0, 60, 3):
            bad[at] = int(rng.integers(0, 256))
        try:
            Track.from_bytes(bytes(bad) + data[200:])
        except BitstreamError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\x02", "version 2; this reader knows version 1"), (b"\x01\x00\x01\x01\x00\x00\x00", "description .* damaged"),
     (b"\x01\x03\x86\x81X\x00\x01\x00\x00\x00", "unit of time is 0"),
     (b"\x01\x06\x86\x81X\x86\x81X\x01\x01\x00\x00\x00", "description .* damaged"),
     (b"\x01\x03\x83\x81\x01\x01\x01\x00\x00\x00", "description .* damaged"),
     (b"\x01\x03\x86\x81X\x01\x01\x00\x00\xff\xff\xff\xff\x0f", "number of packets is 4294967295")],
)  # fmt: skip
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(BitstreamError, match=said):
        Track.from_bytes(data)


def packets_of(path: Path) -> tuple[list[bytes], np.ndarray, tuple[object, ...]]:
    """Packets, their times from the first frame on in seconds, and what decoders need."""
    with av.open(str(path)) as container:
        stream, film = container.streams.audio[0], container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = np.array([float(packet.pts * packet.time_base) for packet in packets])
        context = stream.codec_context
        about = (context.name, context.extradata, context.sample_rate, context.channels)
        return [bytes(packet) for packet in packets], times - float((film.start_time or 0) * film.time_base), about


SOURCES = [
    ("x.mp4", "aac"), ("x.mkv", "libopus"), ("x.mov", "alac"), ("x.mkv", "flac"), ("x.mp4", "ac3"), ("x.avi", "mp2"),
    ("x.avi", "pcm_s16le"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sound"), SOURCES, ids=[sound for _, sound in SOURCES])
def test_sound_survives_to_the_bit(
    tmp_path: Path, moving: Callable[..., list[np.ndarray]], film_file: Callable[..., Path], name: str, sound: str
) -> None:
    codec = "mpeg4" if name == "x.avi" else "libx264"
    source = film_file(tmp_path / name, moving(25), codec, "yuv420p", sound=sound)
    film = Film(source)
    assert film.audio is not None
    assert film.notes == []
    found = Track.from_bytes(film.audio)
    packets, times, about = packets_of(source)
    assert [bytes(packet) for packet in found.packets] == packets
    assert np.abs(np.array(found.times[:-1]) * float(found.time_base) - times).max() <= float(found.time_base)
    assert len(film.audio) <= sum(map(len, packets)) + 3.5 * len(packets) + 100
    target = tmp_path / "y.mkv"
    with av.open(str(target), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        hum = found.add_to(out)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(moving(1)[0], format="rgb24")))
        out.mux(stream.encode(None))
        for packet in found.packets_for(hum):
            out.mux(packet)
    again, times_again, about_again = packets_of(target)
    assert again == packets
    assert about_again == about
    assert np.abs(times_again - times).max() <= 1.1e-3
    with av.open(str(target)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 47000


def test_sound_of_an_unknown_codec_is_an_error() -> None:
    none = Track(b"\x86\x86A_NONE\xe1\x83\x9f\x81\x01", Fraction(1, 1000), [0], [])
    with (
        av.open(io.BytesIO(), "w", format="matroska") as out,
        pytest.raises(BitstreamError, match="sound of an unknown codec, A_NONE"),
    ):
        none.add_to(out)
