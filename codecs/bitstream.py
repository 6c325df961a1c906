"""The container: what a `.cdm` file is, byte by byte.

All numbers are little-endian; a *varint* is unsigned LEB128 in its shortest form. Version 1:

    bytes   content
    3       magic: 43 44 4D, "CDM"
    1       version: 1
    1       kind + 4 * (depth - 1); kind 0 image, 1 sound, 2 video; depth: bits per source sample, 1 to 64
    8       model: first bytes of the sha256 of the weights that made the file, and are needed to read it
    varints shape: image width, height; sound channels, samples, sample rate in Hz;
            video width, height, frames, frame rate as numerator, denominator
    varint  quality: four times it, 4 to 400, where a model has many rates; 0 where it has one
    varint  flags of the source: 1 grey, 2 turned upright as its EXIF block says, 4 floating-point samples, 8 silence in
            sound: where all latents that a sample depends on are those of silence, it is 0
    varint  number of sections, then for each: varint tag, varint length
    varint  number of chunks, then for each: varint length
    4       CRC32 of everything before
    ...     the sections in order, each followed by its CRC32 (4 bytes)
    ...     the chunks in order, each followed by its CRC32 (4 bytes); then the file ends

A section is optional: a reader skips tags that it does not know. Tags: 1 ICC profile; 2 EXIF block;
3 alpha plane, a grey PNG of the picture's size; 4 audio packets of a video, as `codecs/audio_track.py` writes them;
5 display of a video, four varints: aspect of a sample, width to height, as numerator and denominator, 1 to 2^31 - 1;
the numbers of its colour primaries and its transfer function in ITU-T H.273, 1 to 255. A flag that a reader does
not know is an error.

A chunk holds one layer of the latents of one tile, coded as `codecs/coder.py` says: with a table per channel, row by
row, or, where the model has contexts, with the tables and in the order of `kernels/context.py`, or, where it has
codebooks, of `codecs/code_model.py`. Along each axis a grid
of n latents is cut into ceil(n / CHUNK) tiles, tile i from i * n // tiles to (i + 1) * n // tiles; the last axis varies
fastest. An axis of sound counts 1024 latents a chunk, one of an image 96.

How many layers there are is the model's: one, or as many as it has residual stages. All tiles of layer 0 come first,
then all of layer 1, and so on: what is left of a file that was cut off are the first stages of the whole signal. Of a
tile, the layers before the first that is missing are decoded; without layer 0 its latents are 0.

Sound of more channels than the model has is coded as several signals (`codecs/recording.py`): of every tile, a chunk
of each signal. A model with a sample rate of its own codes ceil(samples * its rate / sample rate) samples.

The promise: bytes that decoded once decode for ever. A change of bytes is a new version, and its reader
keeps the old ones; `tests/data` holds golden files of every version.

Nothing is allocated from a number in the header before the limits below are checked. Whatever the bytes
are, the outcome is their content or `BitstreamError`.
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from math import prod

from codomain.codecs.coder import BitstreamError, read_varint, write_varint

MAGIC = b"CDM"
VERSION = 1
KINDS = ("image", "sound", "video")
N_SHAPE = {"image": 2, "sound": 3, "video": 5}
CHUNK = {"image": 96, "sound": 1024, "video": 96}
ICC, EXIF, ALPHA, AUDIO, DISPLAY = 1, 2, 3, 4, 5
SECTION_NAMES = {ICC: "ICC profile", EXIF: "EXIF", ALPHA: "alpha plane", AUDIO: "audio", DISPLAY: "display"}

MAX_PIXELS = 1 << 28  # of an image, and of a frame of video
MAX_SAMPLES = 1 << 31  # of sound over all channels, and pixels of video over all frames
MAX_CHANNELS = 1 << 10
MAX_CHUNKS = 1 << 20
MAX_SECTIONS = 64
MAX_EXPANSION = 1 << 16  # pixels or samples per byte of file: a flat picture needs 1 in 10 000


class Flag(IntFlag):
    """What was done to the source."""

    GREY = 1
    ORIENTED = 2
    FLOAT = 4
    SILENCE = 8


NO_FLAGS = Flag(0)


@dataclass(frozen=True)
class Header:
    """What a file says of its signal.

    Attributes:
        kind: "image", "sound" or "video".
        model: 8 bytes, the digest of the weights.
        shape: (width, height), (channels, samples, sample rate in Hz), or (width, height, frames, rate
            numerator, rate denominator).
        depth: bits per sample of the source.
        quality: index into the rates of the model.
        flags: see `Flag`.
    """

    kind: str
    model: bytes
    shape: tuple[int, ...]
    depth: int = 8
    quality: int = 0
    flags: Flag = NO_FLAGS


@dataclass(frozen=True)
class File:
    """A parsed file. A chunk or section that is damaged, in a salvaged file, is None or missing."""

    header: Header
    chunks: list[bytes | None]
    sections: dict[int, bytes] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    version: int = VERSION


def write(header: Header, chunks: Sequence[bytes], sections: Mapping[int, bytes] | None = None) -> bytes:
    """Return the bytes of a file.

    Raises:
        ValueError: if the header is outside the format's limits.
    """
    sections = dict(sections or {})
    fault = _fault(header)
    if fault:
        raise ValueError(fault)
    if len(sections) > MAX_SECTIONS or len(chunks) > MAX_CHUNKS:
        raise ValueError(
            f"a file holds up to {MAX_SECTIONS} sections and {MAX_CHUNKS} chunks; "
            f"found {len(sections)} and {len(chunks)}"
        )
    numbers = [*header.shape, header.quality, int(header.flags), len(sections)]
    for tag, body in sections.items():
        numbers += [tag, len(body)]
    numbers += [len(chunks), *(len(chunk) for chunk in chunks)]
    start = bytes([VERSION, KINDS.index(header.kind) | (header.depth - 1) << 2])
    head = MAGIC + start + header.model + b"".join(map(write_varint, numbers))
    return b"".join(map(_sealed, (head, *sections.values(), *chunks)))


def read_header(data: bytes | memoryview) -> Header:
    """Parse the header alone.

    Raises:
        BitstreamError: if it is damaged.
    """
    return _read_header(memoryview(data))[0]


def read(data: bytes | memoryview, salvage: bool = False, wanted: Container[int] | None = None) -> File:
    """Parse a file; with ``salvage``, keep what is intact of a damaged one.

    Args:
        data: the file's bytes.
        salvage: whether damage is listed in the result instead of being an error.
        wanted: indices of the chunks to read; the others are None, and not looked at. By default all.

    Raises:
        BitstreamError: if the header is damaged; without ``salvage``, if anything is.
    """
    data = memoryview(data)
    header, tags, lengths, at = _read_header(data)
    sizes = [length for _, length in tags] + lengths
    expected = at + sum(sizes) + 4 * len(sizes)
    damage: list[str] = []
    if expected != len(data):
        what = "ends early" if len(data) < expected else "goes on after its end"
        damage.append(f"file {what}: {len(data)} bytes, its header announces {expected}")
    _check_expansion(header, min(expected, len(data)))  # what is announced may be anything
    parts: list[bytes | None] = []
    for i, size in enumerate(sizes):
        if wanted is not None and i >= len(tags) and i - len(tags) not in wanted:
            parts.append(None)
            at += size + 4
            continue
        body, seal = bytes(data[at : at + size]), bytes(data[at + size : at + size + 4])
        at += size + 4
        if seal == zlib.crc32(body).to_bytes(4, "little"):
            parts.append(body)
            continue
        parts.append(None)
        name = f"section {i + 1}" if i < len(tags) else f"chunk {i - len(tags) + 1} of {len(lengths)}"
        damage.append(f"{name} is damaged: its CRC32 differs")
    if damage and not salvage:
        raise BitstreamError(damage[0])
    found = zip((tag for tag, _ in tags), parts[: len(tags)], strict=True)
    sections = {tag: body for tag, body in found if body is not None}
    return File(header, parts[len(tags) :], sections, damage)


def tiles(size: Sequence[int], side: int) -> list[tuple[slice, ...]]:
    """Cut a grid into tiles of at most ``side`` on each axis, as evenly as integers allow.

    >>> tiles((5, 7), 4)
    [(slice(0, 2, None), slice(0, 3, None)), (slice(0, 2, None), slice(3, 7, None)), \
(slice(2, 5, None), slice(0, 3, None)), (slice(2, 5, None), slice(3, 7, None))]
    """
    regions: list[tuple[slice, ...]] = [()]
    for n in size:
        parts = -(-n // side)
        cuts = [slice(i * n // parts, (i + 1) * n // parts) for i in range(parts)]
        regions = [(*region, cut) for region in regions for cut in cuts]
    return regions


def _sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def _read_header(data: memoryview) -> tuple[Header, list[tuple[int, int]], list[int], int]:
    """Return the header, (tag, length) of the sections, lengths of the chunks, and where they start."""
    if bytes(data[:3]) != MAGIC:
        raise BitstreamError(f"not a .cdm file: it starts with {bytes(data[:3])!r}, expected {MAGIC!r}")
    if len(data) < 13:
        raise BitstreamError(f"file of {len(data)} bytes ends inside its header")
    if data[3] != VERSION:
        raise BitstreamError(f"format version {data[3]}; this reader knows version {VERSION}")
    if data[4] & 3 >= len(KINDS):
        raise BitstreamError(f"unknown kind {data[4] & 3}; expected 0 to {len(KINDS) - 1}")
    kind, at = KINDS[data[4] & 3], 13

    def number(most: int, what: str) -> int:
        nonlocal at
        value, at = read_varint(data, at)
        if value > most:
            raise BitstreamError(f"{what} is {value}; at most {most} is allowed")
        return value

    shape = tuple(number(1 << 40, "a side") for _ in range(N_SHAPE[kind]))
    quality, bits = number(1 << 16, "quality"), number(1 << 32, "flags")
    if bits & ~sum(Flag):
        raise BitstreamError(f"unknown flags {bits:#x}: the file needs a newer reader")
    tags = [
        (number(1 << 32, "section tag"), number(len(data), "section length"))
        for _ in range(number(MAX_SECTIONS, "number of sections"))
    ]
    lengths = [number(1 << 32, "chunk length") for _ in range(number(MAX_CHUNKS, "number of chunks"))]
    if bytes(data[at : at + 4]) != zlib.crc32(data[:at]).to_bytes(4, "little"):
        raise BitstreamError("header is damaged: its CRC32 differs")
    header = Header(kind, bytes(data[5:13]), shape, (data[4] >> 2) + 1, quality, Flag(bits))
    fault = _fault(header)
    if fault:
        raise BitstreamError(fault)
    return header, tags, lengths, at + 4


def _fault(header: Header) -> str | None:
    """Say what in a header the format does not allow."""
    if header.kind not in KINDS or len(header.shape) != N_SHAPE[header.kind]:
        return f"kind {header.kind!r} with {len(header.shape)} shape numbers is none of {N_SHAPE}"
    if len(header.model) != 8:
        return f"the model digest has 8 bytes; found {len(header.model)}"
    if not 1 <= header.depth <= 64:
        return f"depth is 1 to 64 bits; found {header.depth}"
    if any(n <= 0 for n in header.shape):
        return f"every number of a shape is at least 1; found {header.shape}"
    if header.kind == "sound":
        channels, samples, _ = header.shape
        if channels > MAX_CHANNELS or channels * samples > MAX_SAMPLES:
            return (
                f"sound of {channels} channels x {samples} samples; at most {MAX_CHANNELS} channels, "
                f"{MAX_SAMPLES} samples in all"
            )
        return None
    pixels = header.shape[0] * header.shape[1]
    if pixels > MAX_PIXELS or prod(header.shape[:3]) > MAX_SAMPLES:
        return f"{header.kind} of {' x '.join(map(str, header.shape))}; at most {MAX_PIXELS} pixels"
    return None


def _check_expansion(header: Header, n_bytes: int) -> None:
    values = prod(header.shape[: 3 if header.kind == "video" else 2])
    if values > n_bytes * MAX_EXPANSION:
        raise BitstreamError(
            f"{n_bytes} bytes claim to hold {values} pixels or samples; at most {MAX_EXPANSION} a byte"
        )
