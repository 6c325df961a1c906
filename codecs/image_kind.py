"""Image kind: pictures as contenders are given them, measured, and shown.

What browsers decode (JPEG, WebP, AVIF) the page shows as it is; the rest is decoded here and shown as lossless WebP, or
at quality `FALLBACK` where the page would grow past `BUDGET`.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from codomain.codecs import baselines
from codomain.codecs.kind import Column, Kind, Metric, Row, Shown, capped, distance_db, lacking_db, to_uri
from codomain.codecs.matched import Scale
from jaxtyping import Shaped, UInt8
from PIL import Image

BUDGET = 56_000_000  # bytes of the page
FALLBACK = 95  # WebP's quality
BROWSERS = {".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Return what every contender is given: 8-bit RGB, upright; deeper samples are rounded, alpha is dropped.

    A .npy file holds it as it is.

    Raises:
        ValueError: if the file is no picture that we can hold.
    """
    if path.suffix == ".npy":
        x: np.ndarray = np.load(path)
        return x
    from codomain.codecs import media

    picture = media.read_image(path.read_bytes())
    pixels = picture.pixels.numpy()
    return np.ascontiguousarray((pixels if picture.depth == 8 else media.to_8_bits(pixels)).transpose(1, 2, 0))


class ImageKind(Kind):
    """Pictures: (h, w, 3), uint8; decoded ones uint8, or float in [0, 255] where the codec does not round."""

    name, item, files = "image", "picture", "images"
    handed = ".npy"
    rate, rate_axis = Column("bpp", "bpp", 3), "bits per pixel"
    speeds = (Column("encode_mpix_s", "encode MPix/s"), Column("decode_mpix_s", "decode MPix/s"))
    latents = Column("latents_per_pixel", "latents/pixel")
    metrics = (
        Metric("psnr", "PSNR dB", 2, capped),
        Metric("psnr_float", "PSNR float", 2, capped, needed=False),
        Metric("ssim", "SSIM", 4, lacking_db),
        Metric("ms_ssim", "MS-SSIM", 4, lacking_db),
        Metric("haarpsi", "HaarPSI", 4, lacking_db),
        Metric("lpips", "LPIPS", 4, distance_db),
        Metric("dists", "DISTS", 4, distance_db),
    )
    compared = ("psnr", "ms_ssim", "haarpsi")
    anchor = "jpeg"
    scales: Mapping[str, Scale] = baselines.SCALES
    about = (
        "means are over pictures, PSNR is the mean of dB; metrics are of 8-bit RGB; PSNR float, where a codec gives "
        "it, is of its samples before rounding"
    )
    viewer = "report_image.html"

    @property
    def suffixes(self) -> frozenset[str]:  # type: ignore[override]
        """Those that are read, and those of other pictures, which fail with a line each."""
        from codomain.codecs import media

        return frozenset(media.FORMATS.keys() | media.FOREIGN)

    def read(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        """See `read_picture`."""
        return read_picture(path)

    def save(self, path: Path, x: Shaped[np.ndarray, "h w 3"]) -> None:
        """As .npy."""
        np.save(path, x)

    def load(self, path: Path) -> Shaped[np.ndarray, "h w 3"]:
        """Invert `save`."""
        x: np.ndarray = np.load(path)
        return x

    def compress(
        self, codec: Any, x: UInt8[np.ndarray, "h w 3"], quality: float | None, seconds: float | None = None
    ) -> bytes:
        """Return the bytes of a `.cdm` file."""
        import torch

        data: bytes = codec.compress(torch.from_numpy(x).permute(2, 0, 1)[None].contiguous(), quality=quality)
        return data

    def decompress(self, codec: Any, data: bytes) -> Shaped[np.ndarray, "h w 3"]:
        """Decode; not rounded, as learned codecs are measured (`measure` rounds for the 8-bit figures)."""
        x_hat = codec.decompress(data)[0].add(1).mul(127.5)
        picture: np.ndarray = x_hat.permute(1, 2, 0).contiguous().numpy()
        return picture

    def amount(self, x: Shaped[np.ndarray, "h w 3"]) -> float:
        """Megapixels."""
        return x.shape[0] * x.shape[1] / 1e6

    def rate_of(self, n_bytes: int, row: Row) -> float:
        """Bits per pixel."""
        from codomain.codecs.metrics import bpp

        return bpp(n_bytes, row["width"], row["height"])

    def measure(self, x: UInt8[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "_ _ 3"]) -> Row:
        """Return the metrics of one decoded picture, as 8-bit RGB; ``psnr_float`` where the codec did not round."""
        from codomain.codecs.metrics import available_metrics, psnr

        if x_hat.shape != x.shape:
            raise ValueError(
                f"decoded to {x_hat.shape[1]} x {x_hat.shape[0]}; the picture is {x.shape[1]} x {x.shape[0]}"
            )
        exact = x_hat.dtype == np.uint8
        rounded = x_hat if exact else x_hat.clip(0, 255).round().astype(np.uint8)
        row: Row = {"width": x.shape[1], "height": x.shape[0]}
        for key, metric in available_metrics().items():
            try:
                row[key] = round(metric(x, rounded, 255.0), 6)
            except ValueError:
                row[key] = None
        row["psnr_float"] = None if exact else round(psnr(x, x_hat, 255.0), 6)
        return row

    def lacks(self, row: Row, metrics: Sequence[Metric]) -> str:
        """Say which it is too small for."""
        return f"{row['width']} x {row['height']} is too small for {', '.join(metric.title for metric in metrics)}"

    def baseline(self, name: str, quality: float) -> baselines.Baseline:
        """Return one of Pillow's codecs."""
        return baselines.baseline(name, quality)

    def exhibit(
        self, name: str, x: UInt8[np.ndarray, "h w 3"], x_hat: Shaped[np.ndarray, "h w 3"], data: bytes | None,
        suffix: str,
    ) -> Shown:  # fmt: skip
        """Return an image, with its bytes and PSNR."""
        from codomain.codecs.metrics import psnr

        x_hat = x_hat.clip(0, 255).round().astype(np.uint8)
        shown: Shown = {"label": name}
        if data is not None:
            shown |= {"n_bytes": len(data), "bpp": round(8 * len(data) / x[..., 0].size, 4)}
            quality = psnr(x, x_hat, 255.0)
            shown["psnr"] = None if quality == float("inf") else round(quality, 3)  # JSON knows no infinity
        if data is not None and suffix in BROWSERS:
            return shown | {"src": to_uri(BROWSERS[suffix], data), "lossless": True, "decoded": False}
        return shown | {"src": _webp(x_hat, lossless=True, quality=20, method=1), "lossless": True, "decoded": True}

    def extent(self, x: Shaped[np.ndarray, "h w 3"]) -> Row:
        """Return the sides."""
        return {"width": x.shape[1], "height": x.shape[0]}

    def fitted(self, shown: Sequence[Shown]) -> Sequence[Shown]:
        """Return all pictures; where the page would be too large, decoded pixels are coded again, and said to be.

        Baselines first, ours last; originals stay.
        """
        total = sum(len(image["src"]) for picture in shown for image in picture["versions"])
        decoded = [
            i for p in shown for i in p["versions"][1:] if i["src"].startswith("data:image/webp") and i["decoded"]
        ]
        for image in sorted(decoded, key=lambda image: "off" not in image):
            if total < BUDGET:
                break
            data = base64.b64decode(image["src"].partition(",")[2])
            with Image.open(io.BytesIO(data)) as opened:
                again = _webp(np.asarray(opened.convert("RGB")), quality=FALLBACK, method=4)
            total += len(again) - len(image["src"])
            image |= {"src": again, "lossless": False}
        return shown

    def exports(self, curves: Mapping[str, Sequence[Row]], data: str) -> dict[str, str]:
        """Return each curve in CompressAI's layout."""
        return {f"compressai/{name}.json": to_compressai(name, curve, data) for name, curve in curves.items()}


def to_compressai(name: str, curve: Sequence[Row], data: str) -> str:
    """Return one curve as JSON in the layout of CompressAI's ``utils.eval_model``, which its plot tool reads.

    The rate is of whole files, headers included; PSNR is the mean of the pictures' 8-bit PSNRs. Times are seconds per
    megapixel, which CompressAI leaves open; without timing they are missing.
    """
    results: dict[str, list[float]] = {
        "psnr-rgb": [p["psnr"] for p in curve],
        "ms-ssim-rgb": [p["ms_ssim"] for p in curve],
        "bpp": [p["bpp"] for p in curve],
    }
    for key, speed in (("encoding_time", "encode_mpix_s"), ("decoding_time", "decode_mpix_s")):
        if all(p.get(speed) for p in curve):
            results[key] = [round(1 / p[speed], 6) for p in curve]
    known = {key: values for key, values in results.items() if None not in values}
    description = f"{name} on {data}: real files, codomain evaluate; times are seconds per megapixel"
    return json.dumps({"name": name, "description": description, "results": known}, indent=2, allow_nan=False) + "\n"


def _webp(x: np.ndarray, **options: Any) -> str:
    out = io.BytesIO()
    Image.fromarray(x).save(out, "WEBP", **options)
    return to_uri("image/webp", out.getvalue())
