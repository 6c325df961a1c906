"""Sound metrics: the only definitions of quality of sound.

Signals are (c, t), float32 in [-1, 1]; every metric is of one recording, all its channels, and means are taken over
recordings. STOI, PESQ and ViSQOL are of the mean of the channels; they come with the extra `eval`, ViSQOL with
visqol-python.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from codomain.codecs.resample import resample
from jaxtyping import Float, Float32
from torch import Tensor

STFT_WINDOWS = (2048, 512)
MEL_BANDS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}  # of each window
FLOOR = 1e-5  # below which logarithms are cut
FRAMES = 4096  # transformed at a time
PESQ_RATE = 16000
VISQOL_RATE = 48000

Signal = Float32[np.ndarray, "c t"]


def snr(x: Signal, x_hat: Signal) -> float:
    """Signal-to-noise ratio of the waveform in dB, over all samples of all channels; infinite where they are equal.

    Raises:
        ValueError: for silence.
    """
    return _ratio(x.astype(np.float64), x_hat.astype(np.float64))


def si_sdr(x: Signal, x_hat: Signal) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 5); higher is better.

    Of the whole recording, not of segments: the mean of every channel is removed, then the channels are one vector with
    one scale, a = <x_hat, x> / <x, x>, and the ratio is that of a x to x_hat - a x.

    Raises:
        ValueError: for silence.
    """
    a, b = (v - v.mean(1, keepdims=True) for v in (x.astype(np.float64), x_hat.astype(np.float64)))
    power = float((a * a).sum())
    scaled = a * (float((a * b).sum()) / power) if power else a
    if power and not scaled.any():
        return -math.inf
    return _ratio(scaled, b)


def stft_distance(x: Signal, x_hat: Signal) -> float:
    """Multi-resolution STFT distance as DAC's (Kumar et al. 2023); 0 is equal.

    Sum over `STFT_WINDOWS`, hop a quarter, of the mean absolute differences of log10(max(|X|^2, `FLOOR`)) and of |X|.

    Raises:
        ValueError: for less than half a window.
    """
    total = 0.0
    for window in STFT_WINDOWS:
        logs = magnitudes = count = 0.0
        for X, X_hat in _spectra(x, x_hat, window):
            logs += _difference(X.square().clamp(min=FLOOR).log10(), X_hat.square().clamp(min=FLOOR).log10())
            magnitudes += _difference(X, X_hat)
            count += X.numel()
        total += (logs + magnitudes) / count
    return total


def mel_distance(x: Signal, x_hat: Signal, sample_rate: int) -> float:
    """Multi-scale mel distance as DAC's (Kumar et al. 2023); 0 is equal.

    Sum over `MEL_BANDS`, hop a quarter, of the mean absolute difference of log10(max(M, `FLOOR`)), M the magnitudes in
    Slaney's bands of unit area from 0 Hz to half the sample rate. The term of magnitudes has weight 0.

    Raises:
        ValueError: for less than half a window.
    """
    total = 0.0
    for window, bands in MEL_BANDS.items():
        matrix = _mel_matrix(window, bands, sample_rate)
        logs = count = 0.0
        for X, X_hat in _spectra(x, x_hat, window):
            M, M_hat = (matrix @ v for v in (X, X_hat))
            logs += _difference(M.clamp(min=FLOOR).log10(), M_hat.clamp(min=FLOOR).log10())
            count += M.numel()
        total += logs / count
    return total


def stoi(x: Signal, x_hat: Signal, sample_rate: int) -> float:
    """Short-time objective intelligibility of speech, 0 to 1 (Taal et al. 2011), as pystoi.

    Raises:
        ValueError: for less than 30 frames of speech.
    """
    from pystoi import stoi as score

    a, b = (v.mean(0, dtype=np.float64) for v in (x, x_hat))
    if not a.any() or len(a) < sample_rate // 2:
        raise ValueError("STOI needs half a second of speech")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # how it says that there are too few frames
        try:
            return float(score(a, b, sample_rate))
        except RuntimeWarning as warning:
            raise ValueError(f"STOI: {warning}") from None


