"""Shard plan: how a data set is cut into shards, which its names and sizes alone say, before anything is encoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from codomain.codecs import files

SMALLEST = 10_000  # bytes of a shard: a smaller number was meant as how many


class Source(NamedTuple):
    """A file of a data set: its path below the folder, bytes, and of the sample that it becomes key and class.

    A tar shard has keys of its own, and labels that are carried along.
    """

    name: str
    n_bytes: int
    key: str
    label: int | None


@dataclass(frozen=True)
class Shard:
    """What one file of the output is made of: files, or one tar shard."""

    name: str
    sources: tuple[Source, ...]

    @property
    def digest(self) -> str:
        """The sha256 of all that the plan says of the sources."""
        return _sha256(*(f"{field}\0" for source in self.sources for field in source))


@dataclass(frozen=True)
class Plan:
    """A data set cut into shards.

    Attributes:
        shards: in order.
        classes: names of the folders that the labels count; none of tar shards, or where there are no folders.
        unlabelled: files that lie in no class folder.
    """

    shards: tuple[Shard, ...]
    classes: tuple[str, ...] = ()
    unlabelled: int = 0

    @property
    def digest(self) -> str:
        """The sha256 of the shards'."""
        return _sha256(*(shard.digest for shard in self.shards))


def make_plan(folder: Path, kind: str, n_bytes: int) -> Plan:
    """Return how a folder is cut into shards.

    Args:
        folder: of files, or of tar shards.
        kind: of signals.
        n_bytes: of the files of a shard, at most, unless one file alone has more.

    Raises:
        ValueError: if the folder holds neither, or both, or the size is none of a shard.
    """
    if n_bytes < SMALLEST:
        raise ValueError(f"a shard holds at least {SMALLEST} bytes of input; found {n_bytes}")
    suffixes = files.SUFFIXES[kind]
    found = sorted(_walk(folder, {*suffixes, ".tar"}))
    tars = [(name, size) for name, size in found if name.lower().endswith(".tar")]
    if not found:
        raise ValueError(f"{folder}: no tar shards, and no files that end in {' '.join(sorted(suffixes))}")
    if tars:
        if len(tars) < len(found):
            other = next(name for name, _ in found if not name.lower().endswith(".tar"))
            raise ValueError(f"{folder}: expected files or tar shards; found both, {tars[0][0]} and {other}")
        return Plan(_named([Source(name, size, "", None)] for name, size in tars))
    classes = tuple(sorted({name.split("/")[0] for name, _ in found if "/" in name}))
    labels: dict[str, int] = {name: i for i, name in enumerate(classes)}
    keys = _keys(name for name, _ in found)
    sources = [Source(*pair, key, labels.get(pair[0].split("/")[0])) for pair, key in zip(found, keys, strict=True)]
    return Plan(_named(_cut(sources, n_bytes)), classes, sum("/" not in name for name, _ in found))


def _walk(folder: Path, suffixes: set[str]) -> Iterator[tuple[str, int]]:
    """Yield path and bytes of the files below a folder; a link to a folder that it lies in is passed over."""
    for at, folders, names in os.walk(folder, followlinks=True):
        above = os.path.join(os.path.realpath(at), "")
        folders[:] = [f for f in folders if not above.startswith(os.path.join(os.path.realpath(f"{at}/{f}"), ""))]
        for name in names:
            path = os.path.join(at, name)
            if os.path.splitext(name)[1].lower() in suffixes and os.path.isfile(path):
                yield Path(os.path.relpath(path, folder)).as_posix(), os.path.getsize(path)


def _keys(names: Iterable[str]) -> Iterator[str]:
    """Yield a key of its own for each path: without suffix, since WebDataset's keys end at the first dot of a name."""
    taken: set[str] = set()
    for name in names:
        folder, slash, last = name.rpartition("/")
        stem, _, suffix = last.rpartition(".")
        numbered = (f"{stem}-{suffix}-{n}" for n in count(2))
        wanted = (folder + slash + short.replace(".", "_") for short in chain((stem, f"{stem}-{suffix}"), numbered))
        yield (key := next(key for key in wanted if key not in taken))
        taken.add(key)


def _cut(sources: Iterable[Source], n_bytes: int) -> Iterator[list[Source]]:
    group: list[Source] = []
    held = 0
    for source in sources:
        if group and held + source.n_bytes > n_bytes:
            yield group
            group, held = [], 0
        group.append(source)
        held += source.n_bytes
    yield group


def _named(groups: Iterable[Iterable[Source]]) -> tuple[Shard, ...]:
    found = [tuple(group) for group in groups]
    width = max(5, len(str(len(found) - 1)))
    return tuple(Shard(f"{i:0{width}d}", group) for i, group in enumerate(found))


def _sha256(*parts: str) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode(errors="surrogateescape"))
    return total.hexdigest()
