"""Baselines: other people's image codecs, as the same kind of thing as ours: a name, a quality, bytes and back.

Written as "jpeg:30": the codec, and its own scale of quality.
"""

from __future__ import annotations

import importlib.util
import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from codomain.codecs.matched import Scale
from jaxtyping import UInt8
from PIL import Image


@dataclass(frozen=True)
class Baseline:
    """One codec of Pillow at one quality.

    Attributes:
        name: a key of `SCALES`.
        quality: on the codec's own scale.
    """

    name: str
    quality: int
    kind: str = "image"
    latents_per_position: float | None = None
    slow: bool = False

    @property
    def suffix(self) -> str:
        """Of its files."""
        return {"jpeg": ".jpg", "jpeg2000": ".jp2"}.get(self.name, f".{self.name}")

    @property
    def threads(self) -> int:
        """One, but for the encoders of AVIF and JPEG XL, which take every core."""
        return os.cpu_count() or 1 if self.name in ("avif", "jxl") else 1

    @property
    def version(self) -> str:
        """What made the bytes."""
        from PIL import __version__, features

        feature = _FEATURES.get(self.name)
        return f"Pillow {__version__}, {self.name} {features.version(feature) if feature else ''}".strip()

    def compress(self, x: UInt8[np.ndarray, "h w 3"]) -> bytes:
        """Return the bytes of a whole file."""
        out = io.BytesIO()
        Image.fromarray(x).save(out, **_options(self.name, self.quality))
        return out.getvalue()

    def decompress(self, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
        """Decode a file; all of it, which Pillow leaves until the pixels are read."""
        if self.name == "jxl":
            import pillow_jxl  # noqa: F401  registers its format

        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))


SCALES = {
    "jpeg": Scale(1, 95, 1, "libjpeg's quality; 4:2:0, optimized Huffman tables"),
    "webp": Scale(0, 100, 1, "libwebp's quality; lossy, method 4"),
    "avif": Scale(0, 100, 1, "libavif's quality; 4:2:0, speed 6"),
    "jpeg2000": Scale(5, 800, 1, "hundredths of a bit per pixel that OpenJPEG aims at; 9/7 wavelet, irreversible"),
    "jxl": Scale(0, 100, 1, "libjxl's quality; effort 7; needs pillow-jxl-plugin"),
}


_FEATURES = {"jpeg": "jpg", "webp": "webp", "avif": "avif", "jpeg2000": "jpg_2000"}  # as Pillow calls them


def baseline(name: str, quality: float) -> Baseline:
    """Return one of `SCALES`.

    Raises:
        ValueError: if it is not installed.
    """
    if not is_installed(name):
        raise ValueError(f"'{name}:{quality:g}': {name} is not installed ({SCALES[name].meaning})")
    return Baseline(name, int(quality))


def is_installed(name: str) -> bool:
    """Whether this machine's Pillow has the codec."""
    from PIL import features

    if name == "jxl":
        return importlib.util.find_spec("pillow_jxl") is not None
    return bool(features.check(_FEATURES[name]))


def _options(name: str, quality: int) -> dict[str, Any]:
    if name == "jpeg":
        return {"format": "JPEG", "quality": quality, "subsampling": 2, "optimize": True}
    if name == "webp":
        return {"format": "WEBP", "quality": quality, "method": 4}
    if name == "avif":
        return {"format": "AVIF", "quality": quality, "speed": 6, "subsampling": "4:2:0"}
    if name == "jpeg2000":
        ratio = 24 / (quality / 100)  # of the samples' bits
        return {"format": "JPEG2000", "irreversible": True, "quality_mode": "rates", "quality_layers": [ratio]}
    import pillow_jxl  # noqa: F401  registers its format

    return {"format": "JXL", "quality": quality, "effort": 7}