def pesq(x: Signal, x_hat: Signal, sample_rate: int) -> float:
    """Wide-band PESQ of speech, MOS-LQO from 1.04 to 4.64 (ITU-T P.862.2), at 16 kHz, as the package pesq.

    Raises:
        ValueError: for no utterance that it finds, or less than a quarter of a second.
    """
    from pesq import PesqError
    from pesq import pesq as score

    a, b = (resample(v.mean(0, keepdims=True), sample_rate, PESQ_RATE)[0] for v in (x, x_hat))
    if not a.any() or not b.any():
        raise ValueError("PESQ: silence")
    try:
        return float(score(PESQ_RATE, a, b, "wb"))
    except PesqError as error:
        raise ValueError(f"PESQ: {error}") from None


def visqol(x: Signal, x_hat: Signal, sample_rate: int) -> float:
    """ViSQOL in its audio mode, MOS-LQO up to 4.75 (Chinen et al. 2020), at 48 kHz, as visqol-python.

    Raises:
        ValueError: for sound that it cannot compare.
    """
    a, b = (resample(v.mean(0, keepdims=True), sample_rate, VISQOL_RATE)[0].astype(np.float64) for v in (x, x_hat))
    try:
        return float(_visqol().measure_from_arrays(a, b, VISQOL_RATE).moslqo)
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"ViSQOL: {' '.join(str(error).split())}") from None


def available_metrics() -> dict[str, Callable[[Signal, Signal, int], float]]:
    """Return the metrics that this machine can compute; each takes the sample rate too."""
    own: dict[str, Callable[[Signal, Signal, int], float]] = {
        "snr": lambda x, x_hat, _: snr(x, x_hat),
        "si_sdr": lambda x, x_hat, _: si_sdr(x, x_hat),
        "stft": lambda x, x_hat, _: stft_distance(x, x_hat),
        "mel": mel_distance,
    }
    others = {"stoi": ("pystoi", stoi), "pesq": ("pesq", pesq), "visqol": ("visqol", visqol)}
    return own | {key: metric for key, (package, metric) in others.items() if find_spec(package) is not None}


def _ratio(signal: np.ndarray, received: np.ndarray) -> float:
    power, noise = float(np.square(signal).sum()), float(np.square(signal - received).sum())
    if not power:
        raise ValueError("silence has no signal-to-noise ratio")
    return math.inf if noise == 0 else 10 * math.log10(power / noise)


def _spectra(x: Signal, x_hat: Signal, window: int) -> Iterator[tuple[Float[Tensor, "c f n"], Float[Tensor, "c f n"]]]:
    """Yield magnitudes of a periodic Hann window, frames centred, ends reflected; a few thousand frames at a time."""
    hop, half = window // 4, window // 2
    if x.shape[1] <= half:
        raise ValueError(f"a window of {window} needs more than {half} samples; found {x.shape[1]}")
    padded = [torch.nn.functional.pad(torch.from_numpy(v)[None], (half, half), mode="reflect")[0] for v in (x, x_hat)]
    hann = torch.hann_window(window)
    n_frames = 1 + x.shape[1] // hop
    for first in range(0, n_frames, FRAMES):
        last = min(first + FRAMES, n_frames)
        part = slice(first * hop, (last - 1) * hop + window)
        a, b = (
            torch.stft(v[:, part], window, hop, window=hann, center=False, return_complex=True).abs() for v in padded
        )
        yield a, b


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum(dtype=torch.float64))


@cache
def _mel_matrix(window: int, bands: int, sample_rate: int) -> Float[Tensor, "bands f"]:
    from torchaudio.functional import melscale_fbanks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bands narrower than a bin are empty, as DAC's
        matrix = melscale_fbanks(window // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate, "slaney", "slaney")
    transposed: Tensor = matrix.T.contiguous()
    return transposed


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    return api
