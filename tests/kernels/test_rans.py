from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from codomain.codecs.coder import Tables
from codomain.kernels import rans


def case(n: int, precision: int) -> tuple[np.ndarray, np.ndarray, Tables]:
    rng = np.random.default_rng(n + precision)
    tables = Tables.from_counts(rng.integers(0, 1000, (5, 40)) ** 3, np.zeros(5, int), precision)
    rows = rng.integers(0, 5, n).astype(np.uint16)
    columns = np.array([rng.choice(np.flatnonzero(tables.all_freqs[row])) for row in rows], np.uint16)
    return columns, rows, tables


def backends(tables: Tables) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Each decoder, and what it is given of the tables."""
    plain = (tables.all_freqs, tables.starts, tables.slots)
    return [(rans.decode, (tables.index,)), (rans.decode_reference, plain)]


@pytest.mark.parametrize("precision", [8, 12, 14, 16])
@pytest.mark.parametrize(("n", "lanes"), [(0, 1), (1, 1), (1, 4), (7, 4), (1000, 1), (3001, 8), (4096, 16)])
def test_backends_give_the_same_bytes(n: int, lanes: int, precision: int) -> None:
    columns, rows, tables = case(n, precision)
    symbols = columns.astype(np.int32)
    symbols[columns == tables.escape] = 2**31 - 1
    states, words, escaped = rans.encode(symbols, rows, tables.offsets, tables.entries, precision, lanes)
    spec_states, spec_words = rans.encode_reference(columns, rows, tables.all_freqs, tables.starts, precision, lanes)
    assert escaped.tolist() == [2**31 - 1] * int((columns == tables.escape).sum())
    np.testing.assert_array_equal(states, spec_states)
    np.testing.assert_array_equal(words, spec_words)
    padded = np.append(words, np.uint16(0))
    for decode, found in backends(tables):
        at, read, parts = 0, states.copy(), []
        for step in np.array_split(rows, 3):  # a decoder may stop between symbols of one group
            got, at = decode(
                padded,
                at,
                read,
                sum(map(len, parts)),
                step,
                *found,
                precision,
            )
            parts.append(got)
        np.testing.assert_array_equal(np.concatenate(parts), columns)
        assert at == len(words)
        assert (read == rans.START).all()


def test_words_that_run_out_are_reported() -> None:
    columns, rows, tables = case(4096, 14)
    states, words = rans.encode_reference(columns, rows, tables.all_freqs, tables.starts, 14, 4)
    short = np.append(words[:-5], np.uint16(0))
    for decode, found in backends(tables):
        _, at = decode(short, 0, states.copy(), 0, rows, *found, 14)
        assert at > len(short) - 1


@pytest.mark.parametrize("precision", [8, 12, 16])
def test_the_index_finds_the_column_of_every_slot(precision: int) -> None:
    """In tables with gaps, of one column, and of as many as there are slots."""
    rng, whole = np.random.default_rng(0), (1 << precision) - 1
    gaps = rng.integers(0, 2, min(whole, 700)) * rng.integers(1, 1000, min(whole, 700))
    counts = np.zeros((4, whole), np.int64)
    counts[0, : len(gaps)], counts[1, 3], counts[2] = gaps, 1, 1
    tables = Tables.from_counts(counts, np.zeros(4, int), precision)
    peaks, coarse, held = tables.index
    shift = precision - (coarse.shape[1].bit_length() - 1)
    for row, columns in enumerate(tables.slots):
        freqs, starts = tables.all_freqs[row], tables.starts[row]
        assert peaks[row] == int(freqs.argmax()) << 40 | int(freqs.max()) << 16 | int(starts[freqs.argmax()])
        places = coarse[row, np.arange(len(columns)) >> shift].astype(np.int64)
        while (late := np.arange(len(columns)) - (held[places] & 0xFFFF) >= (held[places] >> 16 & 0xFFFFFF)).any():
            places += late
        np.testing.assert_array_equal(held[places] >> 40, columns)


@pytest.mark.parametrize("precision", [8, 12, 14, 16])
def test_inverses_divide_exactly(precision: int) -> None:
    rng = np.random.default_rng(precision)
    top = 1 << precision
    freqs = np.unique(np.r_[1 : min(300, top), rng.integers(1, top, 300), top - 2, top - 1, top])
    for f, packed in zip(freqs.tolist(), rans.inverses(freqs[None].astype(np.uint32))[0].tolist(), strict=True):
        limit = f << (32 - precision)
        near = [k * f + d for k in rng.integers(1, max(2, limit // f), 40).tolist() for d in (-1, 0)]
        for x in [0, f - 1, f, limit - 1, *near]:
            if x < limit:
                assert x * (packed >> 8) < 1 << 64
                assert x * (packed >> 8) >> (packed & 255) == x // f


def test_lanes_are_part_of_the_format() -> None:
    assert [rans.lanes_for(n) for n in (0, 16383, 32768, 65536, 73728, 10**6, 10**9)] == [
        1,
        1,
        2,
        4,
        4,
        16,
        16,
    ]
