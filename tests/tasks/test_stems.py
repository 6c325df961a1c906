from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codomain.tasks.labelled import chance
from codomain.tasks.stem_waves import StemWaves
from codomain.tasks.stems import MIXTURE, Mixed, check_forms, find, form_of, read_sound

SMALL = {"crop": 64, "val_crop": 100, "val_excerpts": 2, "batch_size": 4, "val_share": 0.4}


def test_songs_are_found(stems: Path, tmp_path: Path) -> None:
    songs, names = find(stems, {".flac"})
    assert names == ["bass", "drums", "other"]
    assert [song.name for song in songs] == [f"song{i}" for i in range(8)]
    assert [path.stem for path in songs[3].files] == [MIXTURE, *names]
    shutil.copytree(stems / "song0", tmp_path / "deep" / "down" / "song0")
    shutil.copytree(stems / "song0", tmp_path / ".song1-x.part")  # what a rendering has not finished
    assert [song.name for song in find(tmp_path, {".flac"})[0]] == ["song0"]


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


def test_silence_follows_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((100, 2), 0.5), 8000, subtype="FLOAT")
    x = read_sound(tmp_path / "a.wav", 90, 120)
    assert x.shape == (2, 30) and float(x[:, :10].min()) == 0.5 and not x[:, 10:].any()
    assert not read_sound(tmp_path / "a.wav", 200, 210).any()
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    for read in (form_of, lambda path: read_sound(path, 0, 1)):
        with pytest.raises(ValueError, match=r"b\.wav: "):
            read(tmp_path / "b.wav")


def test_bad_folders(stems: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no songs: expected a folder of stems and their mixture"):
        find(tmp_path, {".flac"})
    root = Path(shutil.copytree(stems, tmp_path / "songs"))
    shutil.copy(root / "song2" / "bass.flac", root / "song2" / "bass.wav")
    with pytest.raises(ValueError, match=r"song2: holds bass twice, bass\.flac and bass\.wav"):
        find(root, {".flac", ".wav"})
    (root / "song2" / "bass.flac").unlink()
    with pytest.raises(
        ValueError, match="song2: has the stems drums, other; expected bass, drums, other, as song0 has"
    ):
        find(root, {".flac"})
    (root / "song0" / "mixture.flac").unlink()
    with pytest.raises(ValueError, match="song0: holds bass, drums, other; expected mixture too"):
        find(root, {".flac"})
    shutil.copytree(stems / "song0", tmp_path / "a" / "song")
    shutil.copytree(stems / "song0", tmp_path / "b" / "song")
    shutil.rmtree(root)
    with pytest.raises(ValueError, match="two songs are named song"):
        find(tmp_path, {".flac"})
    for name in ("drums", "other"):
        (tmp_path / "a" / "song" / f"{name}.flac").unlink()
    with pytest.raises(ValueError, match="song: has the stems bass; expected two or more"):
        find(tmp_path, {".flac"})


def test_bad_sizes(stems: Path) -> None:
    with pytest.raises(ValueError, match="8 songs for training and 0 for validation with val_share=0"):
        StemWaves(stems, **SMALL | {"val_share": 0.0})
    with pytest.raises(ValueError, match=r"song[0-7]: of 345 cells; expected 346 or more, a window"):
        StemWaves(stems, **SMALL | {"crop": 346})
    song = find(stems, {".flac"})[0][0]
    with pytest.raises(ValueError, match=r"bass\.flac: 2 channels of 9 samples at 8 Hz; mixture\.flac beside it: .*10"):
        check_forms(song, [(2, 10, 8), (2, 9, 8), (2, 10, 8), (2, 10, 8)], None)
    with pytest.raises(ValueError, match=r"mixture\.flac: 2 channels .* 8 Hz; other songs are of 2 channels at 9 Hz"):
        check_forms(song, [(2, 10, 8)] * 4, (2, 9))


def test_workers_draw_windows_of_their_own(stems: Path) -> None:
    first, second = islice(StemWaves(stems, **SMALL, workers=2).train_dataloader(), 2)
    assert first.x.shape == second.x.shape and not torch.equal(first.x, second.x)
