"""Sound kind: recordings as contenders are given them, measured, and shown: spectrograms and players side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from codomain.codecs import sound, sound_baselines
from codomain.codecs.kind import (
    Column,
    Kind,
    Metric,
    Row,
    Shown,
    capped,
    distance_db,
    lacking_db,
    to_uri,
)
from codomain.codecs.matched import Scale
from codomain.codecs.waveform import Waveform, find_lag, loudest, read_waveform, write_waveform

BUDGET = 28_000_000  # bytes of the page
EXCERPT_S = 5.0
FINEST_HZ = 48000  # at which Opus counts time


class SoundKind(Kind):
    """Recordings: a `Waveform`, float32; decoded ones are not rounded."""

    name, item, files = "sound", "recording", "sound files"
    suffixes = frozenset(sound.FORMATS.keys() | sound.FOREIGN)
    handed = ".wav"
    rate, rate_axis = Column("kbps", "kbps", 1), "kilobits per second"
    speeds = (Column("encode_x", "encode x real time"), Column("decode_x", "decode x real time"))
    latents = Column("latents_per_sample", "latents/sample")
    metrics = (
        Metric("snr", "SNR dB", 2, capped),
        Metric("si_sdr", "SI-SDR dB", 2, capped),
        Metric("stft", "STFT distance", 3, distance_db),
        Metric("mel", "mel distance", 3, distance_db),
        Metric("stoi", "STOI", 3, lacking_db, needed=False),
        Metric("pesq", "PESQ", 2, float, "MOS", needed=False),
        Metric("visqol", "ViSQOL", 2, float, "MOS", needed=False),
    )
    compared = ("snr", "mel", "stft", "si_sdr", "stoi", "pesq", "visqol")
    anchor = "opus"
    scales: Mapping[str, Scale] = sound_baselines.SCALES
    intervals = True
    shown = 6
    about = (
        "means are over recordings, with the 95 % confidence interval of the mean (Student's t); metrics are of all "
        "channels, clipped to [-1, 1], not rounded; STOI, PESQ (wide band, 16 kHz) and ViSQOL are of their mean; STOI "
        "and PESQ are made for speech; a decoded recording that is late by a sample is an error"
    )
    viewer = "report_sound.html"

    def read(self, path: Path) -> Waveform:
        """See `read_waveform`."""
        return read_waveform(path)

    def save(self, path: Path, x: Waveform) -> None:
        """As WAV of 32-bit floats."""
        write_waveform(path, x)

    def load(self, path: Path) -> Waveform:
        """Invert `save`."""
        return read_waveform(path)

    def compress(self, codec: Any, x: Waveform, quality: float | None, seconds: float | None = None) -> bytes:
        """Return the bytes of a `.cdm` file."""
        import torch

        signal = torch.from_numpy(x.samples)[None]
        data: bytes = codec.compress(signal, quality=quality, depth=16, sample_rate=x.sample_rate)
        return data

    def decompress(self, codec: Any, data: bytes) -> Waveform:
        """Decode; not rounded."""
        from codomain.codecs import bitstream

        sample_rate = bitstream.read(data).header.shape[2]
        return Waveform(np.ascontiguousarray(codec.decompress(data)[0].numpy()), sample_rate)

    def amount(self, x: Waveform) -> float:
        """Seconds."""
        return x.seconds

    def rate_of(self, n_bytes: int, row: Row) -> float:
        """Kilobits per second."""
        from codomain.codecs.metrics import kbps

        return kbps(n_bytes, row["samples"] / row["sample_rate"])

    def measure(self, x: Waveform, x_hat: Waveform) -> Row:
        """Return the metrics of one decoded recording.

        Raises:
            ValueError: if it has another length, rate or number of channels, or is not in time with the original.
        """
        from codomain.codecs.sound_metrics import available_metrics

        decoded = _fitting(x, x_hat)
        lag = find_lag(x, decoded)
        if lag:
            raise ValueError(f"decoded {abs(lag)} samples too {'late' if lag > 0 else 'early'}")
        row: Row = {"channels": len(x.samples), "samples": x.samples.shape[1], "sample_rate": x.sample_rate}
        for key, metric in available_metrics().items():
            try:
                row[key] = round(metric(x.samples, decoded.samples, x.sample_rate), 6)
            except ValueError:
                row[key] = None
        return row

    def lacks(self, row: Row, metrics: Sequence[Metric]) -> str:
        """Say which it is too short or too silent for."""
        seconds = row["samples"] / row["sample_rate"]
        return f"{seconds:.3g} s, too short or silent for {', '.join(metric.title for metric in metrics)}"

    def baseline(self, name: str, quality: float) -> sound_baselines.SoundBaseline:
        """Return Opus, MP3 or Vorbis."""
        return sound_baselines.sound_baseline(name, quality)

    def exhibit(self, name: str, x: Waveform, x_hat: Waveform, data: bytes | None, suffix: str) -> Shown:
        """Return the loudest seconds of one version as FLAC of 16 bits, and their spectrogram."""
        import soundfile
        from codomain.codecs.metrics import kbps
        from codomain.codecs.plots import spectrogram
        from codomain.codecs.sound_metrics import mel_distance, snr

        shown: Shown = {"label": name}
        x_hat = _fitting(x, x_hat)
        if data is not None:
            shown |= {"n_bytes": len(data), "kbps": round(kbps(len(data), x.seconds), 2)}
            quality = snr(x.samples, x_hat.samples)
            shown["snr"] = None if quality == float("inf") else round(quality, 3)  # JSON knows no infinity
            shown["mel"] = round(mel_distance(x.samples, x_hat.samples, x.sample_rate), 4)
        part = x_hat.samples[:, _excerpt(x)]
        out = io.BytesIO()
        soundfile.write(out, part.T, x.sample_rate, format="FLAC", subtype="PCM_16")
        picture = spectrogram(part, x.sample_rate)
        return shown | {"src": to_uri("audio/flac", out.getvalue()), "spectrogram": to_uri("image/webp", picture)}

    def extent(self, x: Waveform) -> Row:
        """Return where the excerpt lies, and the axes of its spectrogram."""
        part = _excerpt(x)
        start, stop = part.start / x.sample_rate, part.stop / x.sample_rate
        return {
            "seconds": round(x.seconds, 3),
            "start": round(start, 3),
            "stop": round(stop, 3),
            "khz": x.sample_rate / 2e3,
        }

    def fitted(self, shown: Sequence[Shown]) -> Sequence[Shown]:
        """Return as many recordings as the page can hold; one at least."""
        total = 0
        kept: list[Shown] = []
        for recording in shown:
            total += sum(len(version["src"]) + len(version["spectrogram"]) for version in recording["versions"])
            if kept and total > BUDGET:
                break
            kept.append(recording)
        return kept


def _fitting(x: Waveform, x_hat: Waveform) -> Waveform:
    """Return the decoded recording, checked, and clipped as a player clips it."""
    samples = x_hat.samples
    n, spare = x.samples.shape[1], ceil(x.sample_rate / FINEST_HZ) - 1  # what a codec cannot know that counts at 48 kHz
    if (x_hat.sample_rate, len(samples)) != (x.sample_rate, len(x.samples)) or not n <= samples.shape[1] <= n + spare:
        raise ValueError(
            f"decoded to {len(samples)} channels of {samples.shape[1]} samples at {x_hat.sample_rate} Hz; "
            f"the recording has {len(x.samples)} of {n} at {x.sample_rate} Hz"
        )
    return Waveform(samples[:, :n].clip(-1, 1), x.sample_rate)


def _excerpt(x: Waveform) -> slice:
    return loudest(x.samples, round(EXCERPT_S * x.sample_rate))
