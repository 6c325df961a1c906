from __future__ import annotations

import numpy as np
import pytest
from codomain.codecs.metrics import bpp, psnr


def test_psnr_of_a_known_error() -> None:
    x = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(x, x + 10, 255.0) == pytest.approx(20 * np.log10(25.5))
    assert psnr(x, x, 255.0) == float("inf")
    assert psnr(x.astype(np.uint8), np.full_like(x, 90), 255.0) == pytest.approx(20 * np.log10(25.5))  # no wrap-around


def test_bpp_counts_the_whole_file() -> None:
    assert bpp(1000, 100, 40) == 2.0
