"""Waveform: a whole recording in memory, as contenders are given it and as it is compared."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from codomain.codecs.sound import Reader
from jaxtyping import Float32

ALIGNED_S = 20.0  # of the loudest part: as much as tells a delay
LARGEST_LAG_S = 0.25  # more than any codec's delay
MISALIGNED_DB = 1.0  # that another lag must gain: less is chance, of a codec that keeps no waveform


class Waveform(NamedTuple):
    """Samples in [-1, 1], and the sample rate in Hz."""

    samples: Float32[np.ndarray, "c t"]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples.shape[1] / self.sample_rate


def read_waveform(path: Path) -> Waveform:
    """Return what a sound file of `sound.FORMATS` holds.

    Raises:
        ValueError: if it is no sound that we can hold.
    """
    with Reader(path) as reader:
        return Waveform(np.concatenate(list(reader.blocks()), 1), reader.format.sample_rate)


def write_waveform(path: Path, x: Waveform) -> None:
    """Write a WAV file of 32-bit floats, which loses nothing."""
    import soundfile

    soundfile.write(path, x.samples.T, x.sample_rate, format="WAV", subtype="FLOAT")


def loudest(x: Float32[np.ndarray, "c t"], n: int) -> slice:
    """Return where the ``n`` samples of most energy lie; all of a shorter sound."""
    if x.shape[1] <= n:
        return slice(0, x.shape[1])
    energy = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64).sum(0))])
    start = int(np.argmax(energy[n:] - energy[:-n]))
    return slice(start, start + n)


def find_lag(x: Waveform, x_hat: Waveform) -> int:
    """Return by how many samples the decoded sound is late, by cross-correlation; 0 unless another lag fits better.

    Better is: at its best scale, the waveform at that lag has `MISALIGNED_DB` more of signal to noise.
    """
    from scipy.signal import correlate

    part = loudest(x.samples, round(ALIGNED_S * x.sample_rate))
    a, b = (v.samples[:, part].astype(np.float64) for v in (x, x_hat))
    n = a.shape[1]
    reach = min(round(LARGEST_LAG_S * x.sample_rate), n // 2)
    power = float((a**2).sum() * (b**2).sum())
    if power == 0 or reach == 0:
        return 0
    products = sum(correlate(b[c], a[c], method="fft") for c in range(len(a)))
    around = products[n - 1 - reach : n + reach] / np.sqrt(power)
    fit = -10 * np.log10(np.maximum(1 - around**2, 1e-10))
    best = int(np.argmax(fit))
    return best - reach if fit[best] > fit[reach] + MISALIGNED_DB else 0
