"""Resample: sound from one rate to another, any part of it for itself, with the same bits as the whole.

A windowed sinc at a rational ratio, evaluated in float64 in one order, so a sample does not depend on where the
part begins. Source: Smith, "Digital Audio Resampling", CCRMA 2002; the window is Kaiser's.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil, gcd

import numpy as np
from jaxtyping import Float

HALF = 64  # periods of the lower rate that the filter reaches to either side
KAISER = 10.0  # beta of the window: a stop band of 100 dB, which with that reach begins at the lower Nyquist frequency
STEP = 1 << 16  # taps computed at a time
CUTOFF = 0.95  # of it: the middle of the transition; below 0.9 all is flat


class Resampler:
    """From ``source`` to ``target`` samples a second; output sample m lies at input position m * source / target.

    Raises:
        ValueError: if a rate is not positive.
    """

    def __init__(self, source: int, target: int) -> None:
        if source < 1 or target < 1:
            raise ValueError(f"sample rates are positive; found {source} and {target} Hz")
        common = gcd(source, target)
        self.up, self.down = target // common, source // common

    @property
    def reach(self) -> int:
        """How many input samples on either side an output sample looks at."""
        return 0 if self.up == self.down else ceil(self._half / self.up) + 1

    @property
    def _half(self) -> int:
        return HALF * max(self.up, self.down)

    @cached_property
    def _taps(self) -> Float[np.ndarray, " taps"]:
        """The low-pass at ``up`` times the source's rate: of rates with no common divisor, tens of millions of taps."""
        cutoff, half = CUTOFF / max(self.up, self.down), self._half
        taps = np.empty(2 * half + 1)
        for start in range(0, half + 1, STEP):
            n = np.arange(start, min(start + STEP, half + 1))
            window = np.i0(KAISER * np.sqrt(1 - (n / half) ** 2)) / np.i0(KAISER)
            taps[half + n] = self.up * cutoff * np.sinc(cutoff * n) * window
        taps[:half] = taps[:half:-1]
        return taps

    def length(self, samples: int) -> int:
        """Return how many output samples so many input samples become."""
        return -(-samples * self.up // self.down)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input samples [first, last) that the output samples [start, stop) depend on; first may be < 0."""
        first, last = start * self.down // self.up, (stop - 1) * self.down // self.up + 1
        return first - self.reach, last + self.reach

    def __call__(self, x: Float[np.ndarray, "c n"], at: int, start: int, stop: int) -> Float[np.ndarray, "c m"]:
        """Return output samples [start, stop).

        Args:
            x: the input from sample ``at`` on; outside it there is silence.
            at: where ``x`` starts.
            start, stop: of the output.
        """
        if self.up == self.down:
            return x[:, start - at : stop - at]
        from scipy.signal import upfirdn

        first, last = self.needs(start, stop)
        first -= first % self.down  # there, an output sample lies on an input sample
        part = np.zeros((len(x), last - first), np.float64)
        low, high = max(first, at), min(last, at + x.shape[1])
        part[:, low - first : high - first] = x[:, low - at : high - at]
        # output sample k of upfirdn lies `_half` fine positions early; shift by whole output samples
        lead = -(-self._half // self.down)
        taps = np.pad(self._taps, (lead * self.down - self._half, 0))
        y = upfirdn(taps, part, self.up, self.down)
        skip = lead + start - first * self.up // self.down
        result: np.ndarray = y[:, skip : skip + stop - start].astype(np.float32)
        return result


def resample(x: Float[np.ndarray, "c t"], source: int, target: int) -> Float[np.ndarray, "c _"]:
    """Return the whole of a sound at another rate, ceil(t * target / source) samples; sample 0 stays where it is."""
    if source == target:
        return x
    resampler = Resampler(source, target)
    return resampler(x, 0, 0, resampler.length(x.shape[1]))
