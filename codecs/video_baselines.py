"""Video baselines: x264, x265 and SVT-AV1 as the same kind of thing as ours: a name, a quality, bytes and back.

They are FFmpeg's, through PyAV. A file is MP4 with one key frame at its start, and others only where the encoder sees a
cut; every encoder runs in one thread, so that the figures of all are comparable. Each is there as it is tuned of its
own accord, for the eye, and as NAME-psnr, tuned for what is measured here; SVT-AV1 is tuned for PSNR of its own accord,
so it is there once. x264-psnr-gop1s has a key frame every second too: what players need to find a place quickly, as
they do in files of networks, of which every frame is a key frame.

Pixels go to YUV 4:2:0 of 8 bits in limited range, and back, by swscale, as in the files that people make (`colour.py`).
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from codomain.codecs import colour
from codomain.codecs.footage import Footage
from codomain.codecs.matched import Scale

SCALES = {
    "x264": Scale(51, 1, -0.1, "CRF of x264, preset veryslow"),
    "x264-psnr": Scale(51, 1, -0.1, "CRF of x264, preset veryslow, tune psnr"),
    "x264-psnr-gop1s": Scale(51, 1, -0.1, "CRF of x264, preset veryslow, tune psnr, a key frame every second"),
    "x265": Scale(51, 1, -0.1, "CRF of x265, preset slow"),
    "x265-psnr": Scale(51, 1, -0.1, "CRF of x265, preset slow, tune psnr"),
    "svtav1": Scale(63, 1, -1, "CRF of SVT-AV1, preset 6, tune psnr"),
}
EVEN = ("x264", "x265")  # whose sides are even in 4:2:0
X265_SIDE = 64  # at least: x265 writes past the buffers of some sizes below


@dataclass(frozen=True)
class VideoBaseline:
    """One encoder at one CRF.

    Attributes:
        name: a key of `SCALES`.
        quality: the CRF; the lower, the better.
    """

    name: str
    quality: float
    kind: str = "video"
    latents_per_position: float | None = None
    threads: int = 1
    slow: bool = True
    suffix: str = ".mp4"

    @property
    def version(self) -> str:
        """What made the bytes."""
        import av

        return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}, {_encoder(self.name)}"

    def compress(self, x: Footage) -> bytes:
        """Return the bytes of a whole file.

        Raises:
            ValueError: for a size that the encoder does not take.
        """
        height, width = x.pixels.shape[1:3]
        codec = self.name.partition("-")[0]
        if codec in EVEN and (height % 2 or width % 2):
            raise ValueError(f"{self.name} codes even sides in 4:2:0; found {width} x {height}")
        if codec == "x265" and min(height, width) < X265_SIDE:
            raise ValueError(f"{self.name} is tested from {X265_SIDE} x {X265_SIDE} on; found {width} x {height}")
        return write_mp4(x, _encoder(self.name), _options(self.name, self.quality, x.rate))

    def decompress(self, data: bytes) -> Footage:
        """Decode a file."""
        return read_mp4(data)


def video_baseline(name: str, quality: float) -> VideoBaseline:
    """Return one of `SCALES`.

    Raises:
        ValueError: if it is not installed.
    """
    if not is_installed(name):
        raise ValueError(f"'{name}:{quality:g}': {name} is not installed ({SCALES[name].meaning})")
    return VideoBaseline(name, quality)


@cache
def is_installed(name: str) -> bool:
    """Whether this machine's PyAV has the encoder."""
    import av

    return _encoder(name) in av.codecs_available


def write_mp4(x: Footage, encoder: str, options: dict[str, str]) -> bytes:
    """Return frames as a file.

    Args:
        x: the frames.
        encoder: FFmpeg's name of it.
        options: of the encoder.

    Raises:
        ValueError: if it refuses them.
    """
    import av

    os.environ.setdefault("SVT_LOG", "1")  # errors alone: SVT-AV1 takes no such option, and says 20 lines of each file
    out = io.BytesIO()
    try:
        with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as file:  # no name of the muxer inside
            stream: Any = file.add_stream(encoder, rate=x.rate, options=options)
            stream.height, stream.width = x.pixels.shape[1:3]
            stream.pix_fmt, stream.time_base = "yuv420p", 1 / x.rate
            context = stream.codec_context
            context.thread_count, context.time_base = 1, 1 / x.rate
            context.colorspace, context.color_range = colour.matrix_of(stream.width, stream.height), colour.LIMITED
            for i, picture in enumerate(x.pixels):
                frame = colour.from_rgb(picture, "yuv420p")
                frame.pts, frame.time_base = i, 1 / x.rate
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    except (av.error.FFmpegError, OSError) as error:
        height, width = x.pixels.shape[1:3]
        raise ValueError(f"{encoder} takes no {len(x.pixels)} frames of {width} x {height}: {error}") from None
    return out.getvalue()


def read_mp4(data: bytes) -> Footage:
    """Return the frames of a file that `write_mp4` wrote."""
    import av

    with av.open(io.BytesIO(data), "r") as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        rate = stream.average_rate
        frames = [colour.to_rgb(frame) for frame in file.decode(stream)]
    return Footage(np.stack(frames), Fraction(rate or 1))


def stream_bytes(data: bytes) -> int:
    """Return the bytes of the coded pictures of a file: what is left of it without the container."""
    import av

    with av.open(io.BytesIO(data), "r") as file:
        return sum(packet.size for packet in file.demux(video=0))


def codec_of(data: bytes) -> str:
    """Return FFmpeg's name of the codec in a file: "h264", "hevc", "av1"."""
    import av

    with av.open(io.BytesIO(data), "r") as file:
        return str(file.streams.video[0].codec_context.codec.canonical_name)


def _encoder(name: str) -> str:
    return {"x264": "libx264", "x265": "libx265", "svtav1": "libsvtav1"}[name.partition("-")[0]]


def _options(name: str, quality: float, rate: Fraction) -> dict[str, str]:
    codec, *forms = name.split("-")
    options = {"crf": f"{quality:g}"} | ({"tune": "psnr"} if "psnr" in forms else {})
    if codec == "x264":
        keys = max(1, round(rate)) if "gop1s" in forms else "infinite"
        return options | {"preset": "veryslow", "x264-params": f"keyint={keys}"}
    if codec == "x265":  # info: else every file holds 2 kB about settings
        settings = "keyint=-1:pools=none:frame-threads=1:info=0:log-level=none"
        return options | {"preset": "slow", "x265-params": settings}
    return options | {"preset": "6", "svtav1-params": "keyint=-1:lp=1:tune=1"}
