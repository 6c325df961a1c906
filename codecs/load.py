"""Load: name -> `pretrained/index.yaml` -> config -> codec with weights. The only table of models.

A model without weights, one of video, puts them into every file; its digest is of its name, see `NETWORK`. A config of
video that the table lacks is named by its path: the networks of its files say what they are, so any such codec decodes
them, and all have one digest, that of the name `OTHER`.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import yaml
from codomain.codecs.bitstream import SECTION_NAMES, File, Flag
from codomain.codecs.codec import Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.metrics import kbps
from safetensors.torch import load as parse_weights
from safetensors.torch import save as format_weights

ROOT = Path(__file__).parents[1]
NETWORK = "codomain video network {}"
OTHER = "video-config"


@cache
def index() -> dict[str, dict[str, Any]]:
    """Return `pretrained/index.yaml`: name -> record."""
    path = ROOT / "pretrained" / "index.yaml"
    records: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text()) if path.exists() else {}
    return records


def names(kind: str | None = None) -> list[str]:
    """Return the names of the models to use, of one kind of signal or of all: those that later ones replace only decode
    what they made.
    """
    current = {name: record for name, record in index().items() if "replaced_by" not in record}
    return [name for name, record in current.items() if kind in (None, record["kind"])]


@cache
def load(name: str) -> Codec:
    """Return a codec with its trained weights, if it has some, in evaluation mode; the same object for the same name.

    Args:
        name: of a model, or path of a config of video: ``.yaml``.

    Raises:
        ValueError: for an unknown name (lists those that exist), weights of another digest, a config that needs some.
    """
    if name == OTHER or name.endswith(".yaml"):
        return _configured(name)
    if name not in index():
        raise ValueError(f"no model named {name!r}; there are: {', '.join(names())}")
    record = index()[name]
    weights = record.get("weights")
    data = (ROOT / "pretrained" / weights).read_bytes() if weights else NETWORK.format(name).encode()
    digest = hashlib.sha256(data).hexdigest()
    if digest != record["sha256"]:
        raise ValueError(f"{weights or name}: sha256 is {digest}, the index says {record['sha256']}")
    codec = build(ROOT / record["config"])
    if weights:
        load_weights(codec, data)
    else:
        codec.eval()
    codec.name, codec.digest = name, bytes.fromhex(digest)[:8]
    return codec


def _configured(name: str) -> Codec:
    path = ROOT / index()["hnerv-boost"]["config"] if name == OTHER else Path(name)
    codec = build(path).eval()
    if codec.kind != "video":
        raise ValueError(f"{path}: a config without weights codes video alone; found one of {codec.kind}")
    codec.name, codec.digest = name, _other_digest()
    return codec


def _other_digest() -> bytes:
    return hashlib.sha256(NETWORK.format(OTHER).encode()).digest()[:8]


def name_of(digest: bytes) -> str:
    """Return the model whose weights have this 8-byte digest.

    Raises:
        BitstreamError: if none that ships has.
    """
    for name, record in index().items():
        if record["sha256"].startswith(digest.hex()):
            return name
    if digest == _other_digest():
        return OTHER
    raise BitstreamError(f"made by unknown weights {digest.hex()}; known models: {', '.join(names())}")


def describe(file: File, n_bytes: int) -> dict[str, Any]:
    """Return what a file says of itself, for people and for JSON."""
    header = file.header
    try:
        model = name_of(header.model)
    except BitstreamError:
        model = "unknown"
    axes = {"image": ("width", "height"), "sound": ("channels", "samples", "sample_rate_hz")}.get(
        header.kind, ("width", "height", "frames", "rate_numerator", "rate_denominator")
    )
    if header.kind == "sound":
        seconds = header.shape[1] / header.shape[2]
        rate: dict[str, float] = {"duration_s": round(seconds, 3), "kbps": round(kbps(n_bytes, seconds), 3)}
    else:
        rate = {"bpp": round(8 * n_bytes / prod(header.shape[:3]), 4)}
        if header.kind == "video":
            seconds = header.shape[2] * header.shape[4] / header.shape[3]
            rate |= {"duration_s": round(seconds, 3), "kbps": round(kbps(n_bytes, seconds), 3)}
    return {
        "kind": header.kind,
        **dict(zip(axes, header.shape, strict=True)),
        "depth": header.depth,
        **({"quality": header.quality / 4} if header.quality else {}),
        "model": model,
        "weights": header.model.hex(),
        "version": file.version,
        "n_bytes": n_bytes,
        **rate,
        **(_networks(file) if header.kind == "video" else {}),
        "flags": [flag.name for flag in Flag if flag in header.flags],
        "sections": {SECTION_NAMES.get(tag, str(tag)): len(body) for tag, body in file.sections.items()},
        "chunks": [0 if chunk is None else len(chunk) for chunk in file.chunks],
        "damage": file.damage,
    }


def _networks(file: File) -> dict[str, Any]:
    """Return the architecture of a file of video networks in short, and frames and bytes of each segment."""
    from codomain.codecs.segments import plan_of

    try:
        plan = plan_of(file)
    except BitstreamError:
        return {}
    a = plan.architecture
    start = f"{a.embedding} numbers per {a.knot} frames" if a.embedding else "time"
    widths = "-".join(map(str, a.channels))
    scales = "-".join(map(str, a.strides))
    return {
        "architecture": f"{a.block} {a.activation} of {start}, {a.grid[0]} x {a.grid[1]} times {scales}, "
        f"channels {widths}, {a.head}",
        "segments": [
            f"{s.start}:{s.start + s.frames}{' chained' if s.chained else ''}, {len(chunk or b'')} bytes"
            for s, chunk in zip(plan.segments, file.chunks[1:], strict=True)
        ],
    }


def build(config: Path) -> Codec:
    """Return the codec that a config file describes, with fresh weights."""
    try:
        model = yaml.safe_load(config.read_text())["model"]
        node = model.get("init_args", model)["codec"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{config}: expected a config with model.codec") from None
    codec = _instantiate(node)
    if not isinstance(codec, Codec):
        raise ValueError(f"{config}: model.codec must be a Codec; found {type(codec).__name__}")
    return codec


def load_weights(codec: Codec, data: bytes) -> None:
    """Fill a codec from the bytes of a safetensors file, stored in half precision.

    Raises:
        ValueError: if they are the weights of another codec.
    """
    state = {k: v.float() if v.is_floating_point() else v for k, v in parse_weights(data).items()}
    try:
        missing, unexpected = codec.load_state_dict(state, strict=False)
    except RuntimeError as error:  # torch lists the shapes, a line each
        raise ValueError(f"these weights are another codec's: {str(error).splitlines()[1].strip()}") from None
    missing = [name for name in missing if ".density." not in name]  # the density is of training alone
    if missing or unexpected:
        raise ValueError(f"these weights are another codec's: missing {missing[:3]}, unknown {unexpected[:3]}")
    codec.eval().requires_grad_(False)


def save_weights(codec: Codec, path: Path) -> str:
    """Write weights and integer tables, half precision, without the training density; return the sha256."""
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in codec.state_dict().items()
        if ".density." not in k
    }
    data = format_weights(state)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    os.replace(partial, path)
    return hashlib.sha256(data).hexdigest()


def _instantiate(node: Any) -> Any:
    """Build ``{class_path, init_args}``, depth first; class paths of this package alone."""
    if not isinstance(node, dict):
        return node
    if "class_path" not in node:
        return {key: _instantiate(value) for key, value in node.items()}
    module, _, name = node["class_path"].rpartition(".")
    if not module.startswith("codomain."):
        raise ValueError(f"expected a class of codomain; found {node['class_path']}")
    arguments = {key: _instantiate(value) for key, value in node.get("init_args", {}).items()}
    return getattr(__import__(module, fromlist=[name]), name)(**arguments)
