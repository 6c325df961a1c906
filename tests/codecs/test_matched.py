from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.baselines import SCALES, Baseline
from codomain.codecs.image_kind import read_picture
from codomain.codecs.matched import Scale, match

CHELSEA = Path(__file__).parents[1] / "data" / "chelsea.png"
NEAR = 0.01


def jpeg(x: np.ndarray, quality: float) -> bytes:
    return Baseline("jpeg", int(quality)).compress(x)


def test_match_finds_the_nearest_quality() -> None:
    x = read_picture(CHELSEA)
    sizes = {q: len(jpeg(x, q)) for q in range(1, 96)}
    for target in (sizes[1] // 2, sizes[33], (sizes[60] + sizes[61]) // 2 + 1, sizes[95] * 2):
        quality, data = match(SCALES["jpeg"], lambda q: jpeg(x, q), target, {}, NEAR)
        best = min(abs(n - target) for n in sizes.values())
        assert abs(len(data) - target) <= max(best, NEAR * target)
        assert data == jpeg(x, quality)


def test_at_most_the_bytes() -> None:
    x = read_picture(CHELSEA)
    sizes = {q: len(jpeg(x, q)) for q in range(1, 96)}
    for target in (sizes[33], sizes[60] + 1, sizes[61] - 1, sizes[95] * 2):
        quality, data = match(SCALES["jpeg"], lambda q: jpeg(x, q), target, {}, 0.0, at_most=True)
        assert len(data) == max(n for n in sizes.values() if n <= target)
        assert len(data) == sizes[int(quality)]
    assert match(SCALES["jpeg"], lambda q: jpeg(x, q), sizes[1] - 1, {}, 0.0, at_most=True)[0] == 1  # none is so small


@pytest.mark.parametrize("is_rate", [True, False])
def test_few_trials_on_a_fine_scale(is_rate: bool) -> None:
    scale, tried = Scale(2, 510, 0.1, "kbps", is_rate), []

    def compress(quality: float) -> bytes:
        tried.append(quality)
        return bytes(round(900 + 125 * quality if is_rate else 1000 * 1.015**quality))

    for target in (3000, 9000, 60000):
        tried.clear()
        quality, data = match(scale, compress, target, {}, 0.002, at_most=True)
        assert 0.998 * target <= len(data) <= target
        assert len(tried) <= (4 if is_rate else 16)
        assert scale.index(quality) is not None


def test_what_is_known_is_not_tried_again() -> None:
    tried: list[float] = []

    def compress(quality: float) -> bytes:
        tried.append(quality)
        return bytes(int(100 * quality))

    assert match(Scale(1, 95, 1, ""), compress, 5000, {40.0: 4000, 60.0: 6000}, 0.0)[0] == 50
    assert all(40 < quality < 60 for quality in tried)
    tried.clear()
    assert match(Scale(1, 95, 1, ""), compress, 4000, {40.0: 4000, 60.0: 6000}, 0.0) == (40, bytes(4000))
    assert tried == [40]  # its file is still needed


def test_scales() -> None:
    scale = Scale(0, 10, 0.01, "libvorbis' quality")
    assert (scale.last, scale.at(437), scale.index(4.37), scale.index(4.375), scale.index(11)) == (
        1000,
        4.37,
        437,
        None,
        None,
    )
    assert scale.parse("vorbis", "4.5") == 4.5
    for text in ("", "high", "nan", "inf", "-1", "4.001"):
        with pytest.raises(ValueError, match=rf"'vorbis:{text}': expected vorbis:0 to vorbis:10 in steps of 0.01"):
            scale.parse("vorbis", text)
