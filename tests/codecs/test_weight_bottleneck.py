from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.coder import BitstreamError
from codomain.codecs.weight_bottleneck import MAX_INTEGER, Quantized, WeightBottleneck, read_quantized, step_sizes
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = [3000, 1, 40, 9000, 12]


def numbers(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    parts = [rng.laplace(0, scale, n) for n, scale in zip(SIZES, (0.1, 1.0, 3.0, 0.02, 1e-6), strict=True)]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def made(seed: int = 0, scale: float = 1.0) -> Quantized:
    rng = np.random.default_rng(seed)
    integers = np.round(rng.laplace(0, 3 * scale, sum(SIZES))).astype(np.int32)
    return Quantized(integers, rng.integers(0, 256, len(SIZES)).astype(np.uint8))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.1, 1.0, 100.0, 1e5]))
def test_round_trip(seed: int, scale: float) -> None:
    first, second = made(seed, scale), made(seed + 1, scale)
    first.integers[seed % sum(SIZES)] = -MAX_INTEGER
    second = Quantized(second.integers, first.steps)
    for found, before in ((first, None), (second, first)):
        data = found.to_bytes(SIZES, None if before is None else before.integers)
        read = read_quantized(data, SIZES, before)
        assert np.array_equal(read.integers, found.integers)
        assert np.array_equal(read.steps, first.steps)


def test_differences_of_neighbours_are_small() -> None:
    first = made()
    second = Quantized(
        first.integers + np.random.default_rng(1).integers(-1, 2, sum(SIZES)).astype(np.int32), first.steps
    )
    alone, chained = len(second.to_bytes(SIZES)), len(second.to_bytes(SIZES, first.integers))
    assert chained < 0.55 * alone
    assert len(first.to_bytes(SIZES, first.integers)) <= len(SIZES) + 5


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 4000), st.booleans())
def test_hostile_bytes(noise: bytes, at: int, chained: bool) -> None:
    before = made(1) if chained else None
    good = made().to_bytes(SIZES, None if before is None else before.integers)
    for data in (noise, good[:at], good[:at] + noise + good[at + len(noise) :]):
        try:
            read = read_quantized(data, SIZES, before)
        except BitstreamError:
            continue
        assert np.abs(read.integers).max() <= MAX_INTEGER


def test_integers_that_float32_would_round_are_refused() -> None:
    beyond = made()
    beyond.integers[7] = MAX_INTEGER + 1
    with pytest.raises(BitstreamError, match="holds integers beyond 16777216"):
        read_quantized(beyond.to_bytes(SIZES), SIZES)
    with pytest.raises(BitstreamError, match="network of 3 bytes ends before its 10 codes"):
        read_quantized(b"abc", SIZES)


def test_the_training_price_is_that_of_the_bytes() -> None:
    for seed, bits_of_largest in ((0, 0.0), (1, 1.0), (2, -1.0)):
        bottleneck = WeightBottleneck(numbers(seed), SIZES)
        with torch.no_grad():
            bottleneck.log_steps -= bits_of_largest
        _, bits = bottleneck()
        data = bottleneck.quantized().to_bytes(SIZES)
        print(f"price {bits.item() / 8:.0f} bytes, coded {len(data)}")
        assert 8 * (len(data) - 2 * len(SIZES)) == pytest.approx(bits.item(), rel=0.03)


def test_what_is_learned_is_what_is_decoded() -> None:
    bottleneck = WeightBottleneck(numbers(), SIZES)
    with torch.no_grad():
        bottleneck.log_steps += torch.linspace(-0.31, 0.27, len(SIZES))
        values, _ = bottleneck()
        plain, _ = bottleneck(rounded=False)
    found = bottleneck.quantized()
    read = read_quantized(found.to_bytes(SIZES), SIZES)
    assert torch.equal(read.values(SIZES), values)
    assert torch.equal(plain, numbers())
    steps = torch.from_numpy(np.repeat(step_sizes(found.steps), SIZES))
    assert ((values - plain).abs() <= 0.501 * steps).all()


def test_steps_of_codes() -> None:
    steps = step_sizes(np.array([0, 16, 224, 255], np.uint8))
    assert steps[:3].tolist() == [2**-14, 2**-13, 1.0]
    assert steps[3] == pytest.approx(2 ** (31 / 16))
    bottleneck = WeightBottleneck(torch.tensor([1.0, -2.0, 1e9, 0.0]), [2, 1, 1])
    assert bottleneck.quantized().steps.tolist() == [16 * 10, 255, 0]
    assert np.abs(bottleneck.quantized().integers).max() == MAX_INTEGER


def test_gradients_are_those_without_rounding() -> None:
    bottleneck = WeightBottleneck(numbers(), SIZES)
    weight = torch.randn(sum(SIZES))
    values, bits = bottleneck()
    (values * weight).sum().backward()
    assert torch.allclose(bottleneck.values.grad, weight, rtol=1e-5)
    bottleneck.zero_grad()
    bits = bottleneck()[1]
    bits.backward()
    grad = bottleneck.values.grad
    away = bottleneck.quantized().integers != 0
    assert grad.isfinite().all() and bottleneck.log_steps.grad.isfinite().all()
    assert (grad * numbers().sign() >= 0).numpy()[away].all()  # smaller numbers take fewer bits
    assert (bottleneck.log_steps.grad[[0, 2, 3]] < 0).all()  # so do coarser steps


def test_chained_numbers_start_as_those_before_and_cost_nothing() -> None:
    before = made()
    bottleneck = WeightBottleneck(numbers(), SIZES, before)
    values, bits = bottleneck()
    assert torch.equal(values, before.values(SIZES))
    assert bits.item() < 0.001 * sum(SIZES)
    assert not bottleneck.log_steps.requires_grad
    assert np.array_equal(bottleneck.quantized().integers, before.integers)
    bits.backward()
    assert bottleneck.values.grad.isfinite().all()
