from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.tasks.photographs import Photographs
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(6):
        (tmp_path / f"sub{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (50 + i, 70, 3), np.uint8)).save(tmp_path / f"sub{i % 2}" / f"{i}.png")
    return tmp_path


def test_crops(folder: Path) -> None:
    data = Photographs(str(folder), crop=32, val_crop=40, batch_size=3, val_share=0.5)
    batches = iter(data.train_dataloader())
    batch = next(batches)
    assert batch.shape == (3, 3, 32, 32)
    assert -1 <= batch.min() < -0.9
    assert 0.9 < batch.max() <= 1
    assert not torch.equal(batch, next(batches))
    assert torch.equal(batch, next(iter(data.train_dataloader())))  # the same seed, the same crops
    assert next(iter(data.val_dataloader())).shape[1:] == (3, 40, 40)
    assert not set(data.train_files) & set(data.val_files)
    assert len(data.train_files) + len(data.val_files) == 6


def test_a_folder_larger_than_memory_passes_through(folder: Path) -> None:
    data = Photographs(str(folder), crop=32, batch_size=64, memory_mb=0, val_share=0.0)
    stream = iter(data.train_dataloader())
    assert all(next(stream).shape == (64, 3, 32, 32) for _ in range(1))


def test_small_photographs_are_enlarged(folder: Path) -> None:
    data = Photographs(str(folder), crop=64, batch_size=2)
    assert next(iter(data.train_dataloader())).shape == (2, 3, 64, 64)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no photographs"):
        Photographs(str(tmp_path))


def test_workers_draw_crops_of_their_own(folder: Path) -> None:
    data = Photographs(str(folder), crop=32, batch_size=4, workers=2, val_share=0.0)
    stream = iter(data.train_dataloader())
    first, second = next(stream), next(stream)
    assert first.shape == second.shape == (4, 3, 32, 32)
    assert not torch.equal(first, second)
    again = iter(data.train_dataloader())
    assert torch.equal(first, next(again))
    assert torch.equal(second, next(again))
