from __future__ import annotations

import numpy as np
import pytest
import pywt
from codomain.kernels.filters import check_wavelet, filters, halves


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior2.2", "bior4.4", "bior6.8", "sym5", "rbio1.3"])
def test_polished_filters_are_pywavelets(wavelet: str) -> None:
    for ours, theirs in zip(filters(wavelet), pywt.Wavelet(wavelet).filter_bank, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior4.4", "rbio3.3"])
def test_biorthogonal_to_double_precision(wavelet: str) -> None:
    dec_lo, _, rec_lo, _ = filters(wavelet)
    taps = len(dec_lo)
    product = np.convolve(dec_lo, rec_lo)[(taps - 1) % 2 :: 2]
    np.testing.assert_allclose(product, np.arange(len(product)) == (taps - 1) // 2, atol=1e-15)


def test_halves_start_at_the_centre() -> None:
    for half, whole in zip(sum(halves("bior4.4"), ()), filters("bior4.4"), strict=True):
        whole = np.trim_zeros(whole)
        np.testing.assert_allclose(np.r_[half[:0:-1], half], whole, atol=1e-7)


def test_unknown_or_asymmetric() -> None:
    check_wavelet("db4", "periodization")
    with pytest.raises(ValueError, match="found 'db0'"):
        check_wavelet("db0", "periodization")
    with pytest.raises(ValueError, match="'db4' has 8 and 8 taps"):
        check_wavelet("db4", "symmetric")
