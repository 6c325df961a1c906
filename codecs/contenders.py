"""Contenders: every codec under test as the same kind of thing, and the fresh processes that run them.

A contender is a name, a quality, `compress` and `decompress`: ours, Pillow's (`baselines.py`), CompressAI's (`zoo.py`).

    python -m codomain.codecs.contenders encode NAME     picture -> file
    python -m codomain.codecs.contenders decode NAME     file -> samples, .npy
    python -m codomain.codecs.contenders time NAME       picture -> speeds, warm; nothing is written

Standard input is JSON, a list of [input, output]; every pair answers with one line of JSON, an input that fails too.
The last line is the process's own: its peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, runtime_checkable

import numpy as np
from codomain.codecs.baselines import SCALES, parse_baseline
from jaxtyping import Shaped, UInt8

RUNS = 3  # timed runs of each picture, after one to warm up


@runtime_checkable
class Contender(Protocol):
    """A codec under test."""

    @property
    def name(self) -> str:
        """Of the codec: the points of one name are one curve."""

    @property
    def quality(self) -> float | None:
        """On the codec's own scale; None where it has one rate."""

    @property
    def version(self) -> str:
        """What made the bytes: another version makes other points."""

    @property
    def suffix(self) -> str:
        """Of its files."""

    @property
    def latents_per_pixel(self) -> float | None:
        """Numbers that a model would learn from, over pixels; None where there are none."""

    @property
    def threads(self) -> int:
        """That it uses of its own accord."""

    def compress(self, x: UInt8[np.ndarray, "h w 3"]) -> bytes:
        """Return the bytes of a whole file."""

    def decompress(self, data: bytes) -> Shaped[np.ndarray, "h w 3"]:
        """Decode a file: uint8, or float in [0, 255] where the codec does not round."""


@dataclass(frozen=True)
class Ours:
    """A model that ships."""

    name: str
    quality: float | None = None
    suffix: str = ".cdm"

    @property
    def version(self) -> str:
        """The digest of the weights."""
        from codomain.codecs.load import index

        return str(index()[self.name]["sha256"][:16])

    @property
    def latents_per_pixel(self) -> float:
        """Latent channels over pixels per latent."""
        codec = self._codec
        return float(codec.latent_dim / codec.stride**codec.ndim)

    @property
    def threads(self) -> int:
        """Torch's."""
        import torch

        return torch.get_num_threads()

    def compress(self, x: UInt8[np.ndarray, "h w 3"]) -> bytes:
        """Return the bytes of a `.cdm` file."""
        import torch

        data: bytes = self._codec.compress(
            torch.from_numpy(x).permute(2, 0, 1)[None].contiguous(), quality=self.quality
        )
        return data

    def decompress(self, data: bytes) -> Shaped[np.ndarray, "h w 3"]:
        """Decode; not rounded, as learned codecs are measured (`evaluate` rounds for its 8-bit figures)."""
        x_hat = self._codec.decompress(data)[0].add(1).mul(127.5)
        picture: np.ndarray = x_hat.permute(1, 2, 0).contiguous().numpy()
        return picture

    @property
    def _codec(self) -> Any:
        from codomain.codecs.load import load

        return load(self.name)


def parse(text: str) -> Contender:
    """Return the contender that a name stands for: "walloc-rgb-4x", "jpeg:30", "cheng2020-anchor:3".

    Raises:
        ValueError: if there is none of this name, or it is not installed.
    """
    baseline = parse_baseline(text)
    if baseline is not None:  # first: a process that runs one need not import torch
        return baseline
    from codomain.codecs.load import index, names

    name, _, quality = text.partition(":")
    if name in index():  # those that were replaced too
        return Ours(name, _check_quality(name, quality))
    from codomain.codecs.zoo import parse_zoo

    found = parse_zoo(text)
    if found is None:
        scales = ", ".join(f"{name}:{scale[0]}...{scale[-1]}" for name, (scale, _) in SCALES.items())
        raise ValueError(f"no model {text!r}; there are {', '.join(names())}, {scales}")
    return found


def _check_quality(name: str, text: str) -> float | None:
    from codomain.codecs.load import load

    try:
        quality = float(text) if text else None
    except ValueError:
        raise ValueError(f"'{name}:{text}': expected a quality from 1 to 100") from None
    load(name).quality_index(quality)
    return quality


def label(contender: Contender) -> str:
    """Return the name that `parse` takes."""
    return contender.name if contender.quality is None else f"{contender.name}:{contender.quality:g}"


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


def main(job: str, name: str) -> None:
    """Do one job on all pairs of standard input."""
    contender, pairs = parse(name), json.load(sys.stdin)
    work = {"encode": _encode, "decode": _decode, "time": _time}[job]
    for source, target in pairs:
        try:
            report = work(contender, Path(source), Path(target))
        except (ValueError, OSError) as error:
            report = {"error": " ".join(str(error).split())}
        print(json.dumps(report), flush=True)
    print(json.dumps({"peak_mb": round(_peak_bytes() / 1e6, 1)}), flush=True)


def _encode(contender: Contender, source: Path, target: Path) -> dict[str, Any]:
    data = contender.compress(read_picture(source))
    target.write_bytes(data)
    return {"n_bytes": len(data)}


def _decode(contender: Contender, source: Path, target: Path) -> dict[str, Any]:
    np.save(target, contender.decompress(source.read_bytes()))
    return {}


def _time(contender: Contender, source: Path, target: Path) -> dict[str, Any]:
    x = read_picture(source)
    data, first = contender.compress(x), time.time()  # which warms up
    contender.decompress(data)
    return {
        "first_coded_at": first,
        "pixels": x.shape[0] * x.shape[1],
        "threads": contender.threads,
        "encode_s": _seconds(lambda: contender.compress(x)),
        "decode_s": _seconds(lambda: contender.decompress(data)),
    }


def _peak_bytes() -> int:
    """Peak resident memory of this process; Linux's getrusage would count its parent's before the exec."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _seconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return median(taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
