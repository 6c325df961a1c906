from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codomain.codecs.cli import main
from codomain.codecs.load import load
from codomain.tasks.songs import read_sound
from codomain.tasks.stem_latents import StemLatents
from codomain.tasks.stem_waves import StemWaves

MODEL = "walloc-stereo-5x"
SMALL = {"crop": 64, "val_crop": 100, "val_excerpts": 1, "batch_size": 4, "val_share": 0.4}


def test_windows_are_what_files_hold(stems: Path, stem_files: Path) -> None:
    data, codec = StemLatents(stem_files, stems, **SMALL), load(MODEL)
    assert (data.channels, data.cell, data.stems) == (108, 256, ["bass", "drums", "other"])
    raw = next(iter(data.val_dataloader()))
    mixed, place = data.on_after_batch_transfer(raw, 0), data.excerpts[0]
    assert raw.x.dtype == torch.int32 and raw.quality == (200,) * 4 and mixed.quality == (200,)
    whole = [codec.read_latents(path.read_bytes())[0] for path in place.song.files]
    expected = torch.stack(whole)[..., place.start : place.start + 100]
    assert torch.equal(torch.cat([mixed.x, mixed.y[0]]), expected)
    recorded = [stems / place.song.name / f"{name}.flac" for name in data.stems]
    first, last = 256 * place.start, 256 * (place.start + 100)
    assert raw.sounds is not None
    assert torch.equal(raw.sounds[0], torch.stack([read_sound(path, first, last) for path in recorded]))
    again = StemWaves(stems, **SMALL)
    assert [(p.song.name, p.start) for p in again.excerpts] == [(p.song.name, p.start) for p in data.excerpts]


def test_chunks_are_read_as_they_are_needed(stems: Path, tmp_path: Path) -> None:
    for i in (0, 1):
        (tmp_path / f"song{i}").mkdir()
        for path in (stems / f"song{i}").iterdir():
            samples, rate = soundfile.read(path, dtype="int16")
            soundfile.write(tmp_path / f"song{i}" / path.name, np.concatenate([samples] * 7), rate)
    assert main(["encode", str(tmp_path), "--model", MODEL]) == 0
    small = {"val_crop": 300, "val_excerpts": 1, "val_share": 0.4}
    data = StemLatents(tmp_path, crop=40, **small)
    path = data.train_songs[0].files[1]
    regions = data.layouts[path].regions
    assert len(regions) == 3 and data.layouts[path].grid == 2412
    whole, rates = load(MODEL).read_latents(path.read_bytes()), []
    for start, stop, chunks in ((10, 30, {0}), (800, 900, {0, 1}), (700, 2000, {0, 1, 2}), (2400, 2412, {2})):
        data.kept.clear()
        symbols, index = data.read(path, start, stop)
        assert {i for _, i in data.kept} == chunks
        assert torch.equal(data.to_signals(symbols[None], (index,)), whole[..., start:stop])
        rates.append(index)
    assert set(rates) == {200}
    data.kept.clear()
    data.room = 0
    again = data.read(path, 2400, 2412)[0]
    assert not data.kept and torch.equal(again, symbols)


def test_qualities_may_differ(stems: Path, stem_files: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(stem_files, tmp_path / "coded"))
    data = StemLatents(root, stems, **SMALL)
    place = data.excerpts[0]
    recorded = stems / place.song.name / "drums.flac"
    words = ["encode", str(recorded), str(place.song.files[2]), "--model", MODEL, "--quality", "70", "--force"]
    assert main(words) == 0
    data = StemLatents(root, stems, **SMALL)
    raw = next(iter(data.val_dataloader()))
    assert raw.quality == (200, 200, 280, 200)
    y = load(MODEL).read_latents(place.song.files[2].read_bytes())[0, :, place.start : place.start + 100]
    assert torch.equal(data.to_mixed(raw).y[0, 1], y)
    sound = data.to_sound(y[None], (280,))
    assert torch.equal(sound, load(MODEL).decode(y[None], quality=70.0))


def test_bad_files(stems: Path, stem_files: Path, latents: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(stem_files, tmp_path / "coded"))
    with pytest.raises(ValueError, match=r"expected the sound that bass\.cdm was encoded from.*--data\.originals"):
        StemLatents(root, **SMALL)
    sounds = Path(shutil.copytree(stems, tmp_path / "sounds"))
    held = StemLatents(root, stems, **SMALL).val_songs[0].name
    soundfile.write(sounds / held / "bass.flac", np.zeros((1000, 2)), 44100)
    with pytest.raises(ValueError, match=r"bass\.flac: .*bass\.cdm was encoded from other sound"):
        StemLatents(root, sounds, **SMALL)

    other = root / "song1" / "other.cdm"
    data = other.read_bytes()
    other.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(ValueError, match=r"song1/other\.cdm: chunk 1 of 1 is damaged"):
        StemLatents(root, stems, **SMALL)
    other.write_bytes(next(latents.rglob("*.cdm")).read_bytes())
    with pytest.raises(ValueError, match=r"song1/other\.cdm: holds image; expected sound"):
        StemLatents(root, stems, **SMALL)
    codec, x = load(MODEL), torch.randn(1, 2, 20000).clamp(-1, 1)
    other.write_bytes(codec.compress(x))
    with pytest.raises(ValueError, match=r"song1/other\.cdm: 2 channels of 20000 samples at 44100 Hz; mixture\.cdm"):
        StemLatents(root, stems, **SMALL)
    other.write_bytes(codec.compress(x[:, :1]))
    with pytest.raises(
        ValueError, match=r"song1/other\.cdm: 1 channels at 44100 Hz; expected those of walloc-stereo-5x"
    ):
        StemLatents(root, stems, **SMALL)
    words = ["encode", str(stems / "song1" / "other.flac"), str(other), "--model", "walloc-stereo-20x", "--force"]
    assert main(words) == 0
    with pytest.raises(ValueError, match=r"expected files of one model; found walloc-stereo-5x \(31 .*20x \(1 files"):
        StemLatents(root, stems, **SMALL)
    other.unlink()
    with pytest.raises(ValueError, match="song1: has the stems bass, drums; expected bass, drums, other, as song0 has"):
        StemLatents(root, stems, **SMALL)
