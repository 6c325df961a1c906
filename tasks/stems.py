"""Stems: windows of mixtures and of their stems, at the same place of a song: the batches that `separate` learns from.

Whole songs are kept for validation, by a hash of their names: the same songs of `.cdm` files as of the sound that they
were made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import lightning as L
import torch
from codomain.tasks.labelled import Stored, chance, spaced, stream_seed
from codomain.tasks.songs import Song
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

STATISTICS = 64  # training windows, evenly spaced, that a task may count on


class Place(NamedTuple):
    """Where a window is."""

    song: Song
    start: int  # cells


class Raw(NamedTuple):
    """Windows as they are stored, of the mixture and the stems, before a device makes signals of them."""

    x: Shaped[Tensor, "b f s n"]
    quality: tuple[int, ...]  # index of each file's, b * f
    sounds: Float[Tensor, "b k c t"] | None  # the stems as they were recorded; in validation alone


class Mixed(NamedTuple):
    """What a task is given."""

    x: Float[Tensor, "b d n"]  # the mixture
    y: Float[Tensor, "b k d n"]  # the stems
    quality: tuple[int, ...]  # of each mixture
    sounds: Float[Tensor, "b k c t"] | None


class Stems(L.LightningDataModule):
    """Batches of `Mixed`; subclasses read windows, and make signals of them on the device, and sound of signals.

    Args:
        songs, stems: of `songs.find`, the songs with their lengths.
        crop, val_crop: length of a window, cells.
        val_excerpts: evenly spaced windows of each validation song.
        batch_size: windows a step.
        remix: share of training windows whose stems are of several songs of the batch, with gains of -6 to 6 dB and
            signs at random, and their sum for a mixture.
        workers: processes that read; 0 reads in this one.
        val_share: share of the songs kept for validation.
        seed: of the places of training windows.

    Attributes:
        channels: of a signal.
        cell: samples a cell.

    Raises:
        ValueError: without songs on either side, for a song shorter than a window.
    """

    channels: int
    cell: int

    def __init__(
        self,
        songs: Sequence[Song],
        stems: Sequence[str],
        *,
        crop: int,
        val_crop: int,
        val_excerpts: int,
        batch_size: int,
        remix: float,
        workers: int,
        val_share: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.stems, self.crop, self.val_crop = list(stems), crop, val_crop
        self.batch_size, self.remix, self.workers, self.seed = batch_size, remix, workers, seed
        self.val_songs = [song for song in songs if chance(song.name) < val_share]
        self.train_songs = [song for song in songs if song not in self.val_songs]
        if not self.val_songs or not self.train_songs:
            raise ValueError(
                f"found {len(self.train_songs)} songs for training and {len(self.val_songs)} for validation with "
                f"val_share={val_share:g}; expected one of each at least"
            )
        for part, length in ((self.train_songs, crop), (self.val_songs, val_crop)):
            for song in part:
                if song.cells < length:
                    raise ValueError(f"{song.name}: of {song.cells} cells; expected {length} or more, a window")
        self.excerpts = [
            Place(song, (2 * i + 1) * song.cells // (2 * val_excerpts) - val_crop // 2)
            for song in self.val_songs
            for i in range(val_excerpts)
        ]
        self.excerpts = [
            place._replace(start=max(0, min(place.start, place.song.cells - val_crop))) for place in self.excerpts
        ]

    def read(self, path: Path, start: int, stop: int) -> tuple[Shaped[Tensor, "s n"], int]:
        """Return cells [start, stop) of a file as they are stored, and its quality index; in a worker."""
        raise NotImplementedError

    def read_sounds(self, place: Place) -> Float[Tensor, "k c t"]:
        """Return the recorded stems of a validation window, float32 in [-1, 1]; in a worker."""
        raise NotImplementedError

    def to_signals(self, x: Shaped[Tensor, "b s n"], quality: tuple[int, ...]) -> Float[Tensor, "b d m"]:
        """Return what a task is given of stored windows; on the device."""
        raise NotImplementedError

    def to_sound(self, y: Float[Tensor, "b d m"], quality: tuple[int, ...]) -> Float[Tensor, "b c t"]:
        """Return the waveforms of signals, in [-1, 1]."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint must know to make signals of files: numbers and words."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader[Any]:
        """An endless stream of windows at random places; a resumed run sees others than its beginning did."""
        seed = stream_seed(self, self.seed)
        return self._loader(_Random(self, seed), self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """The excerpts of the validation songs, one at a time."""
        return self._loader(_Windows(self, self.excerpts, self.val_crop, with_sounds=True), 1)

    def samples(self) -> Iterator[Mixed]:
        """Yield up to `STATISTICS` training windows, evenly spaced."""
        places = [Place(song, i) for song in self.train_songs for i in range(0, song.cells - self.crop + 1, self.crop)]
        for raw in self._loader(_Windows(self, spaced(places, STATISTICS), self.crop), self.batch_size):
            yield self.to_mixed(raw)

    def stored(self, jpeg: int) -> Stored:
        """Return what a validation window of a mixture is in its song's file."""
        n_bytes = sum(song.files[0].stat().st_size for song in self.val_songs)
        cells = sum(song.cells for song in self.val_songs)
        return Stored(n_bytes / cells * self.val_crop, (self.channels, self.val_crop))

    def on_after_batch_transfer(self, batch: Raw, dataloader_idx: int) -> Mixed:
        """Make signals of stored windows, and change those for training."""
        mixed = self.to_mixed(batch)
        training = self.trainer is not None and self.trainer.training
        return self.remixed(mixed) if training else mixed

    def remixed(self, mixed: Mixed) -> Mixed:
        """Put new mixtures in place of some: signals are linear in the waveform.

        Source: Uhlich et al., "Improving music source separation based on deep neural networks through data
        augmentation and network blending", 2017.
        """
        b, k = mixed.y.shape[:2]
        y = torch.stack([mixed.y[torch.randperm(b), i] for i in range(k)], 1)
        gains = 10 ** (0.6 * torch.rand(b, k, 1, 1) - 0.3) * (2 * torch.randint(2, (b, k, 1, 1)) - 1)
        y = y * gains.to(y)
        chosen = (torch.rand(b, 1, 1) < self.remix).to(y.device)
        return mixed._replace(x=torch.where(chosen, y.sum(1), mixed.x), y=torch.where(chosen[:, None], y, mixed.y))

    @torch.no_grad()
    def to_mixed(self, raw: Raw) -> Mixed:
        """Return what a task is given."""
        files = raw.x.shape[1]
        y = self.to_signals(raw.x.flatten(0, 1), raw.quality).unflatten(0, (-1, files))
        return Mixed(y[:, 0], y[:, 1:], raw.quality[::files], raw.sounds)

    def _loader(self, windows: Dataset[Any], batch_size: int) -> DataLoader[Any]:
        return DataLoader(
            windows,
            batch_size=batch_size,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
        )


class _Windows(Dataset[Raw]):
    """Windows at places that are given."""

    def __init__(self, data: Stems, places: Sequence[Place], length: int, with_sounds: bool = False) -> None:
        self.data, self.places, self.length, self.with_sounds = data, places, length, with_sounds

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Raw:
        place = self.places[index]
        parts, quality = [], []
        for path in place.song.files:
            part, of_file = self.data.read(path, place.start, place.start + self.length)
            parts.append(part)
            quality.append(of_file)
        sounds = self.data.read_sounds(place)[None] if self.with_sounds else None
        return Raw(torch.stack(parts)[None], tuple(quality), sounds)


class _Random(IterableDataset[Raw]):
    """Windows at random places, of songs in proportion to their lengths."""

    def __init__(self, data: Stems, seed: int) -> None:
        self.data, self.seed = data, seed

    def __iter__(self) -> Iterator[Raw]:
        worker = get_worker_info()
        rng = Random(f"{self.seed} {worker.id if worker else 0}")
        songs, crop = self.data.train_songs, self.data.crop
        weights = [song.cells - crop + 1 for song in songs]
        while True:
            (song,) = rng.choices(songs, weights)
            yield _Windows(self.data, [Place(song, rng.randrange(song.cells - crop + 1))], crop)[0]


def _collate(raws: Sequence[Raw]) -> Raw:
    sounds = [raw.sounds for raw in raws if raw.sounds is not None]
    quality = tuple(index for raw in raws for index in raw.quality)
    return Raw(torch.cat([raw.x for raw in raws]), quality, torch.cat(sounds) if sounds else None)
