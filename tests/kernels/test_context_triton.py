from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from codomain.codecs.coder import Decoder, Tables
from codomain.codecs.context import ContextModel
from codomain.kernels import context_triton, rans, rans_triton
from codomain.kernels.context import MOST, N_TABLES, PHASES, Forms, part

INDEX = 77
GRIDS = [(1, 1), (1, 4), (5, 2), (9, 10)]  # edges that mirror to nothing; two blocks; every phase; odd sides


class Case(NamedTuple):
    model: ContextModel
    symbols: list[np.ndarray]
    payloads: list[bytes]
    weights: tuple[context_triton.Forms, torch.Tensor]
    tables: rans_triton.Tables

    def decode(self, decoders: list[Decoder], escapes: list[np.ndarray], grids: list[tuple[int, int]]) -> Any:
        words, states = [d.words[:-1] for d in decoders], [d.states for d in decoders]
        return context_triton.decode(words, states, escapes, grids, self.tables, *self.weights)


@pytest.fixture
def case(make_forms: Callable[..., Forms], device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Case:
    if device.type == "cpu":
        monkeypatch.setattr(context_triton, "BLOCK", 128)
    rng = np.random.default_rng(0)
    d, forms = 2, make_forms(2)
    tables = Tables.from_counts(rng.integers(0, 100, (N_TABLES, 41)), np.full(N_TABLES, -20), 14)
    model = ContextModel(forms, rng.integers(1, 900, (2, len(PHASES), d)).astype(np.int32), tables)
    symbols = [np.round(rng.laplace(0, 4, (d, h, w))).astype(np.int32) for h, w in GRIDS]
    symbols[3][0, 2:4, 3] = -(2**30), MOST + 1
    symbols[3][1, 8, 9] = 2**30
    symbols[0][0] = 999
    payloads = [model.encode(q, INDEX, "numpy") for q in symbols]
    weights = context_triton.Forms(*(torch.from_numpy(w).to(device) for w in forms))
    arrays = (tables.all_freqs, tables.starts, rans.inverses(tables.all_freqs), tables.slots, tables.offsets)
    there = rans_triton.Tables(*(torch.from_numpy(a).to(device) for a in arrays), 14)
    return Case(model, symbols, payloads, (weights, torch.from_numpy(model.floor(INDEX)).to(device)), there)


def flat(arrays: list[np.ndarray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([a.ravel() for a in arrays])).to(device)


def test_tables_and_coded_integers_are_those_of_the_specification(case: Case, device: torch.device) -> None:
    rows, coded = context_triton.choose(flat(case.symbols, device), GRIDS, *case.weights)
    expected = [case.model.choose(q, INDEX, "numpy") for q in case.symbols]
    np.testing.assert_array_equal(rows.cpu().numpy(), np.concatenate([r for r, _ in expected]))
    np.testing.assert_array_equal(coded.cpu().numpy(), np.concatenate([c for _, c in expected]))


def test_chunks_of_unequal_size_decode_to_their_symbols(case: Case, device: torch.device) -> None:
    decoders = [Decoder(data, case.model.tables, q.size) for data, q in zip(case.payloads, case.symbols, strict=True)]
    escapes = [decoder.take_escapes() for decoder in decoders]
    assert sum(map(len, escapes)) > 3
    symbols, used, ends = case.decode(decoders, escapes, GRIDS)
    np.testing.assert_array_equal(symbols.cpu().numpy(), flat(case.symbols, torch.device("cpu")).numpy())
    assert used == [(d.n_words, len(e)) for d, e in zip(decoders, escapes, strict=True)]
    assert all((end == rans.START).all() for end in ends)


def test_groups_of_lanes_that_two_phases_share(case: Case) -> None:
    """Payloads of many lanes, though so few symbols would get one; and words that run out in one of them."""
    q, tables = case.symbols[2], case.model.tables
    rows, coded = case.model.choose(q, INDEX, "numpy")
    columns, _ = rans.columns_of(coded, rows, tables.offsets, tables.all_freqs)
    decoders, escapes = [], []
    for lanes in (2, 16):
        decoder = Decoder(case.payloads[2], tables, q.size)
        decoder.states, words = rans.encode_reference(columns, rows, tables.all_freqs, tables.starts, 14, lanes)
        decoder.words, decoder.n_words = np.append(words, np.uint16(0)), len(words)
        decoders.append(decoder)
        escapes.append(coded[columns == tables.escape])
    symbols, used, ends = case.decode(decoders, escapes, [GRIDS[2]] * 2)
    np.testing.assert_array_equal(symbols.cpu().numpy(), np.tile(q.ravel(), 2))
    assert [cursor for cursor, _ in used] == [decoder.n_words for decoder in decoders]
    assert all((end == rans.START).all() for end in ends)


def test_hostile_payloads_end_as_on_the_cpu(case: Case) -> None:
    """Words that are cut, noise, and escapes that are missing or too large."""
    tables, rng = case.model.tables, np.random.default_rng(1)
    noise = rng.integers(0, 1 << 16, 60).astype(np.uint16)
    everywhere = np.full(40, 2**31 - 1, np.int32)
    decoders, escapes = [], []
    for words, escape in ((noise[:0], everywhere), (noise, everywhere[:0]), (noise, everywhere[:1] // 8)):
        decoder = Decoder(case.payloads[2], tables, case.symbols[2].size)
        decoder.states[:] = rng.integers(1 << 16, 1 << 32)
        decoder.words, decoder.n_words = np.append(words, np.uint16(0)), len(words)
        decoders.append(decoder)
        escapes.append(escape)
    _, used, ends = case.decode(decoders, escapes, [GRIDS[2]] * 3)
    for decoder, escape, (cursor, taken), end in zip(decoders, escapes, used, ends, strict=True):
        symbols = np.zeros((2, *GRIDS[2]), np.int32)
        expected = rans_on_cpu(decoder, escape, case, symbols)
        assert taken == expected[1]
        if taken >= 0:  # where it fails, the CPU stops at once
            assert cursor == expected[0]
            np.testing.assert_array_equal(end, decoder.states)
    assert used[0][0] > 0


def rans_on_cpu(decoder: Decoder, escapes: np.ndarray, case: Case, symbols: np.ndarray) -> tuple[int, int]:
    from codomain.kernels import context

    t = case.model.tables
    return context.decode(
        decoder.words, decoder.states, escapes, t.index, t.offsets, t.escape, 14,
        case.model.weights, case.model.floor(INDEX), symbols,
    )  # fmt: skip


def test_places_are_the_phases_in_order() -> None:
    places, where = context_triton.places_of([(9, 10), (3, 2), (9, 10)], torch.device("cpu"))
    assert where == [0, 270, 0]
    i, j, phase = places[:270].numpy().reshape(3, 90)
    position = np.arange(90).reshape(9, 10)
    expected = [position[part(p)].ravel() for p in range(len(PHASES))]
    assert (i.astype(int) * 10 + j == np.concatenate(expected)).all()
    assert (phase == np.repeat(range(len(PHASES)), [len(e) for e in expected])).all()


def test_compiles_without_spilling(compile_for_gpu: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    forms = dict.fromkeys(("places", "value_weights", "spread_weights", "value_ring", "spread_ring"), "*i16")
    common = {**forms, "floors": "*i32", "jobs": "*i64", "symbols": "*i32", "planes": "*i16", "d": "i32"}
    payload = {"words": "*u16", "states": "*u32", "escapes": "*i32", "phases": "*i32", "scratch": "*i32"}
    tables = {"freqs": "*u32", "starts": "*u32", "slots": "*u16", "offsets": "*i32", "width": "i32"}
    module = {"module": "codomain.kernels.context_triton", "num_warps": context_triton.NUM_WARPS, "num_stages": 1}
    block = {"BLOCK": context_triton.BLOCK}
    reports = compile_for_gpu([
        {**module, "kernel": "_choose_kernel", "constexprs": block,
         "signature": {**common, "distances": "*i32", "rows": "*u16", "coded": "*i32"}},
        {**module, "kernel": "_decode_kernel", "constexprs": {**block, "PRECISION": 14, "LANES": rans.MAX_LANES},
         "signature": {**common, **payload, **tables, "used": "*i32"}},
    ])  # fmt: skip
    assert len(reports) == 4
    for report in reports:
        assert report["spilled"] == 0, report
        assert report["shared"] <= 16384 < report["shared_limit"], report
        assert report["registers"] <= 128, report
