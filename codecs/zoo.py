"""Zoo: CompressAI's trained models as baselines, with the bytes of a file and not an estimate.

Their weights come from CompressAI's own downloads and are used only where they are on disk already: nothing here
opens a connection.

A file is: width and height (uint16), rows and columns of the innermost latents (uint16), then for each string its
length (uint32) and its bytes; all little-endian.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

MULTIPLE = 64  # sides that every model of the zoo takes


@dataclass(frozen=True)
class ZooModel:
    """One of `compressai.zoo.image_models`, trained for mean square error.

    Attributes:
        name: of the architecture.
        quality: 1 to 6 or 8, another set of weights each.
    """

    name: str
    quality: int
    kind: str = "image"
    latents_per_position: float | None = None
    suffix: str = ".bin"
    slow: bool = False

    @property
    def version(self) -> str:
        """What made the bytes."""
        return weights_path(self.name, self.quality).name

    @property
    def threads(self) -> int:
        """Torch's."""
        return torch.get_num_threads()

    def compress(self, x: UInt8[np.ndarray, "h w 3"]) -> bytes:
        """Return the bytes of a whole file."""
        height, width = x.shape[:2]
        signal = torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255
        signal = F.pad(signal, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
        with torch.inference_mode():
            coded = _model(self.name, self.quality).compress(signal)
        out = struct.pack("<4H", width, height, *coded["shape"])
        for (string,) in coded["strings"]:
            out += struct.pack("<I", len(string)) + string
        return out

    def decompress(self, data: bytes) -> Float[np.ndarray, "h w 3"]:
        """Decode a file; samples in [0, 255], not rounded."""
        width, height, *shape = struct.unpack_from("<4H", data)
        strings, at = [], 8
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            strings.append([data[at + 4 : at + 4 + length]])
            at += 4 + length
        with torch.inference_mode():
            x_hat = _model(self.name, self.quality).decompress(strings, shape)["x_hat"]
        picture: np.ndarray = x_hat[0, :, :height, :width].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
        return picture


def parse_zoo(text: str) -> ZooModel | None:
    """Return the model that "name:quality" names; None if CompressAI is not installed or has no such architecture.

    Raises:
        ValueError: for a quality that it has no weights for, or weights that are not on disk.
    """
    try:
        with warnings.catch_warnings():  # torch deprecates what CompressAI calls
            warnings.simplefilter("ignore")
            from compressai.zoo.image import model_urls
    except ImportError:
        return None
    name, _, quality = text.partition(":")
    if name not in model_urls or "mse" not in model_urls[name]:
        return None
    qualities = model_urls[name]["mse"]
    if not quality.isdecimal() or int(quality) not in qualities:
        raise ValueError(f"{text!r}: expected {name}:{min(qualities)} to {name}:{max(qualities)}")
    path = weights_path(name, int(quality))
    if not path.exists():
        raise ValueError(f"{text!r}: its weights are not at hand: {path} does not exist")
    return ZooModel(name, int(quality))


def weights_path(name: str, quality: int) -> Path:
    """Where torch keeps what CompressAI downloads."""
    from compressai.zoo.image import model_urls

    url: str = model_urls[name]["mse"][quality]
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


@cache
def _model(name: str, quality: int) -> Any:
    from compressai.zoo import image_models

    return image_models[name](quality, pretrained=True, progress=False).eval()
