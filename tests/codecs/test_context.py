from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from codomain.codecs.coder import BitstreamError, Tables
from codomain.codecs.context import ContextModel
from codomain.kernels.context import N_TABLES, PHASES, Forms
from hypothesis import given, settings
from hypothesis import strategies as st

MakeModel = Callable[..., ContextModel]


@pytest.fixture(scope="module")
def make_model(make_forms: Callable[..., Forms]) -> MakeModel:
    def make(d: int = 5, floor: int = 400) -> ContextModel:
        x = np.abs(np.arange(-64, 65))
        scales = 2.0 ** (np.arange(N_TABLES) // 16 - 7 + np.arange(N_TABLES) // 4 % 4 / 4)
        counts = (1e9 * np.exp(-x / scales[:, None])).astype(np.int64)
        floors = np.full((3, len(PHASES), d), floor, np.int32)
        floors[1] *= 3
        return ContextModel(make_forms(d), floors, Tables.from_counts(counts, np.full(N_TABLES, -64)))

    return make


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.sampled_from([0.1, 2.0, 300.0]))
def test_round_trip_of_any_symbols(make_model: MakeModel, h: int, w: int, seed: int, scale: float) -> None:
    model, rng = make_model(), np.random.default_rng(seed)
    symbols = np.round(rng.laplace(0, scale, (5, h, w))).astype(np.int32)
    symbols.flat[rng.integers(symbols.size)] = rng.choice([-(2**30), 2**30])
    data = model.encode(symbols, 200)
    assert np.array_equal(model.decode(data, 5, h, w, 200), symbols)


def test_both_backends_give_the_same_bytes(make_model: MakeModel) -> None:
    model = make_model()
    symbols = np.round(np.random.default_rng(0).laplace(0, 3, (5, 13, 10))).astype(np.int32)
    data = model.encode(symbols, 77)
    assert data == model.encode(symbols, 77, "numpy")
    assert np.array_equal(model.decode(data, 5, 13, 10, 77, "numpy"), symbols)
    for a, b in zip(model.choose(symbols, 77), model.choose(symbols, 77, "numpy"), strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(ValueError, match="backend is"):
        model.encode(symbols, 77, "fortran")
    with pytest.raises(ValueError, match="expected 5 channels; found 4"):
        model.encode(symbols[:4], 77)


def test_contexts_pay_where_neighbours_tell(make_model: MakeModel) -> None:
    """A channel that repeats the one before it costs almost nothing."""
    d = 2
    forms = Forms(*(np.zeros(s, np.int16) for s in ((d, d, 5), (d, d, 5), (len(PHASES), d, 8), (len(PHASES), d, 8))))
    forms.value[1, 0, 0] = 4096
    tables = make_model().tables
    plain = np.full((2, len(PHASES), d), 9000, np.int32)  # both channels as scattered as the first
    told = plain.copy()
    told[:, :, 1] = 40
    first = np.round(np.random.default_rng(0).laplace(0, 2.2, (32, 32))).astype(np.int32)
    symbols = np.stack([first, first])
    blind = len(ContextModel(Forms(*(f * 0 for f in forms)), plain, tables).encode(symbols, 200))
    seeing = len(ContextModel(forms, told, tables).encode(symbols, 200))
    assert 0.48 < seeing / blind < 0.55


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_hostile_bytes(make_model: MakeModel, noise: bytes, at: int) -> None:
    model = make_model()
    symbols = np.round(np.random.default_rng(0).laplace(0, 3, (5, 6, 7))).astype(np.int32)
    good = model.encode(symbols, 200)
    for data in (noise, good[:at], good[:at] + noise + good[at + len(noise) :]):
        outcomes = []
        for backend in ("numba", "numpy"):
            try:
                outcomes.append(model.decode(data, 5, 6, 7, 200, backend).tolist())
            except BitstreamError:
                outcomes.append(None)
        assert outcomes[0] == outcomes[1]
        assert (outcomes[0] is None) == (data != good)


def test_floors_are_interpolated_as_integers(make_model: MakeModel) -> None:
    model = make_model(floor=100)
    assert [int(model.floor(index)[0, 0]) for index in (4, 103, 202, 301, 400)] == [100, 200, 300, 200, 100]
    assert int(model.floor(5)[0, 0]) == 101


@pytest.mark.parametrize("wrong", ["floor", "tables"])
def test_models_that_do_not_fit(make_model: MakeModel, wrong: str) -> None:
    model = make_model()
    floors = model.floors * 0 if wrong == "floor" else model.floors
    tables = Tables.from_counts(np.ones((3, 3), np.int64), np.zeros(3, np.int64)) if wrong == "tables" else model.tables
    with pytest.raises(ValueError, match="expected"):
        ContextModel(model.forms, floors, tables)
