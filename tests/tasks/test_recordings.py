from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codomain.tasks.recordings import PIECE, Recordings, pieces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    names = ["1-a.wav", "1-b.flac", "2-a.ogg", "2-b.aiff", "3-a.mp3", "3-b.opus", "4-a.wav"]
    for i, name in enumerate(names):
        (tmp_path / f"sub{i % 2}").mkdir(exist_ok=True)
        rate = 48000 if name.endswith("opus") else (8000, 16000)[i % 2]
        samples = rng.uniform(-1, 1, (rate, 2)) if i else rng.uniform(-1, 1, rate)  # the first is mono
        options = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
        soundfile.write(tmp_path / f"sub{i % 2}" / name, samples, rate, **options)
    return tmp_path


def test_crops(folder: Path) -> None:
    data = Recordings(str(folder), crop=512, val_crop=1024, batch_size=64, val_share=0.5)
    batches = iter(data.train_dataloader())
    batch = next(batches)
    assert batch.shape == (64, 2, 512)
    assert batch.dtype == torch.float32
    assert -1 <= batch.min() < -0.9
    assert 0.9 < batch.max() <= 1
    assert not torch.equal(batch, next(batches))
    assert torch.equal(batch, next(iter(data.train_dataloader())))  # the same seed, the same crops
    assert next(iter(data.val_dataloader())).shape[1:] == (2, 1024)
    assert next(iter(data.table_dataloader())).shape == (1, 2, 2048)
    assert not set(data.train_files) & set(data.val_files)
    assert len(data.train_files) + len(data.val_files) == 7


def test_mono_is_doubled_stereo_averaged_and_the_middle_taken(tmp_path: Path) -> None:
    ramp = np.arange(-500, 500) / 1000
    soundfile.write(tmp_path / "mono.wav", ramp, 8000, subtype="FLOAT")
    crop = next(iter(Recordings(str(tmp_path), val_crop=100).val_dataloader()))[0]
    assert np.allclose(crop, np.tile(ramp[450:550], (2, 1)))
    soundfile.write(tmp_path / "mono.wav", np.stack((ramp, -3 * ramp[::-1]), 1) / 3, 8000, subtype="FLOAT")
    crop = next(iter(Recordings(str(tmp_path), val_crop=100, channels=1).val_dataloader()))[0]
    assert np.allclose(crop[0], (ramp - 3 * ramp[::-1])[450:550] / 6, atol=1e-6)


def test_augmentation_is_gain_swap_and_sign(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile([0.25, 0.5], (1000, 1)), 8000, subtype="FLOAT")
    plain = next(iter(Recordings(str(tmp_path), crop=4, batch_size=64, augment=False).train_dataloader()))
    assert np.allclose(plain, np.tile([[0.25], [0.5]], (64, 1, 4)), atol=2e-5)
    batch = next(iter(Recordings(str(tmp_path), crop=4, batch_size=64).train_dataloader()))[:, :, 0]
    ratio, loudest = batch[:, 0] / batch[:, 1], batch.abs().amax(1)
    assert ((ratio - 0.5).abs().minimum((ratio - 2).abs()) < 1e-3).all()
    assert 20 < (ratio < 1).sum() < 44
    assert 20 < (batch[:, 0] < 0).sum() < 44
    assert 0.25 <= loudest.min() < 0.28
    assert 0.47 < loudest.max() <= 0.5001


def test_resampling_keeps_the_pitch(tmp_path: Path) -> None:
    t = np.arange(16000) / 16000
    soundfile.write(tmp_path / "a.wav", np.sin(2 * np.pi * 440 * t) / 2, 16000)
    crop = next(iter(Recordings(str(tmp_path), val_crop=4000, sample_rate=8000).val_dataloader()))[0, 0]
    spectrum = np.abs(np.fft.rfft(crop.numpy() * np.hanning(4000)))
    assert spectrum.argmax() == 220  # bins of 2 Hz


def test_a_group_is_never_on_both_sides(tmp_path: Path) -> None:
    for speaker in range(20):
        for take in range(3):
            (tmp_path / f"{speaker}-{take}.wav").touch()
    data = Recordings(str(tmp_path), group="^[^-]+", val_share=0.3)
    train, val = ({p.name.split("-")[0] for p in files} for files in (data.train_files, data.val_files))
    assert len(train) + len(val) == 20
    assert 2 <= len(val) <= 10
    mixed = Recordings(str(tmp_path), val_share=0.3)  # by whole names: speakers are on both sides
    assert {p.name.split("-")[0] for p in mixed.train_files} & {p.name.split("-")[0] for p in mixed.val_files}


def test_a_folder_larger_than_memory_passes_through(folder: Path) -> None:
    data = Recordings(str(folder), crop=8000, batch_size=256, channels=1, memory_mb=0, val_share=0.0, augment=False)
    stream = iter(data.train_dataloader())
    first, second = next(stream)[0, 0], next(stream)[0, 0]
    assert not torch.equal(first, second)


def test_long_recordings_are_cut_and_short_ones_extended(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(100 * 1000), 1000, subtype="PCM_U8")
    soundfile.write(tmp_path / "short.wav", np.full(100, 0.5), 1000)
    parts = pieces(sorted(tmp_path.iterdir()))
    assert [(p.start, p.stop) for p in parts] == [(0, 33333), (33333, 66666), (66666, 100000), (0, 100)]
    assert max(p.stop - p.start for p in parts) <= 1.5 * PIECE * 1000
    (tmp_path / "long.wav").unlink()
    batch = next(iter(Recordings(str(tmp_path), crop=300, augment=False).train_dataloader()))
    assert batch[..., :100].min() > 0.49
    assert not batch[..., 100:].any()


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no sound"):
        Recordings(str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a\.wav: "):
        Recordings(str(tmp_path)).train_dataloader()
    with pytest.raises(ValueError, match="channels is 1 or 2; found 3"):
        Recordings(str(tmp_path), channels=3)


def test_workers_draw_crops_of_their_own(folder: Path) -> None:
    data = Recordings(str(folder), crop=64, batch_size=4, workers=2, val_share=0.0)
    stream = iter(data.train_dataloader())
    first, second = next(stream), next(stream)
    assert first.shape == second.shape == (4, 2, 64)
    assert not torch.equal(first, second)
