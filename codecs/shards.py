"""Shards: a data set -> tar files of `.cdm` files, as WebDataset lays them out, each whole or not there.

    DIR --make_plan--> shards --write_shard--> OUT/00012.tar, and behind it OUT/00012.json: counts and digests

DIR holds files, in folders named after their classes, or tar shards whose samples are members of one key. A shard
follows from its sources, the weights and the quality: whoever writes it, and beside how many others, its bytes are the
same. It is complete if its sidecar is there and fits.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from codomain.codecs import files
from codomain.codecs.codec import DEFAULT_QUALITY, Codec
from codomain.codecs.load import load
from codomain.codecs.shard_plan import Plan, Shard

Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How a data set is encoded: from where to where, by which weights, and at which quality."""

    folder: Path
    out: Path
    model: str
    quality: float | None

    @property
    def identity(self) -> Row:
        """What a shard's bytes depend on, beside its sources."""
        codec = load(self.model)
        quality = DEFAULT_QUALITY if self.quality is None and codec.bottleneck.has_rates else self.quality
        return {"model": codec.name, "weights": codec.digest.hex(), "quality": quality}


def complete(shard: Shard, recipe: Recipe) -> Row | None:
    """Return the sidecar of a shard that is complete: made of these sources in this way; else None."""
    try:
        row: Row = json.loads((recipe.out / f"{shard.name}.json").read_text())
        fits = row["bytes_out"] == (recipe.out / f"{shard.name}.tar").stat().st_size
        return row if fits and row["sources"] == shard.digest and recipe.identity.items() <= row.items() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_shard(shard: Shard, recipe: Recipe, advance: Callable[[], None]) -> Row:
    """Encode a shard; return its sidecar.

    A sample that fails is left out, and stands in the sidecar with the reason.

    Args:
        shard: what is encoded.
        recipe: and how.
        advance: called for each sample.

    Raises:
        ValueError: if a tar shard is damaged.
        OSError: if the shard cannot be written.
    """
    codec = load(recipe.model)
    samples = _of_tar if shard.sources[0].key == "" else _of_files
    n_samples, failures = 0, []
    with files.writing(recipe.out / f"{shard.name}.tar", force=True) as partial:
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            for sample in samples(recipe.folder, shard):
                try:
                    coded = _code(sample, codec, recipe.quality)
                except (ValueError, OSError) as error:
                    failures.append([sample.name, reason(error)])
                else:
                    n_samples += 1
                    for suffix, data in coded:
                        member = tarfile.TarInfo(f"{sample.key}.{suffix}" if suffix else sample.key)
                        member.size = len(data)  # time 0, nobody's, as of every run
                        tar.addfile(member, io.BytesIO(data))
                advance()
        with partial.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        n_bytes = partial.stat().st_size
    row: Row = {
        "shard": shard.name, "samples": n_samples, "failures": failures,
        "bytes_in": sum(source.n_bytes for source in shard.sources), "bytes_out": n_bytes, "sha256": digest,
        "sources": shard.digest, **recipe.identity,
    }  # fmt: skip
    files.write(recipe.out / f"{shard.name}.json", (json.dumps(row) + "\n").encode(), force=True)
    return row


def claim(plan: Plan, recipe: Recipe, force: bool) -> None:
    """Write `dataset.json`, or make sure that it says the same already.

    Args:
        plan: of the data set.
        recipe: how it is encoded.
        force: take the folder over from another data set: shards that this one does not have are removed.

    Raises:
        ValueError: if the folder holds another data set, or tar files of someone else.
    """
    path, out = recipe.out / "dataset.json", recipe.out
    row = {**recipe.identity, "classes": list(plan.classes), "shards": len(plan.shards), "plan": plan.digest}
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        known = None
    except ValueError:
        known = {}
    if known == row:
        return
    if known is None and not force and any(out.glob("*.tar")):
        raise ValueError(f"{out} holds tar files and no dataset.json: --force replaces them")
    if known is not None and not force:
        differs = next(key for key in row if not isinstance(known, dict) or known.get(key) != row[key])
        values = f" ({known.get(differs)}, not {row[differs]})" if differs in ("model", "quality", "shards") else ""
        raise ValueError(f"{out} holds another data set, of another {differs}{values}: --force replaces what differs")
    names = {shard.name for shard in plan.shards}
    for surplus in [p for p in out.glob("*.tar") if p.stem not in names]:
        surplus.with_suffix(".json").unlink(missing_ok=True)
        surplus.unlink()
    files.write(path, (json.dumps(row, indent=1) + "\n").encode(), force=True)


def remove_partials(out: Path, shards: Sequence[Shard]) -> None:
    """Remove what a run that was killed has left of these shards."""
    names = {shard.name for shard in shards}
    for path in out.glob(".codomain-*-*.part"):
        if path.name.split("-")[1] in names:
            path.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


class _Sample(NamedTuple):
    name: str  # in messages
    key: str
    parts: list[tuple[str, bytes | Path]]  # suffix, and content


def _of_files(folder: Path, shard: Shard) -> Iterator[_Sample]:
    for source in shard.sources:
        parts: list[tuple[str, bytes | Path]] = [(source.name.rpartition(".")[2], folder / source.name)]
        if source.label is not None:
            parts.append(("cls", str(source.label).encode()))
        yield _Sample(source.name, source.key, parts)


def _of_tar(folder: Path, shard: Shard) -> Iterator[_Sample]:
    name = shard.sources[0].name
    for key, members in groupby(_members(folder / name), lambda member: member[0]):
        yield _Sample(f"{name}: {key}", key, [(suffix, data) for _, suffix, data in members])


def _members(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield key, suffix and content of a tar's files; the suffix begins behind the first dot."""
    for tar, member in tar_members(path):
        folder, slash, last = member.name.rpartition("/")
        stem, _, suffix = last.partition(".")
        body = tar.extractfile(member)
        yield folder + slash + stem, suffix, b"" if body is None else body.read()


def tar_members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield a tar and its files, one by one.

    Raises:
        ValueError: where it is damaged or cut, or if it is no tar.
    """
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
                if not member.isreg():
                    continue
                if member.size > size - member.offset_data:  # cut, or a sparse file, which may claim anything
                    raise tarfile.ReadError(f"{member.name} is not whole")
                yield tar, member
            with path.open("rb") as file:
                file.seek(tar.offset)
                if file.read(512) != bytes(512):  # tarfile takes a damaged header for the end
                    raise tarfile.ReadError("no end of archive")
    except tarfile.TarError as error:
        raise ValueError(f"{path}: damaged, or cut, or no tar file: {error}") from None


def _code(sample: _Sample, codec: Codec, quality: float | None) -> list[tuple[str, bytes]]:
    """Return the parts of a sample: its signal coded, what else there is as it was.

    A suffix of several words, as of key.mask.png, is no signal's: what it holds may not bear a loss.
    """
    suffixes = {"cdm", *(suffix[1:] for suffix in files.SUFFIXES[codec.kind])}
    signals = [suffix for suffix, _ in sample.parts if suffix.lower() in suffixes]
    if len(signals) > 1:
        raise ValueError(f"expected one {codec.kind} in a sample; found {' and '.join(signals)}")
    coded = []
    for suffix, content in sample.parts:
        data = content.read_bytes() if isinstance(content, Path) else content
        if suffix in signals and suffix != "cdm":
            if codec.kind == "image":
                data = files.encode_picture(data, codec, quality)[0]
            else:
                data = files.encode_sound(data, codec, quality)[0]
            suffix = "cdm"
        coded.append((suffix, data))
    return coded
