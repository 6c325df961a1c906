"""Kind: what evaluating one kind of signal takes, and no other module asks which kind it is.

    a folder --read--> signal --codec--> file --codec--> signal --measure--> one row --exhibit--> the page

`image_kind.py`, `sound_kind.py` and `video_kind.py` are the kinds that there are. A kind says how files are read and
handed from process to process, what is measured, what rate and speed are called, which baselines there are, and what
the page shows.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from codomain.codecs.matched import Scale

BEST = 100.0  # dB that means and curves give to equal signals, whose PSNR or SNR is infinite
Row = dict[str, Any]
Shown = dict[str, Any]  # what the page shows of one signal, or of one contender's version of it


def capped(value: float) -> float:
    """Return decibels as means and curves take them: at most `BEST`."""
    return min(value, BEST)


def distance_db(value: float) -> float:
    """Return a distance, 0 of equal signals, as decibels, in which curves are compared: -10 log10; at most `BEST`."""
    return -10 * log10(max(value, 1e-10))


def lacking_db(value: float) -> float:
    """Return a similarity, 1 of equal signals, as decibels: those of what it lacks."""
    return distance_db(1 - value)


def to_uri(media_type: str, data: bytes) -> str:
    """Return bytes as a data: URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Column:
    """A figure of a table.

    Attributes:
        key: in rows and files.
        title: with its unit.
        digits: behind the point; None for three significant ones.
    """

    key: str
    title: str
    digits: int | None = None

    def show(self, value: Any) -> str:
        """Return a value as people read it."""
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        if self.digits is not None:
            return f"{value:.{self.digits}f}"
        return f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:.0f}"


@dataclass(frozen=True)
class Metric(Column):
    """A measure of quality.

    Attributes:
        quality: value -> what curves are drawn and compared in, which grows with the rate.
        unit: of that.
        needed: whether a signal that has no such figure is left out; else it does not count in this figure alone.
    """

    quality: Callable[[float], float] = float
    unit: str = "dB"
    needed: bool = True

    @property
    def axis(self) -> str:
        """Title of the axis that it is drawn on."""
        return self.title if self.title.endswith(self.unit) else f"{self.title}, {self.unit}"


class Kind(ABC):
    """A kind of signal.

    Attributes:
        name: "image", "sound" or "video", as of codecs and in the headers of files.
        item: one of them, as people say.
        files: what a folder holds.
        suffixes: of files that are tried.
        handed: suffix of the samples that one process hands to another.
        rate: bits over the signal's extent, and ``rate_axis``, its name in full.
        speeds: of encoding and decoding, per second.
        fits: whether models of ours are fitted to every signal, which takes minutes: see `Contender.slow`.
        latents: numbers that a model would learn from, over the signal's extent; None where files hold no such.
        sizes: figures of files beside the rate.
        metrics: in the order of tables.
        compared: keys of those whose curves are drawn and compared; the first is drawn in a README.
        anchor: the baseline that curves are compared with.
        scales: baseline -> its qualities.
        intervals: whether means are shown with their 95 % confidence intervals.
        shown: how many signals the page shows at most.
        about: how metrics are taken, in one line.
        viewer: file of the page's part that shows what was coded.
    """

    name: str
    item: str
    files: str
    suffixes: frozenset[str]
    handed: str
    rate: Column
    rate_axis: str
    speeds: tuple[Column, Column]
    fits = False
    latents: Column | None
    sizes: tuple[Column, ...] = ()
    metrics: tuple[Metric, ...]
    compared: tuple[str, ...]
    anchor: str
    scales: Mapping[str, Scale]
    intervals = False
    shown = 24
    about: str
    viewer: str

    @property
    def columns(self) -> dict[str, Column]:
        """Every figure of a contender: the rate, other sizes, the metrics, the speeds."""
        return {column.key: column for column in (self.rate, *self.sizes, *self.metrics, *self.costs)}

    @property
    def costs(self) -> tuple[Column, ...]:
        """What a contender takes beside bytes."""
        return (
            *(() if self.latents is None else (self.latents,)), *self.speeds, Column("threads", "threads"),
            Column("start_s", "start s", 2), Column("peak_mb", "peak MB"),
        )  # fmt: skip

    def metric(self, key: str) -> Metric:
        """Return the metric of a key."""
        return next(metric for metric in self.metrics if metric.key == key)

    @abstractmethod
    def read(self, path: Path) -> Any:
        """Return what every contender is given of a file, or of what `save` wrote.

        Raises:
            ValueError: if the file holds no such signal.
        """

    @abstractmethod
    def save(self, path: Path, x: Any) -> None:
        """Hand samples to another process, exactly."""

    @abstractmethod
    def load(self, path: Path) -> Any:
        """Invert `save`."""

    @abstractmethod
    def compress(self, codec: Any, x: Any, quality: float | None, seconds: float | None = None) -> bytes:
        """Return the bytes of a `.cdm` file; where ``fits``, after so many seconds, if they are given."""

    @abstractmethod
    def decompress(self, codec: Any, data: bytes) -> Any:
        """Return what a `.cdm` file holds."""

    @abstractmethod
    def amount(self, x: Any) -> float:
        """Return how much is coded, in what speeds count: megapixels, seconds."""

    @abstractmethod
    def rate_of(self, n_bytes: int, row: Row) -> float:
        """Return the rate of a file, header included, whose signal has the size in a row of `measure`."""

    def sizes_of(self, data: bytes) -> Row:
        """Return the figures of ``sizes`` that a file alone tells."""
        return {}

    @abstractmethod
    def measure(self, x: Any, x_hat: Any) -> Row:
        """Return size and metrics of one decoded signal; a metric that it is too small for is None.

        Raises:
            ValueError: if it is not of the original's size.
        """

    @abstractmethod
    def lacks(self, row: Row, metrics: Sequence[Metric]) -> str:
        """Say why a signal has no such metrics."""

    @abstractmethod
    def baseline(self, name: str, quality: float) -> Any:
        """Return a baseline of `scales` at one of its qualities.

        Raises:
            ValueError: if it is not installed.
        """

    @abstractmethod
    def exhibit(self, name: str, x: Any, x_hat: Any, data: bytes | None, suffix: str) -> Shown:
        """Return what the page shows of one version; ``data`` is its file, None for the original."""

    @abstractmethod
    def extent(self, x: Any) -> Row:
        """Return what the page must know of an original, beside its exhibit."""

    @abstractmethod
    def fitted(self, shown: Sequence[Shown]) -> Sequence[Shown]:
        """Return what of all signals the page can hold."""

    def exports(self, curves: Mapping[str, Sequence[Row]], data: str) -> dict[str, str]:
        """Return further files of results, for other people's tools: path -> text."""
        return {}
