"""Filters of PyWavelets' discrete wavelets, to full double precision."""

from __future__ import annotations

from functools import cache

import numpy as np
import pywt


@cache
def filters(wavelet: str) -> tuple[np.ndarray, ...]:
    """Return (dec_lo, dec_hi, rec_lo, rec_hi) of PyWavelets, polished to full double precision.

    PyWavelets stores about 12 digits. Newton steps of least norm restore the biorthogonality
    ``sum_n dec_lo[-n] rec_lo[n + 2k] = delta_k`` to 1e-16; the high-pass filters follow by alternating signs.
    """
    dec_lo, dec_hi, rec_lo, rec_hi = (np.array(f) for f in pywt.Wavelet(wavelet).filter_bank)
    taps = len(dec_lo)
    a, b = dec_lo[::-1].copy(), rec_lo.copy()
    signs = np.where(np.arange(taps) % 2 == 0, 1.0, -1.0)
    s_dec, s_rec = (np.sign(np.dot(signs * f, g)) for f, g in ((rec_lo, dec_hi), (dec_lo, rec_hi)))
    shifts = range(-(taps // 2) + 1, taps // 2)

    def shifted(v: np.ndarray, k: int) -> np.ndarray:
        padded = np.pad(v, taps)
        return padded[taps + 2 * k : 2 * taps + 2 * k]

    for _ in range(4):
        error = np.array([a @ shifted(b, k) - (k == 0) for k in shifts])
        rows = [np.r_[shifted(b, k) * (a != 0), shifted(a, -k) * (b != 0)] for k in shifts]
        step = np.linalg.lstsq(np.array(rows), error, rcond=1e-10)[0]
        a, b = a - step[:taps], b - step[taps:]
    return a[::-1].copy(), s_dec * signs * b, b, s_rec * signs * a[::-1]


@cache
def halves(wavelet: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return ((low, high) of the analysis, of the synthesis) of symmetric filters, from the centre outwards."""
    dec_lo, dec_hi, rec_lo, rec_hi = (np.trim_zeros(f).astype(np.float32) for f in filters(wavelet))
    halves = [f[len(f) // 2 :].copy() for f in (dec_lo, dec_hi, rec_lo, rec_hi)]
    return (halves[0], halves[1]), (halves[2], halves[3])


@cache
def check_wavelet(wavelet: str, mode: str) -> None:
    """Raise ValueError for a name that PyWavelets does not have, or filters that cannot be mirrored."""
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise ValueError(f"wavelet is a discrete PyWavelets name such as 'bior4.4'; found {wavelet!r}")
    if mode == "periodization":
        return
    lo, hi = (np.trim_zeros(np.array(f)) for f in pywt.Wavelet(wavelet).filter_bank[:2])
    odd = len(lo) % 2 == 1 and len(hi) % 2 == 1
    if not (odd and np.allclose(lo, lo[::-1]) and np.allclose(hi, hi[::-1])):
        raise ValueError(
            f"mode 'symmetric' needs a symmetric pair of odd-length filters (bior2.2, bior4.4, ...); "
            f"{wavelet!r} has {len(lo)} and {len(hi)} taps"
        )
