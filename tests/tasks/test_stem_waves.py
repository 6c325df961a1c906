from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codomain.tasks.stem_waves import StemWaves

SMALL = {"crop": 64, "val_crop": 100, "val_excerpts": 1, "batch_size": 4, "val_share": 0.4}


def test_coefficients_are_of_the_sound_that_comes_back(stems: Path) -> None:
    data = StemWaves(stems, **SMALL)
    assert (data.channels, data.cell) == (512, 256)
    raw = next(iter(data.val_dataloader()))
    mixed = data.to_mixed(raw)
    assert (mixed.x.shape, mixed.y.shape) == ((1, 512, 101), (1, 3, 512, 101))
    assert raw.sounds is not None and torch.equal(raw.sounds, raw.x[:, 1:])
    assert torch.allclose(data.to_sound(mixed.y[0], mixed.quality * 3), raw.sounds[0], atol=1e-5)
    assert float(mixed.x.square().sum()) == pytest.approx(float(raw.x[:, 0].square().sum()), rel=1e-4)


def test_songs_must_be_alike(stems: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(stems, tmp_path / "songs"))
    soundfile.write(root / "song3" / "other.flac", np.zeros((1000, 2)), 44100)
    with pytest.raises(ValueError, match=r"song3/other\.flac: 2 channels of 1000 samples at 44100 Hz; mixture\.flac"):
        StemWaves(root, **SMALL)
    for path in (root / "song3").iterdir():
        soundfile.write(path, np.zeros((88200, 1)), 44100)
    with pytest.raises(ValueError, match=r"song3/mixture\.flac: 1 channels .*; other songs are of 2 channels at 44100"):
        StemWaves(root, **SMALL)
