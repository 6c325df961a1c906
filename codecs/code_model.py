"""Code model: codebook indices to bytes and back, each in the light of the one before it in time. Integers alone.

    code --> class, a cluster of codes that are near each other --> table of the class before it in the same codebook
         --> place among the codes of its class                 --> table of the class

A stage is one payload: the classes of all frames, then the places. Tables of a few dozen columns are counted well on
little data, where tables of whole codebooks would starve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from codomain.codecs.coder import Decoder, Encoder, Tables
from jaxtyping import Float64, Int32, Int64, UInt8

PRECISION = 14
PRIOR = 30  # observations that a table without its context counts for


@dataclass(frozen=True)
class CodeModel:
    """Classes and tables of the codes of a quantizer.

    Attributes:
        classes: (n, k) of every code of every codebook, from 0.
        tables: of every codebook ``1 + m`` rows for classes (behind nothing, behind class 0, ...) and m for places.
        groups: codebooks of a stage, or layer; codebook ``stage * groups + group``.

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
        """Classes of a codebook."""
        return int(self.classes.max()) + 1

    @property
    def per_codebook(self) -> int:
        """Tables of a codebook."""
        return 2 * self.n_classes + 1

    @cached_property
    def places(self) -> Int64[np.ndarray, "n k"]:
        """Of every code: how many of its class are before it."""
        return np.stack([_places(classes) for classes in self.classes])

    @cached_property
    def codes(self) -> Int32[np.ndarray, "n m p"]:
        """The code at each place of each class; 0 where there is none."""
        found = np.zeros((len(self.classes), self.n_classes, int(self.places.max()) + 1), np.int32)
        for book, classes, places in zip(found, self.classes, self.places, strict=True):
            book[classes, places] = np.arange(len(classes))
        return found

    def encode(self, codes: Int32[np.ndarray, "s t"], stage: int) -> bytes:
        """Return the payload of one stage.

        Args:
            codes: of this stage and of those before it, at least.
            stage: which one.
        """
        books = self._books(stage)
        own, first = codes[books], self._first_row(books)
        classes = np.take_along_axis(self.classes[books], own, 1).astype(np.int32)
        before = np.concatenate((np.zeros_like(classes[:, :1]), classes[:, :-1] + 1), 1)
        encoder = Encoder(self.tables)
        encoder.push(classes.T.ravel(), (first + before).T.ravel())
        places = np.take_along_axis(self.places[books], own, 1).astype(np.int32)
        encoder.push(places.ravel(), (first + 1 + self.n_classes + classes).ravel())
        return encoder.finish()

    def decode(self, data: bytes, codes: Int32[np.ndarray, "s t"], stage: int) -> None:
        """Fill in the codes of a stage.

        Raises:
            BitstreamError: if the bytes are no such payload.
        """
        books, t = self._books(stage), codes.shape[1]
        first, decoder = self._first_row(books)[:, 0], Decoder(data, self.tables, 2 * self.groups * t)
        classes = np.empty((self.groups, t), np.int64)
        rows = first
        for i in range(t):
            classes[:, i] = np.clip(decoder.pop(rows), 0, self.n_classes - 1)
            rows = first + 1 + classes[:, i]
        places = decoder.pop((first[:, None] + 1 + self.n_classes + classes).ravel()).reshape(self.groups, t)
        decoder.finish()
        at = np.clip(places, 0, self.codes.shape[2] - 1)
        codes[books] = self.codes[books][np.arange(self.groups)[:, None], classes, at]

    def _books(self, stage: int) -> slice:
        return slice(stage * self.groups, (stage + 1) * self.groups)

    def _first_row(self, books: slice) -> Int64[np.ndarray, "g 1"]:
        rows: np.ndarray = np.arange(books.start, books.stop, dtype=np.int64)[:, None] * self.per_codebook
        return rows


def count(codes: Sequence[Int32[np.ndarray, "n _"]], classes: UInt8[np.ndarray, "n k"], groups: int) -> CodeModel:
    """Return the model of codes of samples."""
    m, tables = int(classes.max()) + 1, []
    width = max(m, int(max(np.bincount(own).max() for own in classes)))
    for c, own in enumerate(classes):
        after, places = np.zeros((1 + m, m)), np.zeros((m, width))
        held = np.arange(width) < np.bincount(own, minlength=m)[:, None]
        for part in codes:
            found = own[part[c]].astype(np.int64)
            np.add.at(after, (np.append(0, found[:-1] + 1), found), 1)
            np.add.at(places, (found, _places(own)[part[c]]), 1)
        overall = after.sum(0) + 0.5
        after += PRIOR * overall / overall.sum()
        tables += [_scaled(np.pad(after, ((0, 0), (0, width - m)))), _scaled((places + 0.5) * held)]
    whole = np.concatenate(tables)
    return CodeModel(classes, Tables.from_counts(whole, np.zeros(len(whole), np.int64), PRECISION), groups)


def ladder(model: CodeModel, codes: Sequence[Int32[np.ndarray, "n _"]]) -> dict[str, float]:
    """Return bits per code of codes that were kept out of counting: of a fixed length, with a table per codebook, and
    with the classes of the codes before.

    The table of a codebook is that of its classes, mixed as often as they are found.
    """
    m, rows = model.n_classes, model.per_codebook
    p = model.tables.all_freqs.astype(np.float64) / 2**PRECISION
    bits = {"order 0": 0.0, "previous frame": 0.0}
    for c, own in enumerate(model.classes):
        found = [own[part[c]].astype(np.int64) for part in codes]
        before = np.concatenate([np.append(0, part[:-1] + 1) for part in found])
        own_class, code = np.concatenate(found), np.concatenate([part[c] for part in codes])
        after, places = p[c * rows : c * rows + m + 1], p[c * rows + m + 1 : (c + 1) * rows]
        mixed = np.bincount(before, minlength=m + 1) @ after / len(before)
        place = -np.log2(places[own_class, model.places[c][code]]).sum()
        bits["order 0"] += place - np.log2(mixed[own_class]).sum()
        bits["previous frame"] += place - np.log2(after[before, own_class]).sum()
    total = sum(part.size for part in codes)
    return {"fixed length": float(np.log2(model.classes.shape[1])), **{k: float(b / total) for k, b in bits.items()}}


def _places(classes: UInt8[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
    """Of every code: how many of its class are before it."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    places = np.empty(len(classes), np.int64)
    places[order] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return places


def _scaled(mass: Float64[np.ndarray, "r w"]) -> Int64[np.ndarray, "r w"]:
    share = mass / mass.sum(1, keepdims=True)
    return np.where(mass > 0, np.maximum(1, np.round(share * 2.0**30)), 0).astype(np.int64)
