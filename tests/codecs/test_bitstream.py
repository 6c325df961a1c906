from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from codomain.codecs import bitstream
from codomain.codecs.bitstream import BitstreamError, Flag, Header, read, tiles, write
from codomain.codecs.coder import write_varint
from hypothesis import given, settings
from hypothesis import strategies as st

HEADER = Header("image", b"12345678", (640, 480), 8, 3, Flag.GREY)
CHUNKS = [b"first chunk", b"", b"third"]
FILE = write(HEADER, CHUNKS, {1: b"profile", 77: b"of the future"})


def sealed(*numbers: int, start: bytes = b"CDM\x01\x1c12345678") -> bytes:
    """A header of our own making, with a correct checksum."""
    body = start + b"".join(map(write_varint, numbers))
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_round_trip() -> None:
    file = read(FILE)
    assert file.header == HEADER
    assert file.chunks == CHUNKS
    assert file.sections == {1: b"profile", 77: b"of the future"}  # unknown sections do no harm


@pytest.mark.parametrize(
    "header",
    [
        Header("sound", bytes(8), (2, 44100 * 60, 44100), 16),
        Header("video", bytes(8), (640, 360, 250, 30000, 1001), 10),
        Header("image", bytes(8), (1, 1), 64, 0, Flag.GREY | Flag.ORIENTED),
    ],
)
def test_every_kind(header: Header) -> None:
    assert read(write(header, [bytes(900)] * 10)).header == header


def test_golden_bytes() -> None:
    assert write(Header("image", b"12345678", (640, 480)), [b"abc"]).hex() == (
        "43444d011c31323334353637388005e00300000001037d9efecc616263c2412435"
    )


def test_a_single_chunk_image_pays_32_bytes_at_most() -> None:
    assert len(write(Header("image", bytes(8), (768, 768)), [bytes(60_000)])) - 60_000 == 32


def test_every_truncation_is_found() -> None:
    for cut in range(len(FILE)):
        with pytest.raises(BitstreamError):
            read(FILE[:cut])


def test_every_flipped_bit_is_found() -> None:
    for bit in range(8 * len(FILE)):
        damaged = bytearray(FILE)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read(bytes(damaged))


def test_salvage_keeps_what_is_intact() -> None:
    damaged = bytearray(FILE)
    damaged[FILE.index(b"first")] ^= 1
    file = read(bytes(damaged), salvage=True)
    assert file.chunks == [None, b"", b"third"]
    assert file.damage == ["chunk 1 of 3 is damaged: its CRC32 differs"]
    file = read(FILE[:-7], salvage=True)
    assert file.chunks == [b"first chunk", b"", None]
    assert "ends early" in file.damage[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a .cdm file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "starts with b'.x89PN'"),
        (b"CDM\x02" + bytes(20), "version 2"),
        (b"CDM\x01\x03" + bytes(20), "unknown kind 3"),
        (sealed(1 << 20, 1 << 20, 0, 0, 0, 0), "at most 268435456 pixels"),
        (sealed(1 << 41, 1, 0, 0, 0, 0), "a side is 2199023255552"),
        (sealed(0, 5, 0, 0, 0, 0), "at least 1"),
        (sealed(1 << 13, 1 << 13, 0, 0, 0, 0), "bytes claim to hold 67108864"),
        (sealed(8, 8, 0, 64, 0, 0), "unknown flags 0x40"),
        (sealed(8, 8, 0, 0, 65), "number of sections is 65"),
        (sealed(8, 8, 0, 0, 0, 1 << 30), "number of chunks"),
        (sealed(8, 8, 0, 0, 0, 1, 1 << 33), "chunk length"),
        (sealed(8, 8, 0, 0, 0, 1, 9), "ends early"),
        (sealed(8, 8, 0, 0, 0, 0) + b"x", "goes on after its end"),
        (sealed(2000, 1 << 30, 44100, 0, 0, 0, 0, start=b"CDM\x01\x1d" + bytes(8)), "2000 channels"),
    ],
)
def test_hostile_headers(data: bytes, says: str) -> None:
    with pytest.raises(BitstreamError, match=says):
        read(data)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(data: bytes, salvage: bool) -> None:
    for prefix in (b"", b"CDM\x01\x1c"):
        try:
            read(prefix + data, salvage)
        except BitstreamError:
            pass


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (Header("image", bytes(7), (8, 8)), "8 bytes; found 7"),
        (Header("image", bytes(8), (8, 8, 8)), "3 shape numbers"),
        (Header("image", bytes(8), (8, 0)), "at least 1"),
        (Header("image", bytes(8), (8, 8), 65), "found 65"),
    ],
)
def test_write_refuses(header: Header, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write(header, [])


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=3), st.integers(1, 100))
def test_tiles_cover_a_grid_once(size: list[int], side: int) -> None:
    seen = np.zeros(size[:2], int)
    for region in tiles(size[:2], side):
        assert all(0 < r.stop - r.start <= side for r in region)
        seen[region] += 1
    assert (seen == 1).all()


def test_specification_names_every_section() -> None:
    text = " ".join((bitstream.__doc__ or "").split())
    for tag, name in bitstream.SECTION_NAMES.items():
        assert f"{tag} {name}".split()[0] + " " + name.split()[0] in text
    assert Path(bitstream.__file__).name == "bitstream.py"
