from __future__ import annotations

import numpy as np
import pytest
from codomain.codecs.coder import (
    BitstreamError,
    Decoder,
    Encoder,
    Tables,
    decode_symbols,
    encode_symbols,
    read_varint,
    write_varint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

INT32 = st.integers(-(2**31), 2**31 - 1)


def laplace(c: int, n: int, scale: float = 4.0) -> tuple[np.ndarray, Tables]:
    rng = np.random.default_rng(c * n)
    symbols = np.clip(np.round(rng.laplace(0, scale, (c, n))), -99, 99).astype(np.int32)
    counts = np.stack([np.bincount(row + 99, minlength=199) for row in symbols])
    return symbols, Tables.from_counts(counts, np.full(c, -99))


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40), elements=INT32),
    st.integers(8, 16),
    st.data(),
)
def test_any_int32_survives_any_tables(symbols: np.ndarray, precision: int, data: st.DataObject) -> None:
    c = len(symbols)
    counts = data.draw(hnp.arrays(np.int64, (c, 9), elements=st.integers(0, 2**50)))
    offsets = data.draw(hnp.arrays(np.int32, c, elements=st.integers(-(2**31), 2**31 - 11)))
    tables = Tables.from_counts(counts, offsets, precision)
    assert (tables.all_freqs.sum(1) == 1 << precision).all()
    coded = encode_symbols(symbols, tables)
    assert coded == encode_symbols(symbols, tables, "numpy")
    for backend in ("numba", "numpy"):
        np.testing.assert_array_equal(decode_symbols(coded, tables, symbols.shape[1], backend), symbols)


def test_length_is_the_ideal_code_length() -> None:
    symbols, tables = laplace(12, 49152)
    p = tables.all_freqs[np.arange(12)[:, None], symbols + 99] / 2**tables.precision
    ideal = -np.log2(p).sum() / 8
    assert ideal <= len(encode_symbols(symbols, tables)) <= 1.001 * ideal + 64


def test_golden_bytes() -> None:
    """The bytes of version 1: a change here breaks every file."""
    tables = Tables.from_counts(np.array([[1, 5, 20, 5, 1], [0, 3, 0, 3, 0]]), np.array([-2, 7]), 12)
    symbols = np.array([[0, 1, -1, 0, 2, 0, 0, -2], [8, 10, 8, 9, 10, -300, 8, 10]], np.int32)
    coded = encode_symbols(symbols, tables)
    assert coded.hex() == GOLDEN
    np.testing.assert_array_equal(decode_symbols(bytes.fromhex(GOLDEN), tables, 8), symbols)


GOLDEN = "0312d704fb1401008eae93904569"


def test_tables_are_exact_and_ordered() -> None:
    tables = Tables.from_counts(np.array([[10**15, 1, 0, 10**15]]), np.array([0]), 8)
    assert tables.freqs.tolist() == [[127, 1, 0, 127]]
    assert tables.escape == 4
    assert tables.slots.tolist() == [[0] * 127 + [1] + [3] * 127 + [4]]
    crowded = Tables.from_counts(np.array([[1000, *[1] * 250]]), np.array([0]), 8)
    assert crowded.freqs.sum() == 255
    assert crowded.freqs.min() == 1
    assert Tables.from_counts(np.zeros((1, 3), int), np.array([0])).all_freqs.tolist() == [[0, 0, 0, 1 << 14]]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Tables(np.array([[300]]), np.array([0]), 8), "0 to 2\\*\\*8"),
        (lambda: Tables(np.array([[256]]), np.array([0]), 8), "leave its escape"),
        (lambda: Tables(np.array([[-1]]), np.array([0]), 8), "0 to 2\\*\\*8"),
        (lambda: Tables(np.array([[1.0]]), np.array([0]), 8), "found float64"),
        (lambda: Tables(np.array([[1]]), np.array([0, 1]), 8), r"found \(1, 1\), \(2,\)"),
        (lambda: Tables(np.array([[1]]), np.array([2**31 - 1]), 8), "within int32"),
        (lambda: Tables(np.array([[1]]), np.array([0]), 17), "found 17"),
        (lambda: Tables.from_counts(np.array([[-1]]), np.array([0])), "non-negative"),
        (lambda: Tables.from_counts(np.ones((1, 256), int), np.array([0]), 8), "found 256"),
        (lambda: encode_symbols(np.zeros((3, 4), np.int32), laplace(2, 9)[1]), r"\(2, n\).*\(3, 4\)"),
        (lambda: encode_symbols(np.zeros((2, 4), np.int64), laplace(2, 9)[1]), "found int64"),
        (lambda: encode_symbols(np.zeros((2, 4), np.int32), laplace(2, 9)[1], "cuda"), "found 'cuda'"),
    ],
)
def test_errors_say_what_was_found(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]


def test_steps_give_the_bytes_of_one_call() -> None:
    """A context model codes step by step, with tables that it chooses as it goes."""
    symbols, tables = laplace(4, 5000)
    encoder = Encoder(tables)
    for row, values in enumerate(symbols):
        for part in np.array_split(values, 7):
            encoder.push(part, np.full(len(part), row))
    coded = encoder.finish()
    assert coded == encode_symbols(symbols, tables)
    decoder = Decoder(coded, tables, symbols.size)
    for row, values in enumerate(symbols):
        previous = 0
        for part in np.array_split(values, 11):
            np.testing.assert_array_equal(decoder.pop(np.full(len(part), row)), part)
            previous += len(part)
    decoder.finish()
    with pytest.raises(ValueError, match="rows 4 to 4"):
        decoder.pop(np.array([4]))


def test_truncation_is_always_found() -> None:
    symbols, tables = laplace(3, 400)
    symbols[1, 7] = 10**6
    coded = encode_symbols(symbols, tables)
    for cut in range(len(coded)):
        with pytest.raises(BitstreamError):
            decode_symbols(coded[:cut], tables, 400)


def test_flipped_bits_are_found_without_a_checksum() -> None:
    """rANS itself finds nearly all; the container's CRC32 finds the rest."""
    symbols, tables = laplace(3, 400)
    coded = bytearray(encode_symbols(symbols, tables))
    rng = np.random.default_rng(0)
    silent = 0
    for bit in rng.integers(0, 8 * len(coded), 500):
        coded[bit // 8] ^= 1 << bit % 8
        try:
            silent += int(not np.array_equal(decode_symbols(bytes(coded), tables, 400), symbols))
        except BitstreamError:
            pass
        coded[bit // 8] ^= 1 << bit % 8
    assert silent <= 2


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 100))
def test_random_bytes_are_refused_or_decoded(data: bytes, n: int) -> None:
    tables = laplace(3, 400)[1]
    for backend in ("numba", "numpy"):
        try:
            assert decode_symbols(data, tables, n, backend).shape == (3, n)
        except BitstreamError:
            pass


@given(st.integers(0, 2**64 - 1))
def test_varints(value: int) -> None:
    data = write_varint(value)
    assert read_varint(b"x" + data + b"y", 1) == (value, 1 + len(data))
    with pytest.raises(BitstreamError):
        read_varint(data[:-1], 0)


@pytest.mark.parametrize("data", [b"", b"\x80\x00", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"])
def test_bad_varints(data: bytes) -> None:
    with pytest.raises(BitstreamError, match="number at byte 0"):
        read_varint(data, 0)
