"""Labelled: files with classes, in folders or in shards, and the batches that a task learns from.

    ROOT/CLASS/.../name.cdm          a folder for each class
    ROOT/.../shard.tar               WebDataset: name.cdm and name.cls, the label, follow each other

A shard is read where it lies: its members are found once, then each by its offset.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lightning as L
import torch
from codomain.codecs.shards import tar_members
from codomain.tasks.learner import RANK
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Thing = TypeVar("Thing")
MIRRORED = {"none": (), "horizontal": (-1,), "both": (-1, -2)}  # axes of pictures
STATISTICS = 512  # training signals, evenly spaced, that mean and deviation are counted on


class Item(NamedTuple):
    """Where the bytes of one signal lie, and what it is of."""

    path: Path  # of the file, or of its shard
    offset: int
    size: int
    name: str  # within its shard, or the path
    label: int

    @property
    def key(self) -> str:
        """The name without folders and suffix, as `codomain encode --shards` writes it: what the split goes by."""
        return Path(self.name).stem.replace(".", "_")

    def __str__(self) -> str:
        return self.name if self.name == str(self.path) else f"{self.path}: {self.name}"

    def read(self) -> bytes:
        """Return the bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Raw(NamedTuple):
    """A batch as it is stored, before a device makes signals of it."""

    x: Shaped[Tensor, "b s *grid"]
    quality: tuple[int, ...]  # index of each signal's
    label: Int[Tensor, " b"]


class Stored(NamedTuple):
    """What a signal of validation is, in a file: bytes in the mean, and (d, *grid)."""

    n_bytes: float
    shape: tuple[int, ...]


class Batch(NamedTuple):
    """What a task is given."""

    x: Float[Tensor, "b d *grid"]
    label: Int[Tensor, " b"]


