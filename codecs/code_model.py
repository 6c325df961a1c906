"""Code model: codebook indices to bytes and back, each with the table that the codes around it choose. Integers alone.

Frames are coded in two passes. Those of even number first: the table of a code is that of its codebook and of the class
of the code before it in the same frame (the group before it, or the stage before it). Then those between them, whose
table follows from the classes of the same codebook's codes on either side. A class is a cluster of codes that are near
each other; class 0 stands for what is not there.

Tables are counted on codes of samples, and mixed with what is known without the context, so that a context that was
hardly seen costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from codomain.codecs.coder import Decoder, Encoder, Tables
from jaxtyping import Int32, Int64, UInt8

PRECISION = 14
PRIOR = 200  # observations that the table without a context counts for in one with a context


@dataclass(frozen=True)
class CodeModel:
    """Classes and tables of the codes of a group-residual quantizer.

    Attributes:
        classes: (n, k) of every code of every codebook, from 1.
        tables: of every codebook ``1 + m`` rows for its first pass and ``(1 + m)**2`` for its second, m classes.
        groups: codebooks of a stage; codebook ``stage * groups + group``.

    Raises:
        ValueError: for tables of another number.
    """

    classes: UInt8[np.ndarray, "n k"]
    tables: Tables
    groups: int

    def __post_init__(self) -> None:
        if len(self.tables) != len(self.classes) * self.per_codebook:
            raise ValueError(f"expected {len(self.classes) * self.per_codebook} tables; found {len(self.tables)}")

    @property
    def n_classes(self) -> int:
        """Classes, that of nothing included."""
        return int(self.classes.max()) + 1

    @property
    def per_codebook(self) -> int:
        """Tables of a codebook."""
        return self.n_classes + self.n_classes**2

    def encode(self, codes: Int32[np.ndarray, "m t"], stage: int) -> bytes:
        """Return the payload of one stage of the codes of a chunk.

        Args:
            codes: of this stage and of those before it, at least.
            stage: which one.
        """
        encoder = Encoder(self.tables)
        for c, frames in self._steps(stage, codes.shape[1]):
            encoder.push(codes[c, frames], self._rows(codes, c, frames))
        return encoder.finish()

    def decode(self, data: bytes, codes: Int32[np.ndarray, "m t"], stage: int) -> None:
        """Fill in the codes of a stage; those of the stages before it are there.

        Raises:
            BitstreamError: if the bytes are no such payload.
        """
        decoder = Decoder(data, self.tables, self.groups * codes.shape[1])
        for c, frames in self._steps(stage, codes.shape[1]):
            codes[c, frames] = np.clip(decoder.pop(self._rows(codes, c, frames)), 0, self.classes.shape[1] - 1)
        decoder.finish()

    def _steps(self, stage: int, t: int) -> Iterator[tuple[int, slice]]:
        """Yield codebook and frames of every step."""
        for start in (0, 1):
            for group in range(self.groups):
                if start < t:
                    yield stage * self.groups + group, slice(start, None, 2)

    def _rows(self, codes: Int32[np.ndarray, "m t"], c: int, frames: slice) -> Int64[np.ndarray, " f"]:
        return c * self.per_codebook + context(codes, self.classes, self.n_classes, self.groups, c, frames)


def context(
    codes: Int32[np.ndarray, "m t"], classes: UInt8[np.ndarray, "n k"], n_classes: int, groups: int, c: int,
    frames: slice,
) -> Int64[np.ndarray, " f"]:  # fmt: skip
    """Return which of its codebook's tables every code of a pass has."""
    if frames.start == 0:
        before = c - 1 if c % groups else c - groups  # the group before, or the stage before
        here = codes[c, frames]
        return classes[before][codes[before, frames]].astype(np.int64) if before >= 0 else np.zeros(len(here), np.int64)
    sides = classes[c][codes[c, 0::2]].astype(np.int64)
    left = sides[: len(codes[c, frames])]
    right = np.append(sides[1:], 0)[: len(left)]
    both: np.ndarray = n_classes + left * n_classes + right
    return both


def count(codes: Sequence[Int32[np.ndarray, "n _"]], classes: UInt8[np.ndarray, "n k"], groups: int) -> CodeModel:
    """Return the model of codes of samples: counts, mixed with those without the context."""
    n, k = classes.shape
    m = int(classes.max()) + 1
    counts = np.zeros((n, m + m * m, k))
    for part in codes:
        for c in range(n):
            for start in (0, 1):
                frames = slice(start, None, 2)
                if start < part.shape[1]:
                    np.add.at(counts[c], (context(part, classes, m, groups, c, frames), part[c, frames]), 1)
    overall = counts.sum(1, keepdims=True) + 1
    mass = counts + PRIOR * overall / overall.sum(2, keepdims=True)
    mass /= mass.sum(2, keepdims=True)
    whole = np.maximum(1, np.round(mass.reshape(-1, k) * 2.0**30)).astype(np.int64)
    return CodeModel(classes, Tables.from_counts(whole, np.zeros(len(whole), np.int64), PRECISION), groups)


def ladder(model: CodeModel, codes: Sequence[Int32[np.ndarray, "n _"]]) -> dict[str, float]:
    """Return measured bits per code: of a fixed length, and with tables that look at more and more.

    The tables are the model's; those that look at less are sums of them, weighted as the codes are found.
    """
    n, k = model.classes.shape
    freqs = model.tables.all_freqs[:, :k].reshape(n, model.per_codebook, k).astype(np.float64) / 2**PRECISION
    rows: list[list[np.ndarray]] = [[], []]
    found: list[list[np.ndarray]] = [[], []]
    for part in codes:
        for c in range(n):
            for start in (0, 1):
                if start < part.shape[1]:
                    frames = slice(start, None, 2)
                    at = context(part, model.classes, model.n_classes, model.groups, c, frames)
                    rows[start].append(c * model.per_codebook + at)
                    found[start].append(part[c, frames])
    flat = freqs.reshape(-1, k)
    passes = [(np.concatenate(r), np.concatenate(f)) for r, f in zip(rows, found, strict=True)]
    total = sum(len(f) for _, f in passes)
    weights = np.bincount(np.concatenate([r for r, _ in passes]), minlength=len(flat)).reshape(n, -1, 1)
    order_0 = (freqs * weights).sum(1) / weights.sum(1)
    bits = {
        name: [-np.log2(flat[r, f] if full else order_0[r // model.per_codebook, f]).sum() for (r, f), full in
               zip(passes, use, strict=True)]
        for name, use in (("order 0", (0, 0)), ("stage before", (1, 0)), ("frames around", (0, 1)), ("both", (1, 1)))
    }  # fmt: skip
    return {"fixed length": float(np.log2(k)), **{name: float(sum(parts) / total) for name, parts in bits.items()}}
