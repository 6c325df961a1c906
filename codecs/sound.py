"""Sound: sound files <-> blocks of samples in [-1, 1]. Nothing here knows a codec."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aif": "AIFF",
    ".aiff": "AIFF", ".aifc": "AIFF",
}  # fmt: skip
WRITTEN = {".wav": "WAV", ".flac": "FLAC"}
FOREIGN = {".m4a", ".aac", ".wma", ".mka", ".ape", ".wv", ".amr", ".mid", ".midi"}
DEPTHS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}
LOSSY_DEPTH = 16  # what a lossy source is written back at
MAX_CHANNELS = 8
RATES = (1000, 768_000)  # Hz
BLOCK = 1 << 16  # sample frames read at a time


@dataclass(frozen=True)
class Format:
    """What a sound file says of itself.

    Attributes:
        channels: 1 to `MAX_CHANNELS`.
        samples: of each channel.
        sample_rate: Hz, within `RATES`.
        depth: bits per sample.
        is_float: whether the samples are floating-point numbers.
    """

    channels: int
    samples: int
    sample_rate: int
    depth: int = 16
    is_float: bool = False

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate


class Reader:
    """An open sound file: its format, and its samples once, block by block.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        ValueError: one line that says why it is no sound that we can hold.
    """

    def __init__(self, source: Path | bytes) -> None:
        import soundfile

        self._failures = (soundfile.SoundFileError, RuntimeError, OSError)
        try:
            self._file: Any = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        except self._failures as error:
            if isinstance(source, Path) and not source.exists():
                raise ValueError(f"{source}: no such file") from None
            reason = _reason(error)
            if "not exist" in reason:  # which libsndfile says of a file without a beginning that it knows
                reason = "it begins like none of " + ", ".join(sorted(set(FORMATS.values())))
            raise ValueError(f"not a sound file that can be read ({reason})") from None
        file = self._file
        depth = DEPTHS.get(file.subtype, LOSSY_DEPTH)
        self.format = Format(file.channels, file.frames, file.samplerate, depth, file.subtype in ("FLOAT", "DOUBLE"))
        fault = self._fault()
        if fault:
            file.close()
            raise ValueError(fault)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def blocks(self) -> Iterator[Float[np.ndarray, "c _"]]:
        """Yield all samples; those beyond full scale, which only floating-point files hold, are clipped.

        Raises:
            ValueError: if the file ends early or is damaged, or holds NaN or infinity.
        """
        done = 0
        while done < self.format.samples:
            try:
                block = self._file.read(min(BLOCK, self.format.samples - done), dtype="float32", always_2d=True)
            except self._failures as error:
                raise ValueError(f"damaged after {done} of {self.format.samples} samples ({_reason(error)})") from None
            if not len(block):
                raise ValueError(f"ends after {done} of {self.format.samples} samples")
            if not np.isfinite(block).all():
                raise ValueError(f"expected finite samples; found NaN or infinity after sample {done}")
            done += len(block)
            yield np.ascontiguousarray(np.clip(block, -1, 1).T)

    def _fault(self) -> str | None:
        found, file = self.format, self._file
        if file.format not in FORMATS.values() and file.format not in ("WAVEX", "RF64"):
            return f"expected one of {', '.join(sorted(set(FORMATS.values())))}; found {file.format}"
        if not 1 <= found.channels <= MAX_CHANNELS:
            return f"{found.channels} channels; expected 1 to {MAX_CHANNELS}"
        if not RATES[0] <= found.sample_rate <= RATES[1]:
            return f"a sample rate of {found.sample_rate} Hz; expected {RATES[0]} to {RATES[1]}"
        if found.samples < 1:
            return "it holds no samples"
        cut = re.search(r"(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", file.extra_info)
        if cut and int(cut[1]) > int(cut[2]) and int(cut[1]) < 0xFFFFFFFF - 8:  # which a stream writes for "unknown"
            return f"it ends early: its header announces {cut[1]} bytes of samples, and it holds {cut[2]}"
        if "Ogg: Junk after the last page" in file.extra_info:
            return f"it ends early: its last page, after {found.samples} samples, is not whole"
        return None


def write_sound(
    target: Path | io.BytesIO, blocks: Iterable[Float[np.ndarray, "c _"]], form: Format, suffix: str
) -> None:
    """Write a WAV or FLAC file, block by block; samples are rounded to the depth of the format.

    Floating-point samples stay so in WAV; FLAC holds integers of up to 24 bits. A WAV beyond 4 GiB is an RF64.

    Raises:
        ValueError: if ``suffix`` names no format that is written, or the format cannot hold such sound.
    """
    import soundfile

    kind = written_format(suffix)
    depth = form.depth if kind == "WAV" else min(form.depth, 24)
    if kind == "WAV" and form.channels * form.samples * -(-depth // 8) > 0xFFFF0000:
        kind = "RF64"
    is_float = form.is_float and kind != "FLAC"
    subtype = {8: "PCM_S8" if kind == "FLAC" else "PCM_U8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_32"}.get(depth)
    if is_float or subtype is None:
        subtype = "DOUBLE" if depth > 32 else "FLOAT"
    try:
        file = soundfile.SoundFile(target, "w", form.sample_rate, form.channels, subtype, format=kind)
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"{kind} cannot hold {form.channels} channels of {depth} bits at {form.sample_rate} Hz ({_reason(error)})"
        ) from None
    with file:
        for block in blocks:
            file.write(block.T if subtype in ("FLOAT", "DOUBLE") else to_integers(block, depth).T)


def to_integers(x: Float[np.ndarray, "*shape"], depth: int) -> np.ndarray:
    """Round samples in [-1, 1] to integers of ``depth`` bits, in the upper bits of int16 or int32."""
    wide = 16 if depth <= 16 else 32
    scale = 2.0 ** (depth - 1)
    rounded = np.clip(np.rint(x.astype(np.float64) * scale), -scale, scale - 1).astype(np.int64)
    samples: np.ndarray = (rounded << (wide - depth)).astype(np.int16 if wide == 16 else np.int32)
    return samples


def written_format(suffix: str) -> str:
    """Return the format that a suffix names.

    Raises:
        ValueError: if it is none that is written.
    """
    try:
        return WRITTEN[suffix.lower()]
    except KeyError:
        raise ValueError(f"{suffix or 'no suffix'}: sound is written as one of {' '.join(WRITTEN)}") from None


def is_sound(data: bytes | memoryview) -> bool:
    """Whether the first bytes of a file are those of a sound file of `FORMATS`."""
    head = bytes(data[:12])
    riff = head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"
    aiff = head[:4] == b"FORM" and head[8:11] == b"AIF"
    mp3 = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6))
    return riff or aiff or mp3 or head[:4] in (b"fLaC", b"OggS")


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(str(text).split()).rstrip(".")
