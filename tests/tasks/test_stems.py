from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from codomain.tasks.labelled import chance
from codomain.tasks.songs import read_sound
from codomain.tasks.stem_waves import StemWaves
from codomain.tasks.stems import Mixed

SMALL = {"crop": 64, "val_crop": 100, "val_excerpts": 2, "batch_size": 4, "val_share": 0.4}


def test_whole_songs_are_held_out(stems: Path, stem_files: Path) -> None:
    data = StemWaves(stems, **SMALL)
    train, val = ([song.name for song in part] for part in (data.train_songs, data.val_songs))
    assert val == [f"song{i}" for i in range(8) if chance(f"song{i}") < 0.4]
    assert train and val and sorted(train + val) == [f"song{i}" for i in range(8)]
    seen = {place.song.name for place in data.excerpts}
    assert seen == set(val) and len(data.excerpts) == 2 * len(val)
    assert all(0 <= place.start <= place.song.cells - 100 for place in data.excerpts)


def test_windows_are_of_one_place_of_all_files(stems: Path) -> None:
    data = StemWaves(stems, **SMALL)
    stream = data.train_dataloader()
    first, second = islice(stream, 2)
    assert first.x.shape == (4, 4, 2, 64 * 256) and first.sounds is None and first.quality == (0,) * 16
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.x, next(iter(data.train_dataloader())).x)  # the same seed, the same windows
    sums = first.x[:, 1:].sum(1)
    assert torch.allclose(sums, first.x[:, 0], atol=1e-6) and float(sums.abs().amax((1, 2)).min()) > 0.01
    mixed = data.on_after_batch_transfer(first, 0)
    assert torch.allclose(mixed.y.sum(1), mixed.x, atol=1e-4)
    whole = {song.name: read_sound(song.files[0], 0, 2 * 44100) for song in data.train_songs}
    for window in first.x[:, 0]:
        found = [
            float((sound.unfold(1, 64 * 256, 256).transpose(0, 1) - window).abs().amax((1, 2)).min())
            for sound in whole.values()
        ]
        assert sorted(found)[0] == 0 < sorted(found)[1]


def test_remixed_stems_are_of_several_songs() -> None:
    data = StemWaves.__new__(StemWaves)
    data.remix = 0.5
    y = torch.arange(1.0, 65)[:, None, None, None] + torch.arange(3)[:, None, None] * 100  # says window and stem
    mixed = Mixed(torch.full((64, 1, 1), -1.0), y, (0,) * 64, None)
    new = data.remixed(mixed)
    kept = (new.y == y).all(1)[:, 0, 0]
    assert 15 < int(kept.sum()) < 50
    assert torch.equal(new.x[kept], mixed.x[kept])
    assert torch.allclose(new.x[~kept], new.y[~kept].sum(1))
    gains = new.y[~kept].abs().flatten(1) / y[~kept].flatten(1)
    assert float((new.y[~kept] < 0).float().mean()) == pytest.approx(0.5, abs=0.15)
    assert float(gains[:, 1:].max()) < 3 and float(gains[:, 1:].min()) > 0.3  # within 6 dB, of other windows


def test_samples_are_of_all_songs(stems: Path) -> None:
    data = StemWaves(stems, **SMALL)
    batches = list(data.samples())
    n = sum(len(batch.x) for batch in batches)
    assert n == sum(song.cells // 64 for song in data.train_songs) and batches[0].sounds is None


def test_bad_sizes(stems: Path) -> None:
    with pytest.raises(ValueError, match="8 songs for training and 0 for validation with val_share=0"):
        StemWaves(stems, **SMALL | {"val_share": 0.0})
    with pytest.raises(ValueError, match=r"song[0-7]: of 345 cells; expected 346 or more, a window"):
        StemWaves(stems, **SMALL | {"crop": 346})


def test_workers_draw_windows_of_their_own(stems: Path) -> None:
    first, second = islice(StemWaves(stems, **SMALL, workers=2).train_dataloader(), 2)
    assert first.x.shape == second.x.shape and not torch.equal(first.x, second.x)
