"""Photographs: random crops from any folder of pictures, with bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from codomain.tasks.labelled import stream_seed
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

TABLE_FILES = 256  # more would only fill the memory
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"}


class Photographs(L.LightningDataModule):
    """Batches of float32 crops in [-1, 1], (b, 3, crop, crop).

    One photograph in ``1 / val_share`` is for validation, chosen by a hash of its name, so the split does
    not change when photographs are added.

    Args:
        root: a folder; subfolders are searched.
        crop: side of a training crop, pixels.
        val_crop: side of a validation crop, from the middle of a photograph.
        batch_size: crops a step.
        workers: processes that draw crops, each from its own photographs; 0 draws them in this one.
        memory_mb: decoded photographs kept, by all workers together; a larger folder passes through this window.
        val_share: share kept for validation.
        seed: of the order and the crops.
    """

    def __init__(
        self,
        root: str | Path,
        crop: int = 128,
        val_crop: int = 256,
        batch_size: int = 8,
        workers: int = 0,
        memory_mb: int = 1500,
        val_share: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.crop, self.val_crop, self.batch_size = crop, val_crop, batch_size
        self.workers, self.memory_mb, self.seed = workers, memory_mb, seed
        files = sorted(p for p in Path(root).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"{root}: found no photographs ({' '.join(sorted(SUFFIXES))})")
        held = {p for p in files if zlib.crc32(p.name.encode()) % 1000 < 1000 * val_share}
        self.train_files = [p for p in files if p not in held] or files
        self.val_files = [p for p in files if p in held] or files[:1]

    def train_dataloader(self) -> DataLoader[Tensor]:
        """An endless stream; a resumed run sees other crops than its beginning did."""
        seed = stream_seed(self, self.seed)
        crops = _RandomCrops(self.train_files, self.crop, self.memory_mb // max(1, self.workers), seed)
        return DataLoader(
            crops, batch_size=self.batch_size, num_workers=self.workers, pin_memory=torch.cuda.is_available()
        )

    def table_dataloader(self) -> DataLoader[Tensor]:
        """The middle of up to `TABLE_FILES` photographs, upright: what the coder's tables are counted on.

        Crops that are turned, as in training, count worse tables: across and along are not alike in nature.
        """
        every = -(-len(self.train_files) // TABLE_FILES)
        return DataLoader(_MiddleCrops(self.train_files[::every], 2 * self.val_crop), batch_size=1)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """One crop of each validation photograph."""
        return DataLoader(_MiddleCrops(self.val_files, self.val_crop), batch_size=self.batch_size)


class _RandomCrops(IterableDataset[Tensor]):
    """Crops with random flips and transposition; photographs are drawn in proportion to their area."""

    def __init__(self, files: list[Path], crop: int, memory_mb: int, seed: int) -> None:
        self.files, self.crop, self.memory, self.seed = files, crop, memory_mb << 20, seed

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        rng = np.random.default_rng(self.seed if worker is None else (self.seed, worker.id))
        order = rng.permutation(len(self.files))
        window: list[np.ndarray] = []
        turn = held = 0
        while turn < len(order) and (held < self.memory or not window):
            window.append(_read(self.files[order[turn]], self.crop))
            held += window[-1].nbytes
            turn += 1
        whole = turn == len(order)
        drawn = 0
        while True:
            areas = np.array([picture[..., 0].size for picture in window], dtype=np.float64)
            for index in rng.choice(len(window), 256, p=areas / areas.sum()):
                picture = window[index]
                top, left = (int(rng.integers(0, n - self.crop + 1)) for n in picture.shape[:2])
                crop = picture[top : top + self.crop, left : left + self.crop]
                flips = rng.integers(0, 2, 3)
                crop = crop[:: 1 - 2 * flips[0], :: 1 - 2 * flips[1]]
                yield _to_signal(crop.transpose(1, 0, 2) if flips[2] else crop)
            drawn += 1
            if not whole:  # the window moves: the oldest photograph makes room for the next
                window[drawn % len(window)] = _read(self.files[order[turn % len(order)]], self.crop)
                turn += 1


class _MiddleCrops(Dataset[Tensor]):
    def __init__(self, files: list[Path], crop: int) -> None:
        self.files, self.crop = files, crop

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        picture = _read(self.files[index], self.crop)
        top, left = ((n - self.crop) // 2 for n in picture.shape[:2])
        return _to_signal(picture[top : top + self.crop, left : left + self.crop])


def _read(path: Path, least: int) -> np.ndarray:
    """A photograph as uint8 (h, w, 3), enlarged if a side is shorter than ``least``."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        short = min(rgb.size)
        if short < least:
            width, height = (max(least, round(n * least / short)) for n in rgb.size)
            rgb = rgb.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(rgb)


def _to_signal(picture: np.ndarray) -> Float[Tensor, "3 h w"]:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 127.5 - 1
