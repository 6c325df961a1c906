"""Video kind: clips as contenders are given them, measured, and shown: two players in step, one over the other.

What browsers play (H.264 and AV1 in MP4) the page shows as it is; the rest is decoded here and shown through H.264 at
the first of the qualities `FALLBACKS` that fits into `VERSION`, which the page says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from codomain.codecs import video_baselines
from codomain.codecs.footage import Footage, read_footage, write_footage
from codomain.codecs.kind import BEST, Column, Kind, Metric, Row, Shown, capped, lacking_db, to_uri
from codomain.codecs.matched import Scale

BUDGET = 56_000_000  # bytes of the page
VERSION = 6_000_000  # bytes of one version of a clip, where it is coded for the page
FALLBACKS = (8, 14, 20, 26, 32, 38)  # CRF of x264
BROWSERS = ("h264", "av1")


class VideoKind(Kind):
    """Clips: a `Footage` of 8-bit RGB, also where a codec does not round: what a player shows is measured."""

    name, item, files = "video", "clip", "videos"
    handed = ".npz"
    rate, rate_axis = Column("bpp", "bpp", 4), "bits per pixel"
    speeds = (Column("encode_fps", "encode fps"), Column("decode_fps", "decode fps"))
    fits = True
    latents = None
    sizes = (Column("n_bytes", "bytes", 0), Column("stream_bytes", "stream bytes", 0))
    metrics = (
        Metric("psnr", "PSNR dB", 2, capped),
        Metric("psnr_y", "PSNR Y dB", 2, capped),
        Metric("ms_ssim", "MS-SSIM", 4, lacking_db, needed=False),
    )
    compared = ("psnr", "psnr_y", "ms_ssim")
    anchor = "x264"
    scales: Mapping[str, Scale] = video_baselines.SCALES
    shown = 6
    about = (
        "means are over clips, of means over frames of dB and of MS-SSIM of 8-bit RGB; Y is the luma of BT.601; "
        "MS-SSIM is of five scales, of clips under 161 pixels on the short side of fewer: points.csv says of how many; "
        "stream bytes are those without the container"
    )
    viewer = "report_video.html"

    @property
    def suffixes(self) -> frozenset[str]:  # type: ignore[override]
        """Those that are read, and those of other films, which fail with a line each."""
        from codomain.codecs import video

        return frozenset(video.FORMATS.keys() | video.FOREIGN)

    @property
    def costs(self) -> tuple[Column, ...]:
        """CPU time of encoding too: networks use all cores, the baselines one."""
        encode, decode, *others = super().costs
        return (encode, Column("encode_cpu_s", "encode CPU s"), decode, *others)

    def read(self, path: Path) -> Footage:
        """See `read_footage`."""
        return read_footage(path)

    def save(self, path: Path, x: Footage) -> None:
        """As .npz."""
        write_footage(path, x)

    def load(self, path: Path) -> Footage:
        """Invert `save`."""
        return read_footage(path)

    def compress(self, codec: Any, x: Footage, quality: float | None, seconds: float | None = None) -> bytes:
        """Return the bytes of a `.cdm` file."""
        import torch

        pixels = torch.from_numpy(x.pixels).movedim(-1, 1)[None].contiguous()
        how: dict[str, Any] = {"quality": quality}
        if seconds is not None:
            how = {"settings": replace(codec.settings(x.pixels.shape[:3], quality), seconds=seconds)}
        data: bytes = codec.compress(pixels, **how, rate=x.rate)
        return data

    def decompress(self, codec: Any, data: bytes) -> Footage:
        """Decode, and round."""
        from codomain.codecs import bitstream

        x_hat = codec.decompress(data)[0]
        pixels = np.empty((len(x_hat), *x_hat.shape[2:], 3), np.uint8)
        for i, frame in enumerate(x_hat):  # frame by frame: a clip of floats is large
            pixels[i] = frame.add(1).mul(127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
        return Footage(pixels, Fraction(*bitstream.read(data).header.shape[3:]))

    def amount(self, x: Footage) -> float:
        """Frames."""
        return float(len(x.pixels))

    def rate_of(self, n_bytes: int, row: Row) -> float:
        """Bits per pixel."""
        from codomain.codecs.metrics import bpp

        return bpp(n_bytes, row["width"], row["height"] * row["frames"])

    def sizes_of(self, data: bytes) -> Row:
        """Return the bytes of the stream in an MP4 file; a `.cdm` file has no container to speak of."""
        return {"stream_bytes": video_baselines.stream_bytes(data) if _is_mp4(data) else None}

    def measure(self, x: Footage, x_hat: Footage) -> Row:
        """Return the metrics of one decoded clip, and the number of scales that MS-SSIM is of."""
        from codomain.codecs.metrics import ms_ssim_scales
        from codomain.codecs.video_metrics import VIDEO_METRICS

        _check_size(x, x_hat)
        frames, height, width, _ = x.pixels.shape
        row: Row = {"width": width, "height": height, "frames": frames}
        for key, metric in VIDEO_METRICS.items():
            try:
                row[key] = round(metric(x.pixels, x_hat.pixels), 6)
            except ValueError:
                row[key] = None
        return row | {"ms_ssim_scales": ms_ssim_scales(height, width)}

    def lacks(self, row: Row, metrics: Sequence[Metric]) -> str:
        """Say which it is too small for."""
        return f"{row['width']} x {row['height']} is too small for {', '.join(metric.title for metric in metrics)}"

    def baseline(self, name: str, quality: float) -> video_baselines.VideoBaseline:
        """Return x264, x265 or SVT-AV1."""
        return video_baselines.video_baseline(name, quality)

    def exhibit(self, name: str, x: Footage, x_hat: Footage, data: bytes | None, suffix: str) -> Shown:
        """Return an MP4 file, with its bytes and PSNR; ``crf`` where it was coded for the page."""
        from codomain.codecs.metrics import bpp
        from codomain.codecs.video_metrics import rgb_psnr

        _check_size(x, x_hat)
        frames, height, width, _ = x.pixels.shape
        shown: Shown = {"label": name}
        if data is not None:
            shown |= {"n_bytes": len(data), "bpp": round(bpp(len(data), width, height * frames), 5)}
            quality = rgb_psnr(x.pixels, x_hat.pixels)
            shown["psnr"] = None if quality == BEST else round(quality, 3)
            if _is_mp4(data) and video_baselines.codec_of(data) in BROWSERS:
                return shown | {"src": to_uri("video/mp4", data), "crf": None}
        return shown | _coded_for_page(x_hat)

    def extent(self, x: Footage) -> Row:
        """Return the sides, the number of frames, and their rate."""
        frames, height, width, _ = x.pixels.shape
        return {"width": width, "height": height, "frames": frames, "fps": float(x.rate)}

    def fitted(self, shown: Sequence[Shown]) -> Sequence[Shown]:
        """Return as many clips as the page can hold; one at least."""
        total = 0
        kept: list[Shown] = []
        for clip in shown:
            total += sum(len(version["src"]) for version in clip["versions"])
            if kept and total > BUDGET:
                break
            kept.append(clip)
        return kept


def _coded_for_page(x: Footage) -> Shown:
    """Return frames as H.264 with a key frame every half second, so that the page's slider follows the hand."""
    height, width = x.pixels.shape[1:3]
    even = Footage(np.pad(x.pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge"), x.rate)
    keys = max(1, round(x.rate / 2))
    for crf in FALLBACKS:
        options = {"preset": "fast", "crf": str(crf), "x264-params": f"keyint={keys}"}
        data = video_baselines.write_mp4(even, "libx264", options)
        if len(data) <= VERSION:
            break
    return {"src": to_uri("video/mp4", data), "crf": crf}


def _is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def _check_size(x: Footage, x_hat: Footage) -> None:
    """Check that a decoded clip has the original's size.

    Raises:
        ValueError: if not.
    """
    (f, h, w, _), (f_hat, h_hat, w_hat, _) = x.pixels.shape, x_hat.pixels.shape
    if (f, h, w) != (f_hat, h_hat, w_hat):
        raise ValueError(f"decoded to {f_hat} frames of {w_hat} x {h_hat}; the clip has {f} of {w} x {h}")