class Labelled(L.LightningDataModule):
    """Batches of signals with labels; subclasses read a signal, and make it floats on the device.

    The split is by a hash of the name without its suffix: it does not change when files are added, and is the same for
    the pictures that `.cdm` files were made of, unless two of a folder differ in their suffixes alone.

    Args:
        items, classes: of `find`.
        window: sides of a training signal, within which it is drawn at random, ``cell`` apart.
        whole: sides of a validation signal, the middle.
        cell: grain of random places, along each axis.
        batch_size: signals a step.
        workers: processes that read; 0 reads in this one.
        val_share: share kept for validation.
        cache: whether a process keeps what it has read.
        limit: of the training signals, take this many, evenly spaced.

    Raises:
        ValueError: for a class without training or validation files.
    """

    channels: int
    ndim: int

    def __init__(
        self,
        items: Sequence[Item],
        classes: Sequence[str],
        *,
        window: Sequence[int],
        whole: Sequence[int],
        cell: int,
        batch_size: int,
        workers: int,
        val_share: float,
        cache: bool,
        limit: int | None,
    ) -> None:
        super().__init__()
        self.classes, self.batch_size, self.workers, self.cache = list(classes), batch_size, workers, cache
        self.window, self.whole, self.cell = tuple(window), tuple(whole), cell
        self.mirrors: list[Callable[[Tensor], Tensor]] = []
        held = [chance(item.key) < val_share for item in items]
        self.val_items = [item for item, is_held in zip(items, held, strict=True) if is_held]
        self.train_items = [item for item, is_held in zip(items, held, strict=True) if not is_held]
        for part, found in (("training", self.train_items), ("validation", self.val_items)):
            lacking = [classes[i] for i in sorted(set(range(len(classes))) - {item.label for item in found})]
            if lacking:
                raise ValueError(f"no {part} files of class {', '.join(lacking)} with val_share={val_share:g}")
        if limit is not None:
            self.train_items = spaced(self.train_items, limit)

    def read(self, data: bytes) -> tuple[Shaped[Tensor, s * grid], int]:
        """Return a stored signal, and its quality index; in a worker."""
        raise NotImplementedError

    def to_signal(self, x: Shaped[Tensor, "b s *grid"], quality: tuple[int, ...]) -> Float[Tensor, "b d *grid"]:
        """Return what a task is given of stored signals; on the device."""
        raise NotImplementedError

    def augment_signal(self, x: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b d *grid"]:
        """Mirror every other training signal, along each axis; on the device."""
        for mirror in self.mirrors:
            chosen = torch.rand(len(x), device=x.device) < 0.5
            x = torch.where(chosen.reshape(-1, *[1] * (x.dim() - 1)), mirror(x), x)
        return x

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint must know to make signals of files: numbers and words."""
        raise NotImplementedError

    def stored(self, jpeg: int) -> Stored:
        """Return what a signal is in a file, of those as JPEG that are none: of this quality."""
        return Stored(sum(item.size for item in self.val_items) / len(self.val_items), (self.channels, *self.whole))

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of `Raw`, in another order every epoch."""
        return self._loader(self.train_items, self.window, True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The middle of every validation signal."""
        return self._loader(self.val_items, self.whole, False)

    def on_after_batch_transfer(self, batch: Raw, dataloader_idx: int) -> Batch:
        """Make signals of stored ones, and change those for training."""
        x = self.to_signal(batch.x, batch.quality)
        training = self.trainer is not None and self.trainer.training
        return Batch(self.augment_signal(x) if training else x, batch.label)

    @torch.no_grad()
    def statistics(self) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Return mean and standard deviation of each channel, of up to `STATISTICS` training signals."""
        batches = self._loader(spaced(self.train_items, STATISTICS), self.whole, False)
        sums, n = torch.zeros(2, self.channels, dtype=torch.float64), 0
        for batch in batches:
            rows = self.to_signal(batch.x, batch.quality).movedim(1, -1).flatten(0, -2).double()
            sums += torch.stack([rows.sum(0), rows.square().sum(0)])
            n += len(rows)
        mean, square = sums / n
        return mean.float(), (square - mean**2).clamp_min(1e-12).sqrt().float()

    def _loader(self, items: Sequence[Item], window: tuple[int, ...], random: bool) -> DataLoader[Any]:
        return DataLoader(
            _Signals(items, self.read, window, self.cell if random else 0, self.cache),
            batch_size=self.batch_size,
            shuffle=random,
            drop_last=random and len(items) >= self.batch_size,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
        )


class _Signals(Dataset[tuple[Tensor, int, int]]):
    """Signals cut to a window, see `cut`."""

    def __init__(
        self,
        items: Sequence[Item],
        read: Callable[[bytes], tuple[Tensor, int]],
        window: tuple[int, ...],
        cell: int,
        cache: bool,
    ) -> None:
        self.items, self.read, self.window, self.cell = items, read, window, cell
        self.kept: dict[int, tuple[Tensor, int]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        item = self.items[index]
        found = None if self.kept is None else self.kept.get(index)
        if found is None:
            try:
                found = self.read(item.read())
            except (ValueError, OSError) as error:
                raise ValueError(f"{item}: {error}") from None
            if self.kept is not None:
                self.kept[index] = found
        x, quality = found
        return cut(x, self.window, self.cell), quality, item.label


def find(root: Path, suffixes: Container[str]) -> tuple[list[Item], list[str]]:
    """Return the files of every class, sorted, and the names of the classes.

    Args:
        root: a folder of class folders, or a shard, or a folder of shards; beside them `dataset.json` may name the
            classes that labels count.
        suffixes: of the files.

    Raises:
        ValueError: without files; for files without a label, a class without files.
    """
    shards = [root] if root.suffix == ".tar" and root.is_file() else sorted(root.rglob("*.tar"))
    if shards:
        return _in_shards(root, shards, suffixes)
    fitting = (path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    paths = sorted(p for p in fitting if not any(part.startswith(".") for part in p.relative_to(root).parts))
    if not paths:
        raise ValueError(f"{root}: found no files to learn from ({_words(suffixes)}), and no shards")
    loose = [str(path) for path in paths if path.parent == root]
    if loose:
        raise ValueError(f"no labels: {_some(loose)} in no class folder of {root}")
    of_class = {path: path.relative_to(root).parts[0] for path in paths}
    classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    empty = sorted(set(classes) - set(of_class.values()))
    if empty:
        raise ValueError(f"{root}: no files ({_words(suffixes)}) in class {', '.join(empty)}")
    items = [Item(p, 0, p.stat().st_size, str(p), classes.index(name)) for p, name in of_class.items()]
    return items, classes


def _in_shards(root: Path, shards: Sequence[Path], suffixes: Container[str]) -> tuple[list[Item], list[str]]:
    found: list[tuple[Item, str]] = []
    lacking: list[str] = []
    for shard in shards:
        labels, items = {}, []
        for tar, member in tar_members(shard):
            folder, _, last = member.name.rpartition("/")
            stem, _, suffix = last.partition(".")
            key = f"{folder}/{stem}"
            if suffix == "cls":
                file = tar.extractfile(member)
                labels[key] = "" if file is None else file.read(256).decode(errors="replace").strip()
            elif f".{suffix.lower()}" in suffixes:
                items.append((key, Item(shard, member.offset_data, member.size, member.name, -1)))
        found += [(item, labels[key]) for key, item in items if labels.get(key)]
        lacking += [str(item) for key, item in items if not labels.get(key)]
    if lacking:
        raise ValueError(f"no labels (.cls): {_some(lacking)}")
    if not found:
        raise ValueError(f"{shards[0]}: found no files to learn from ({_words(suffixes)})")
    named = _class_names(shards[0].parent)
    found = [(item, named.get(label, label)) for item, label in found]
    names = {label for _, label in found}
    empty = sorted(set(named.values()) - names)
    if empty and root.is_dir():
        raise ValueError(f"{root}: no files ({_words(suffixes)}) in class {', '.join(empty)}")
    classes = sorted(names, key=(lambda name: (int(name), name)) if all(map(str.isdecimal, names)) else None)
    return [item._replace(label=classes.index(label)) for item, label in found], classes


def _class_names(folder: Path) -> dict[str, str]:
    """Return the names that the labels of shards stand for, where `codomain encode --shards` has left them."""
    try:
        classes = json.loads((folder / "dataset.json").read_text())["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {str(i): str(name) for i, name in enumerate(classes)}


def cut(x: Shaped[Tensor, s * _], window: Sequence[int], cell: int = 0) -> Shaped[Tensor, s * w]:
    """Return a window of a signal: at a random place in steps of ``cell``, or the middle for 0; zeros where it ends."""
    spare = [n - size for n, size in zip(x.shape[1:], window, strict=True)]
    if min(spare) < 0:
        pads = [m for n in reversed(spare) for m in (max(0, -n // 2), max(0, -n - -n // 2))]
        x, spare = torch.nn.functional.pad(x, pads), [max(0, n) for n in spare]
    if cell:
        places = [
            int(share * (n // cell + 1)) * cell for share, n in zip(torch.rand(len(spare)).tolist(), spare, strict=True)
        ]
    else:
        places = [n // 2 for n in spare]
    for axis, (at, size) in enumerate(zip(places, window, strict=True), 1):
        x = x.narrow(axis, at, size)
    return x


def usual(sizes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the most frequent sides; of equally frequent ones those in the middle."""
    counts = Counter(sizes)
    found = sorted(size for size, n in counts.items() if n == max(counts.values()))
    return found[(len(found) - 1) // 2]


def stream_seed(data: L.LightningDataModule, seed: int) -> int:
    """Return the seed of an endless stream: each rank's is its own, and so is that of a run which is resumed."""
    trainer = data.trainer
    return seed if trainer is None else seed + trainer.global_step + RANK * trainer.global_rank


def chance(key: str) -> float:
    """Return a number in [0, 1) that splits go by, of a name; a CRC would give like names like numbers."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32


def spaced(items: Sequence[Thing], n: int) -> list[Thing]:
    """Return up to ``n`` items, evenly spaced, so that classes keep their shares."""
    return [items[i * len(items) // min(n, len(items))] for i in range(min(n, len(items)))]


def _collate(samples: Sequence[tuple[Tensor, int, int]]) -> Raw:
    x, quality, label = zip(*samples, strict=True)
    return Raw(torch.stack(x), quality, torch.tensor(label))


def _words(suffixes: Any) -> str:
    return " ".join(sorted(suffixes))


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} files ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
