from __future__ import annotations

import hashlib
from decimal import getcontext, localcontext

import numpy as np
import pytest
import torch
from codomain.codecs.coder import Encoder
from codomain.codecs.weight_tables import N_SCALES, _row, choose, table, tables


def of_a_density(family: int, scale: float, low: int, n: int) -> np.ndarray:
    """Probabilities of n integers from low on, in float64."""
    edges = torch.arange(low, low + n + 1, dtype=torch.float64) - 0.5
    if family == 0:
        below = torch.special.ndtr(edges / scale)
    else:
        below = 0.5 + 0.5 * edges.sign() * (1 - (-edges.abs() / scale).exp())
    return below.diff().numpy()


@pytest.mark.parametrize("family", [0, 1])
@pytest.mark.parametrize("k", [0, 20, 48, 75, 100, 127])
def test_tables_are_those_of_the_densities(family: int, k: int) -> None:
    low, counts = table(N_SCALES * family + k)
    expected = of_a_density(family, 2 ** (k / 12 - 4), low, len(counts))
    assert low == -(len(counts) // 2)
    assert np.array_equal(counts, counts[::-1])
    atol = 2e-2 if k < 21 else 3e-4  # 16 parts of a unit see little of a narrow density
    np.testing.assert_allclose(counts / counts.sum(), expected / expected.sum(), atol=atol)


def test_every_code_has_a_table() -> None:
    made = tables(np.arange(256, dtype=np.uint8))
    assert len(made) == 256
    assert (made.all_freqs.sum(1) == 1 << 15).all()
    sizes = (made.freqs > 0).sum(1)
    assert (np.diff(sizes[:128]) >= 0).all() and (np.diff(sizes[128:]) >= 0).all()
    assert made.freqs.max(1)[0] == (1 << 15) - 3  # nothing but zeros costs next to nothing


def test_the_tables_are_the_same_everywhere() -> None:
    """What decodes once decodes for ever: not even the precision of the caller's arithmetic counts."""
    table.cache_clear()
    _row.cache_clear()
    with localcontext() as context:
        context.prec = 5
        made = tables(np.array([30, 100, 200], np.uint8))
    assert getcontext().prec == 28
    found = hashlib.sha256(made.all_freqs.astype("<u4").tobytes() + made.offsets.astype("<i4").tobytes()).hexdigest()
    assert found == "7a920d2257669851b80551f77c1d585eff5f10fee48d416a34438184520271fe"


@pytest.mark.parametrize("family", [0, 1])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 20.0])
def test_choose_finds_family_and_scale(family: int, scale: float) -> None:
    rng = np.random.default_rng(1)
    values = np.round((rng.normal, rng.laplace)[family](0, scale, 20_000)).astype(np.int32)
    code, _ = choose(values)
    if scale >= 1:
        assert code // N_SCALES == family
    assert code % N_SCALES == pytest.approx(12 * (np.log2(scale) + 4), abs=2 if scale >= 1 else 5)


@pytest.mark.parametrize("family", [0, 1])
@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 3.0, 8.0, 25.0])
def test_coded_length_against_the_best_density(family: int, scale: float) -> None:
    """Within 1 % of the ideal code length of the best density of either family, of any scale."""
    rng = np.random.default_rng(0)
    values = np.round((rng.normal, rng.laplace)[family](0, scale, 40_000)).astype(np.int32)
    code, estimate = choose(values)
    encoder = Encoder(tables(np.array([code], np.uint8)))
    encoder.push(values, np.zeros(len(values), np.uint8))
    coded = 8 * (len(encoder.finish()) - 4)  # but for the coder's state, one a file: many tables share it
    low, counts = values.min(), np.bincount(values - values.min())
    held = counts > 0
    ideal = min(
        -(counts[held] * np.log2(of_a_density(kind, scale * 2**octave, low, len(counts))[held] + 1e-300)).sum()
        for kind in (0, 1)
        for octave in np.arange(-0.8, 0.8, 0.01)
    )
    print(f"family {family} scale {scale}: coded {coded / ideal - 1:+.4%}, estimate {estimate / ideal - 1:+.4%}")
    assert coded <= 1.01 * ideal
    assert estimate == pytest.approx(coded, rel=0.01)


def test_one_value_and_zeros_alone() -> None:
    assert choose(np.zeros(1000, np.int32))[1] < 1
    code, bits = choose(np.array([-(2**24)], np.int32))
    assert 0 <= code < 256
    assert bits == 15
