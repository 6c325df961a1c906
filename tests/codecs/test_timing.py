from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from codomain.codecs.timing import constant

MS = Fraction(1, 1000)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25), Fraction(12345, 1000)])
def test_times_rounded_to_milliseconds_are_constant(rate: Fraction) -> None:
    times = [7 + round(1000 * i / rate) for i in range(500)]
    found, order, note = constant(times, MS, 0, [Fraction(1000), None, rate])
    assert (found, note) == (rate, "")
    assert np.array_equal(order, np.arange(500))


def test_an_exact_rate_is_taken_before_one_that_is_near() -> None:
    times = [1001 * i for i in range(1000)]
    assert constant(times, Fraction(1, 30000), 0, [Fraction(30), Fraction(30000, 1001)])[0] == Fraction(30000, 1001)


def test_pulldown_is_constant() -> None:
    times = [round(1000 * tick / 60) for i in range(50) for tick in (5 * i, 5 * i + 2)]  # 2, 3, 2, 3 of 60
    rate, order, note = constant(times, MS, 0, [Fraction(60)])
    assert (rate, len(order), note) == (24, 100, "")


def test_what_is_left_out_is_repeated() -> None:
    times = [0, 40, 80, 200, 240, 280]
    rate, order, note = constant(times, MS, 40, [Fraction(25)])
    assert (rate, order.tolist()) == (25, [0, 1, 2, 2, 2, 3, 4, 5])
    assert note == "2 missing frames: the one before is repeated"


def test_a_variable_rate_becomes_the_usual_one_near_its_average() -> None:
    gaps = np.random.default_rng(0).permutation(np.tile(np.arange(10, 71), 7))  # 40 on average
    times = np.cumsum(gaps).tolist()
    rate, order, note = constant(times, MS, 40, [Fraction(97, 4)])
    assert note == "variable frame rate: resampled to 25/1"
    assert rate == 25
    assert abs(len(order) / 25 - (times[-1] - times[0] + 40) / 1000) <= 0.02
    for tick, i in enumerate(order):
        now = times[0] + 40 * (tick + 0.5)
        assert times[i] < now
        assert i == len(times) - 1 or times[i + 1] >= now


@pytest.mark.parametrize("times", [[5], [None, None, None], [0, None, 80], [3, 3, 3], [0, 80, 0]])
def test_without_times_the_announced_rate_holds(times: list[int | None]) -> None:
    rate, order, note = constant(times, MS, 0, [None, Fraction(0), Fraction(50)])
    assert (rate, order.tolist(), note) == (50, list(range(len(times))), "")
    assert constant(times, MS, 0, [])[0] == 25


def test_frames_far_apart_are_an_error() -> None:
    with pytest.raises(ValueError, match="spread over"):
        constant([0, 1, 1 << 50], MS, 0, [Fraction(25)])
