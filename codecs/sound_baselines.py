"""Sound baselines: Opus, MP3 and Vorbis as the same kind of thing as ours: a name, a quality, bytes and back.

Opus (libopus) and MP3 (LAME) are FFmpeg's, through PyAV, which has no libvorbis: Vorbis is libsndfile's. Files are Ogg,
and MP3 with the header of LAME, so that a decoder knows what delay and padding to drop. What is decoded has the length
and the rate of the original:

* Opus codes 8, 12, 16, 24 and 48 kHz; other rates are resampled to 48 kHz, and back to the rate that its header names
  as the input's (RFC 7845, 5.1). FFmpeg names its own, so that field is written again, with the checksum of its page.
* MP3 has rates from 8 to 48 kHz, and refuses others. LAME codes about 0.95 times the signal, so that nothing clips: its
  files lack some SNR that they do not lack in SI-SDR.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from codomain.codecs.matched import Scale
from codomain.codecs.resample import resample
from codomain.codecs.waveform import Waveform

SCALES = {
    "opus": Scale(2, 510, 0.1, "kbps that libopus aims at; variable bit rate, frames of 20 ms", is_rate=True),
    "mp3": Scale(8, 320, 1, "kbps that LAME aims at; average bit rate", is_rate=True),
    "vorbis": Scale(0, 10, 0.01, "libvorbis' quality; variable bit rate"),
}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
LARGEST = {"opus": 256}  # kbps of a channel that the encoder admits; more is that
BLOCK = 1 << 16  # samples handed to FFmpeg at a time


@dataclass(frozen=True)
class SoundBaseline:
    """One codec at one quality.

    Attributes:
        name: a key of `SCALES`.
        quality: on the codec's own scale.
    """

    name: str
    quality: float
    kind: str = "sound"
    latents_per_position: float | None = None
    threads: int = 1
    slow: bool = False

    @property
    def suffix(self) -> str:
        """Of its files."""
        return {"opus": ".opus", "mp3": ".mp3", "vorbis": ".ogg"}[self.name]

    @property
    def version(self) -> str:
        """What made the bytes."""
        import av
        import soundfile

        if self.name == "vorbis":
            return f"libsndfile {soundfile.__libsndfile_version__}"
        return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}, {_ENCODERS[self.name]}"

    def compress(self, x: Waveform) -> bytes:
        """Return the bytes of a whole file.

        Raises:
            ValueError: for more than two channels, or a rate that the codec does not have.
        """
        if len(x.samples) > 2:
            raise ValueError(f"{self.name} is tested with 1 or 2 channels; found {len(x.samples)}")
        if self.name == "vorbis":
            return self._compress_vorbis(x)
        if self.name == "mp3":
            if x.sample_rate not in MP3_RATES:
                raise ValueError(f"MP3 has the rates {', '.join(map(str, MP3_RATES))} Hz; found {x.sample_rate}")
            return self._compress(x, "mp3", {"id3v2_version": "0"}, {"abr": "1"})
        coded = x.sample_rate if x.sample_rate in OPUS_RATES else 48000
        data = self._compress(Waveform(resample(x.samples, x.sample_rate, coded), coded), "ogg", {}, {})
        return _with_rate(data, x.sample_rate)

    def decompress(self, data: bytes) -> Waveform:
        """Decode a file: not rounded, without delay and padding."""
        if self.name == "vorbis":
            import soundfile

            samples, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
            return Waveform(np.ascontiguousarray(samples.T), sample_rate)
        import av

        with av.open(io.BytesIO(data), "r") as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
            decoded = container.streams.audio[0].codec_context.sample_rate
        samples = np.concatenate(frames, 1)
        if self.name == "mp3":
            return Waveform(samples, decoded)
        rate = struct.unpack_from("<I", data, _OPUS_RATE_AT)[0]
        original = samples.shape[1] * rate // decoded  # the length at 48 kHz was rounded up
        return Waveform(np.ascontiguousarray(resample(samples, decoded, rate)[:, :original]), rate)

    def _compress(self, x: Waveform, format: str, container: dict[str, str], options: dict[str, str]) -> bytes:
        import av

        out = io.BytesIO()
        with av.open(out, "w", format=format, options={"fflags": "+bitexact", **container}) as file:  # no random serial
            layout = "mono" if len(x.samples) == 1 else "stereo"
            stream: Any = file.add_stream(_ENCODERS[self.name], rate=x.sample_rate, layout=layout, options=options)
            stream.bit_rate = round(1000 * min(self.quality, LARGEST.get(self.name, self.quality) * len(x.samples)))
            packed = self.name == "opus"
            stream.codec_context.format = "flt" if packed else "fltp"
            for start in range(0, x.samples.shape[1], BLOCK):
                part = x.samples[:, start : start + BLOCK]
                frame: Any = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(part.T.reshape(1, -1) if packed else part),
                    format=stream.codec_context.format.name, layout=layout,
                )  # fmt: skip
                frame.sample_rate, frame.pts, frame.time_base = x.sample_rate, start, Fraction(1, x.sample_rate)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return out.getvalue()

    def _compress_vorbis(self, x: Waveform) -> bytes:
        import soundfile

        out = io.BytesIO()
        level = 1 - self.quality / 10  # libsndfile counts the other way
        with soundfile.SoundFile(
            out, "w", x.sample_rate, len(x.samples), format="OGG", subtype="VORBIS", compression_level=level
        ) as file:
            for start in range(0, x.samples.shape[1], BLOCK):  # libvorbis' stack does not take all at once
                file.write(x.samples[:, start : start + BLOCK].T)
        return out.getvalue()


def sound_baseline(name: str, quality: float) -> SoundBaseline:
    """Return one of `SCALES`.

    Raises:
        ValueError: if it is not installed.
    """
    if not is_installed(name):
        raise ValueError(f"'{name}:{quality:g}': {name} is not installed ({SCALES[name].meaning})")
    return SoundBaseline(name, quality)


@cache
def is_installed(name: str) -> bool:
    """Whether this machine's PyAV or libsndfile has the encoder."""
    if name == "vorbis":
        import soundfile

        return "VORBIS" in soundfile.available_subtypes("OGG")
    import av

    return _ENCODERS[name] in av.codecs_available


_ENCODERS = {"opus": "libopus", "mp3": "libmp3lame"}
_OPUS_RATE_AT = 28 + 12  # an Ogg page of one segment, then OpusHead up to the input's sample rate
_CRC_AT = 22


def _with_rate(data: bytes, rate: int) -> bytes:
    """Write the input's sample rate into an Ogg Opus file."""
    assert data[28:36] == b"OpusHead" and data[26] == 1
    end = 28 + data[27]
    page = bytearray(data[:end])
    page[_OPUS_RATE_AT : _OPUS_RATE_AT + 4] = struct.pack("<I", rate)
    page[_CRC_AT : _CRC_AT + 4] = bytes(4)
    page[_CRC_AT : _CRC_AT + 4] = struct.pack("<I", _ogg_crc(bytes(page)))
    return bytes(page) + data[end:]


def _ogg_crc(page: bytes) -> int:
    """Checksum of a page: polynomial 0x04c11db7, nothing reflected (RFC 3533, 6)."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc
