from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from codomain.codecs.footage import Footage, read_footage, write_footage


def test_what_is_handed_on_comes_back(tmp_path: Path) -> None:
    x = Footage(np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8), Fraction(30000, 1001))
    write_footage(tmp_path / "x.npz", x)
    back = read_footage(tmp_path / "x.npz")
    assert np.array_equal(back.pixels, x.pixels)
    assert back.rate == x.rate
