from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from codomain.codecs.coder import Tables
from codomain.kernels import rans, rans_triton

SIZES, LANES = [1, 0, 7, 33, 150, 90], [1, 4, 2, 16, 16, 8]  # groups that are short, whole, and not there
TABLES = {"freqs": "*u32", "starts": "*u32", "width": "i32"}


def on(device: torch.device, tables: Tables) -> rans_triton.Tables:
    arrays = (tables.all_freqs, tables.starts, rans.inverses(tables.all_freqs), tables.slots, tables.offsets)
    return rans_triton.Tables(*(torch.from_numpy(a).to(device) for a in arrays), tables.precision)


def case(precision: int) -> tuple[np.ndarray, np.ndarray, Tables]:
    rng = np.random.default_rng(precision)
    counts = rng.integers(0, 1000, (6, 40)) ** 3
    counts[5] = 0  # all is the escape's: a frequency of 2**precision
    tables = Tables.from_counts(counts, rng.integers(-50, 50, 6), precision)
    rows = rng.integers(0, 6, sum(SIZES)).astype(np.uint16)
    columns = np.array([rng.choice(np.flatnonzero(tables.all_freqs[row])) for row in rows], np.uint16)
    return columns, rows, tables


def test_payloads_of_unequal_length_are_those_of_the_specification(device: torch.device) -> None:
    for precision in (8, 14, 16):
        columns, rows, tables = case(precision)
        given = [torch.from_numpy(a).to(device) for a in (columns, rows)]
        states, words = rans_triton.encode(*given, SIZES, on(device, tables), LANES)
        at = 0
        for size, lanes, state, word in zip(SIZES, LANES, states, words, strict=True):
            part = slice(at, at + size)
            spec_state, spec_word = rans.encode_reference(
                columns[part], rows[part], tables.all_freqs, tables.starts, precision, lanes
            )
            np.testing.assert_array_equal(state, spec_state)
            np.testing.assert_array_equal(word, spec_word)
            at += size
        decoded, cursors, ends = rans_triton.decode(words, states, given[1], SIZES, on(device, tables))
        np.testing.assert_array_equal(decoded.cpu().numpy(), columns)
        assert cursors == [len(word) for word in words]
        assert all((end == rans.START).all() for end in ends)


def test_hostile_words_and_states_end_as_on_the_cpu(device: torch.device) -> None:
    """Words that are cut or noise, states that are noise: nothing is read beyond, and every end is that of numba."""
    _, rows, tables = case(14)
    rng = np.random.default_rng(1)
    words = [rng.integers(0, 1 << 16, n).astype(np.uint16) for n in (0, 2, 1, 0, 40, 3)]
    states = [rng.integers(1 << 16, 1 << 32, lanes, np.uint32) for lanes in LANES]
    states[4][:] = rans.START  # refills at once
    found, cursors, ends = rans_triton.decode(
        words, states, torch.from_numpy(rows).to(device), SIZES, on(device, tables)
    )
    at = 0
    for size, word, state, cursor, end in zip(SIZES, words, states, cursors, ends, strict=True):
        columns, expected = rans.decode(
            np.append(word, np.uint16(0)), 0, state, 0, rows[at : at + size], tables.index, 14
        )
        np.testing.assert_array_equal(found[at : at + size].cpu().numpy(), columns)
        np.testing.assert_array_equal(end, state)
        assert cursor == expected
        at += size
    assert cursors[4] > 40


def test_columns_and_what_no_table_holds(device: torch.device) -> None:
    rng = np.random.default_rng(2)
    tables = Tables.from_counts(rng.integers(0, 3, (3, 20)), np.array([-10, 2**31 - 22, -(2**31)]))
    symbols = np.concatenate((tables.offsets.repeat(30) + np.tile(np.arange(-5, 25), 3), [2**31 - 1, -(2**31)]))
    symbols = symbols.clip(-(2**31), 2**31 - 1).astype(np.int32)
    rows = np.append(np.arange(3, dtype=np.uint16).repeat(30), np.array([1, 0], np.uint16))
    given = [torch.from_numpy(a).to(device) for a in (symbols, rows)]
    columns = rans_triton.columns_of(*given, on(device, tables)).cpu().numpy()
    expected, escaped = rans.columns_of(symbols, rows, tables.offsets, tables.all_freqs)
    np.testing.assert_array_equal(columns, expected)
    assert 30 < escaped < 90


def test_compiles_without_spilling(compile_for_gpu: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    module = {"module": "codomain.kernels.rans_triton", "num_stages": 1}
    data = {"columns": "*u16", "rows": "*u16", "words": "*u16", "jobs": "*i64"}
    wide = {"symbols": "*i32", "rows": "*u16", "offsets": "*i32", "freqs": "*u32", "columns": "*u16", "n": "i32"}
    shape = {"PRECISION": 14, "LANES": rans.MAX_LANES}
    reports = compile_for_gpu([
        {**module, "kernel": "_decode_kernel", "num_warps": 1, "constexprs": shape,
         "signature": {**data, **TABLES, "states": "*u32", "slots": "*u16", "cursors": "*i32"}},
        {**module, "kernel": "_encode_kernel", "num_warps": 1, "constexprs": shape,
         "signature": {**data, **TABLES, "inverses": "*u64", "states": "*u32", "counts": "*i32"}},
        {**module, "kernel": "_columns_kernel", "constexprs": {"BLOCK": rans_triton.BLOCK},
         "signature": {**wide, "width": "i32"}},
    ])  # fmt: skip
    assert len(reports) == 6
    for report in reports:
        assert report["spilled"] == 0, report
        assert report["shared"] == 0, report  # lanes meet within a warp
        assert report["registers"] <= 64, report


def test_starts() -> None:
    assert rans_triton.starts_of([3, 0, 5]) == [0, 3, 3]
    assert rans_triton.starts_of([]) == []


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_code(device: torch.device, n: int) -> None:
    _, _, tables = case(8)
    empty = torch.empty(0, dtype=torch.uint16, device=device)
    states, words = rans_triton.encode(empty, empty, [0] * n, on(device, tables), [4] * n)
    assert [len(word) for word in words] == [0] * n
    columns, cursors, ends = rans_triton.decode(words, states, empty, [0] * n, on(device, tables))
    assert (len(columns), cursors) == (0, [0] * n)
    assert all((end == rans.START).all() for end in ends)
