"""Contenders: every codec under test as the same kind of thing, and the fresh processes that run them.

A contender is a name, a quality, `compress` and `decompress`: ours, those of `baselines.py`, `sound_baselines.py` and
`video_baselines.py`, CompressAI's (`zoo.py`). Its kind (`kind.py`) says what a signal is: here, signals are opaque.

    python -m codomain.codecs.contenders encode NAME     signal -> file
    python -m codomain.codecs.contenders decode NAME     file -> samples
    python -m codomain.codecs.contenders time NAME       signal, and its file -> speeds, warm; nothing is written

Standard input is JSON, a list of [input, output], for a `Matched` perhaps with the bytes that it has; every one answers
with one line of JSON, an input that fails too. The last line is the process's own: its peak memory. Encoding that is
slow is timed where the file is made, other encoding by the job `time`, which makes the file again.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, runtime_checkable

from codomain.codecs.arguments import duration
from codomain.codecs.image_kind import ImageKind
from codomain.codecs.kind import Kind
from codomain.codecs.matched import match
from codomain.codecs.sound_kind import SoundKind
from codomain.codecs.video_kind import VideoKind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (ImageKind(), SoundKind(), VideoKind())}
RUNS = 3  # timed runs of each signal, after one to warm up
NEAR = 0.002  # of the bytes: a matched file that is this near needs no further search


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
    def kind(self) -> str:
        """Of its signals: a key of `KINDS`."""

    @property
    def latents_per_position(self) -> float | None:
        """Numbers that a model would learn from, over pixels or samples; None where there are none."""

    @property
    def threads(self) -> int:
        """That it uses of its own accord."""

    @property
    def slow(self) -> bool:
        """Whether encoding takes so long that a signal is coded once, and timed there, never again."""

    def compress(self, x: Any) -> bytes:
        """Return the bytes of a whole file."""

    def decompress(self, data: bytes) -> Any:
        """Decode a file; not rounded, where the codec does not round."""


@dataclass(frozen=True)
class Ours:
    """A model that ships.

    Attributes:
        model: its name in the index.
        quality: None for its middle.
        seconds: that a fit takes, of a model that is fitted to every signal; None for its default.
    """

    model: str
    quality: float | None = None
    seconds: float | None = None
    suffix: str = ".cdm"

    @property
    def name(self) -> str:
        """The model's, and the time where one is given: fits of other lengths are another curve."""
        return self.model if self.seconds is None else f"{self.model}-{self.seconds:g}s"

    @property
    def version(self) -> str:
        """The digest of the weights."""
        from codomain.codecs.load import index

        return str(index()[self.model]["sha256"][:16])

    @property
    def kind(self) -> str:
        """As the index has it."""
        from codomain.codecs.load import index

        return str(index()[self.model]["kind"])

    @property
    def latents_per_position(self) -> float | None:
        """Latent channels over positions per latent; None where the latents are the weights of a network."""
        if KINDS[self.kind].latents is None:
            return None
        codec = self._codec
        return float(codec.latent_dim / codec.stride**codec.ndim)

    @property
    def threads(self) -> int:
        """Torch's."""
        import torch

        return torch.get_num_threads()

    @property
    def slow(self) -> bool:
        """Where it is fitted to every signal."""
        return KINDS[self.kind].fits

    def compress(self, x: Any) -> bytes:
        """Return the bytes of a `.cdm` file."""
        return KINDS[self.kind].compress(self._codec, x, self.quality, self.seconds)

    def decompress(self, data: bytes) -> Any:
        """Decode; not rounded."""
        return KINDS[self.kind].decompress(self._codec, data)

    @property
    def _codec(self) -> Any:
        from codomain.codecs.load import load

        return load(self.model)


@dataclass(frozen=True)
class Matched:
    """A baseline at the bytes of another contender.

    Of every signal it writes its largest file that is no larger than the other's, or its smallest where none is.

    Attributes:
        baseline: its name.
        other: whose bytes count.
    """

    baseline: str
    other: Contender
    latents_per_position: float | None = None
    slow: bool = False

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.baseline}@{self.other.name}"

    @property
    def quality(self) -> float | None:
        """The other's."""
        return None if self.other.quality is None else float(self.other.quality)

    @property
    def kind(self) -> str:
        """Of both."""
        return self.other.kind

    @property
    def version(self) -> str:
        """Of both."""
        return f"{self._at(0).version} at the bytes of {self.other.version}"

    @property
    def suffix(self) -> str:
        """The baseline's."""
        return self._at(0).suffix

    @property
    def threads(self) -> int:
        """The baseline's."""
        return self._at(0).threads

    def compress(self, x: Any) -> bytes:
        """Return the bytes of a whole file; the other's is made for it."""
        return self.within(x, len(self.other.compress(x)))

    def within(self, x: Any, n_bytes: int) -> bytes:
        """Return the bytes of a whole file, where the other's has ``n_bytes``."""
        scale, make = KINDS[self.kind].scales[self.baseline], KINDS[self.kind].baseline
        return match(scale, lambda q: make(self.baseline, q).compress(x), n_bytes, {}, NEAR, at_most=True)[1]

    def decompress(self, data: bytes) -> Any:
        """Decode a file."""
        return self._at(0).decompress(data)

    def _at(self, index: int) -> Contender:
        kind = KINDS[self.kind]
        found: Contender = kind.baseline(self.baseline, kind.scales[self.baseline].at(index))
        return found


