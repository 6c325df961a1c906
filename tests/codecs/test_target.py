from __future__ import annotations

import math

import pytest
from codomain.codecs.target import Target, find_quality


def search(what: str, value: float, rough: float = 0.0) -> tuple[float, float, int]:
    """A codec whose files grow 4 % a quality, and gain 0.1 dB."""
    tried: list[float] = []

    def compress(quality: float) -> bytes:
        tried.append(quality)
        wave = 1 + rough * math.sin(quality)
        return bytes(round(1000 * 1.04**quality * wave))

    def measure(data: bytes) -> float:
        return 20 + math.log(len(data) / 1000, 1.04) / 10 if what == "psnr" else float(len(data))

    quality, data = find_quality(Target(what, float(value)), compress, measure)
    return quality, measure(data), len(tried)


@pytest.mark.parametrize("rough", [0.0, 0.003])
@pytest.mark.parametrize("value", [1100, 5000, 7106, 20000, 50000])
def test_sizes_are_met_from_below(value: float, rough: float) -> None:
    quality, found, trials = search("bytes", value, rough)
    assert 0.98 * value < found <= value
    assert quality * 4 == round(quality * 4)
    assert trials <= 8


@pytest.mark.parametrize("value", [20.5, 25.0, 29.9])
def test_decibels_are_met_from_above(value: float) -> None:
    _, found, trials = search("psnr", value)
    assert value <= found < value + 0.03
    assert trials <= 8


def test_ends() -> None:
    assert search("bytes", 1e9)[0] == 100  # everything fits
    assert search("psnr", 3.0)[0] == 1
    with pytest.raises(ValueError, match="a target of 900 bytes cannot be met: quality 1, the smallest, gives 1040"):
        search("bytes", 900)
    with pytest.raises(ValueError, match="a target of 99 dB cannot be met: quality 100, the highest, gives 30"):
        search("psnr", 99)
    for value in (0, -3, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive number of bytes"):
            Target("bytes", float(value))
