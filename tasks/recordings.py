"""Recordings: random crops from any folder of sound, with bounded memory."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
import soundfile
import torch
from codomain.codecs.sound import FORMATS
from codomain.tasks.labelled import stream_seed
from jaxtyping import Float, Int16
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torchaudio.functional import resample

TABLE_CROPS = 256  # more would only fill the memory
PIECE = 30  # seconds of a recording read at a time


class Piece(NamedTuple):
    """Part of a file, in its own sample frames."""

    path: Path
    start: int
    stop: int


class Recordings(L.LightningDataModule):
    """Batches of float32 crops in [-1, 1], (b, channels, crop).

    One recording in ``1 / val_share`` is for validation, chosen by a hash of its name, so the split does
    not change when recordings are added.

    Args:
        root: a folder; subfolders are searched.
        crop: length of a training crop, sample frames.
        val_crop: length of a validation crop, from the middle of every half minute of a recording.
        batch_size: crops a step.
        channels: 1 or 2; mono recordings are doubled, more channels than asked for are averaged.
        sample_rate: Hz, to which recordings are resampled; by default each keeps its own.
        group: regular expression; what it finds in a name decides on which side of the split a recording is, in place
            of the whole name: ``^[^-]+`` for names that begin with a speaker.
        augment: whether training crops have a gain of -6 to 0 dB, channels swapped, signs flipped, all at random.
        workers: processes that draw crops, each from its own recordings; 0 draws them in this one.
        memory_mb: decoded sound kept, by all workers together; a larger folder passes through this window.
        val_share: share kept for validation.
        seed: of the order and the crops.

    Raises:
        ValueError: for a folder without sound, a file that cannot be read, another number of channels.
    """

    def __init__(
        self,
        root: str,
        crop: int = 32768,
        val_crop: int = 131072,
        batch_size: int = 8,
        channels: int = 2,
        sample_rate: int | None = None,
        group: str | None = None,
        augment: bool = True,
        workers: int = 0,
        memory_mb: int = 1500,
        val_share: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if channels not in (1, 2):
            raise ValueError(f"channels is 1 or 2; found {channels}")
        self.crop, self.val_crop, self.batch_size, self.augment = crop, val_crop, batch_size, augment
        self.channels, self.sample_rate = channels, sample_rate
        self.workers, self.memory_mb, self.seed = workers, memory_mb, seed
        files = sorted(p for p in Path(root).rglob("*") if p.suffix.lower() in FORMATS)
        if not files:
            raise ValueError(f"{root}: found no sound ({' '.join(sorted(FORMATS))})")
        held = {p for p in files if zlib.crc32(_group(p, group).encode()) % 1000 < 1000 * val_share}
        self.train_files = [p for p in files if p not in held] or files
        self.val_files = [p for p in files if p in held] or files[:1]

    def train_dataloader(self) -> DataLoader[Tensor]:
        """An endless stream; a resumed run sees other crops than its beginning did."""
        seed = stream_seed(self, self.seed)
        memory = (self.memory_mb << 20) // max(1, self.workers)
        crops = _RandomCrops(
            pieces(self.train_files), self.crop, self.channels, self.sample_rate, self.augment, memory, seed
        )
        return DataLoader(
            crops, batch_size=self.batch_size, num_workers=self.workers, pin_memory=torch.cuda.is_available()
        )

    def table_dataloader(self) -> DataLoader[Tensor]:
        """Up to `TABLE_CROPS` crops, one from each of pieces all over the recordings, as loud as they are: what the
        coder's tables are counted on.
        """
        parts = pieces(self.train_files)
        parts = parts[:: -(-len(parts) // TABLE_CROPS)]
        return DataLoader(_MiddleCrops(parts, 2 * self.val_crop, self.channels, self.sample_rate), batch_size=1)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """One crop of each piece of each validation recording."""
        crops = _MiddleCrops(pieces(self.val_files), self.val_crop, self.channels, self.sample_rate)
        return DataLoader(crops, batch_size=self.batch_size)


def pieces(files: list[Path]) -> list[Piece]:
    """Cut recordings into pieces of about `PIECE` seconds.

    Raises:
        ValueError: for a file that cannot be read, or holds nothing.
    """
    parts = []
    for path in files:
        try:
            info = soundfile.info(path)
        except (soundfile.SoundFileError, OSError) as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
        if info.frames == 0:
            raise ValueError(f"{path}: holds no samples")
        n = max(1, round(info.frames / (PIECE * info.samplerate)))
        ends = [info.frames * i // n for i in range(n + 1)]
        parts += [Piece(path, start, stop) for start, stop in pairwise(ends)]
    return parts


class _RandomCrops(IterableDataset[Tensor]):
    """Crops, drawn in proportion to the length of their pieces, which are kept at 16 bits."""

    def __init__(
        self,
        parts: list[Piece],
        crop: int,
        channels: int,
        sample_rate: int | None,
        augment: bool,
        memory: int,
        seed: int,
    ) -> None:
        self.parts, self.crop, self.channels, self.sample_rate = parts, crop, channels, sample_rate
        self.augment, self.memory, self.seed = augment, memory, seed

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        rng = np.random.default_rng(self.seed if worker is None else (self.seed, worker.id))
        order = rng.permutation(len(self.parts)).tolist()
        window: list[np.ndarray] = []
        turn = held = 0
        while turn < len(order) and (held < self.memory or not window):
            window.append(self._read(order[turn]))
            held += window[-1].nbytes
            turn += 1
        whole = turn == len(order)
        drawn = 0
        while True:
            lengths = np.array([sound.shape[1] for sound in window], dtype=np.float64)
            for index in rng.choice(len(window), 256, p=lengths / lengths.sum()):
                sound = window[index]
                start = int(rng.integers(0, sound.shape[1] - self.crop + 1))
                crop = torch.from_numpy(sound[:, start : start + self.crop].astype(np.float32)) / 32767
                if self.augment:
                    gain, (swap, flip) = 10 ** (rng.uniform(-6, 0) / 20), rng.integers(0, 2, 2)
                    crop = (crop.flip(0) if swap else crop) * (-gain if flip else gain)
                yield crop
            drawn += 1
            if not whole:  # the window moves: the oldest piece makes room for the next
                window[drawn % len(window)] = self._read(order[turn % len(order)])
                turn += 1

    def _read(self, index: int) -> Int16[np.ndarray, "c t"]:
        sound = _read(self.parts[index], self.channels, self.sample_rate, self.crop)
        return (sound * 32767).round().to(torch.int16).numpy()


class _MiddleCrops(Dataset[Tensor]):
    def __init__(self, parts: list[Piece], crop: int, channels: int, sample_rate: int | None) -> None:
        self.parts, self.crop, self.channels, self.sample_rate = parts, crop, channels, sample_rate

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Tensor:
        sound = _read(self.parts[index], self.channels, self.sample_rate, self.crop)
        start = (sound.shape[1] - self.crop) // 2
        return sound[:, start : start + self.crop]


def _read(part: Piece, channels: int, sample_rate: int | None, least: int) -> Float[Tensor, "c t"]:
    """A piece in [-1, 1]; silence follows one that is shorter than ``least``."""
    try:
        samples, rate = soundfile.read(part.path, part.stop - part.start, part.start, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{part.path}: {' '.join(str(error).split())}") from None
    sound = torch.from_numpy(samples.T)
    if len(sound) != channels:
        sound = sound.mean(0, keepdim=True).expand(channels, -1)
    if sample_rate is not None and rate != sample_rate:
        sound = resample(sound, rate, sample_rate)
    sound = sound.clamp(-1, 1)  # codecs and resampling overshoot
    return torch.nn.functional.pad(sound, (0, max(0, least - sound.shape[1]))).contiguous()


def _group(path: Path, group: str | None) -> str:
    found = re.search(group, path.name) if group else None
    return found[0] if found else path.name