def parse(text: str) -> Contender:
    """Return the contender that a name stands for: "walloc-rgb-4x", "jpeg:30", "cheng2020-anchor:3"; or
    "opus@walloc-stereo-5x:50", Opus at the bytes of that; "hnerv-boost-90s:50" is fitted for 90 seconds.

    Raises:
        ValueError: if there is none of this name, or it is not installed.
    """
    baseline, matched, other = text.partition("@")
    if matched:
        return parse_matched(baseline, parse(other))
    name, _, quality = text.partition(":")
    for kind in KINDS.values():  # first: a process that runs a baseline need not import torch
        if name in kind.scales:
            found: Contender = kind.baseline(name, kind.scales[name].parse(name, quality))
            return found
    from codomain.codecs.load import index, names

    if name in index():  # those that were replaced too
        return Ours(name, _check_quality(name, quality))
    model, _, time = name.rpartition("-")
    if model in index() and KINDS[index()[model]["kind"]].fits and (seconds := _seconds_of(time)):
        return Ours(model, _check_quality(model, quality), seconds)
    from codomain.codecs.zoo import parse_zoo

    learned = parse_zoo(text)
    if learned is None:
        scales = {name: scale for kind in KINDS.values() for name, scale in kind.scales.items()}
        shown = ", ".join(f"{name}:{scale.low:g}...{scale.high:g}" for name, scale in scales.items())
        raise ValueError(f"no model {text!r}; there are {', '.join(names())}, {shown}")
    return learned


def parse_matched(baseline: str, other: Contender) -> Matched:
    """Return a baseline at the bytes of another contender.

    Raises:
        ValueError: if there is no such baseline of the other's kind, or it is not installed.
    """
    kind = KINDS[other.kind]
    if baseline not in kind.scales:
        raise ValueError(f"'{baseline}@{label(other)}': expected one of {', '.join(kind.scales)} before the @")
    kind.baseline(baseline, kind.scales[baseline].at(0))
    return Matched(baseline, other)


def _check_quality(name: str, text: str) -> float | None:
    from codomain.codecs.load import load

    try:
        quality = float(text) if text else None
    except ValueError:
        raise ValueError(f"'{name}:{text}': expected a quality from 1 to 100") from None
    load(name).quality_index(quality)
    return quality


def _seconds_of(text: str) -> float | None:
    from argparse import ArgumentTypeError

    try:
        found = duration(text)
    except ArgumentTypeError:
        return None
    return found if found > 0 else None


def label(contender: Contender) -> str:
    """Return the name that `parse` takes."""
    return contender.name if contender.quality is None else f"{contender.name}:{contender.quality:g}"


def main(job: str, name: str) -> None:
    """Do one job on all pairs of standard input."""
    contender, pairs = parse(name), json.load(sys.stdin)
    work = {"encode": _encode, "decode": _decode, "time": _time}[job]
    for source, target, *n_bytes in pairs:
        try:
            report = work(contender, Path(source), Path(target), *n_bytes)
        except (ValueError, OSError) as error:
            report = {"error": " ".join(str(error).split())}
        print(json.dumps(report), flush=True)
    print(json.dumps({"peak_mb": round(_peak_bytes() / 1e6, 1)}), flush=True)


def _encode(contender: Contender, source: Path, target: Path, n_bytes: int | None = None) -> dict[str, Any]:
    x = KINDS[contender.kind].read(source)
    began, cpu = time.perf_counter(), _cpu_seconds()
    if n_bytes is not None and isinstance(contender, Matched):
        data = contender.within(x, n_bytes)
    else:
        data = contender.compress(x)
    taken = {"encode_s": time.perf_counter() - began, "encode_cpu_s": _cpu_seconds() - cpu}
    target.write_bytes(data)
    return {"n_bytes": len(data), **({k: round(s, 6) for k, s in taken.items()} if contender.slow else {})}


def _decode(contender: Contender, source: Path, target: Path) -> dict[str, Any]:
    KINDS[contender.kind].save(target, contender.decompress(source.read_bytes()))
    return {}


def _time(contender: Contender, source: Path, target: Path) -> dict[str, Any]:
    kind = KINDS[contender.kind]
    x = kind.read(source)
    data = target.read_bytes() if contender.slow else contender.compress(x)  # which warms up
    coded = time.time()
    contender.decompress(data)
    return {
        "first_done_at": time.time() if contender.slow else coded,
        "amount": kind.amount(x),
        "threads": contender.threads,
        **({} if contender.slow else {"encode_s": _seconds(lambda: contender.compress(x))}),
        "decode_s": _seconds(lambda: contender.decompress(data)),
    }


def _cpu_seconds() -> float:
    """Of all threads of this process and of the processes that it waited for."""
    return sum(os.times()[:4])


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
