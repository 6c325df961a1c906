from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codomain.codecs.cli import main
from codomain.codecs.load import load
from codomain.tasks.latents import Latents, read_symbols

GOLDEN = Path(__file__).parents[1] / "data"
VAL = 0.4  # both classes of the fixture have some


def test_batches_are_what_files_hold(latents: Path) -> None:
    data = Latents(latents, batch_size=4, shift=0, val_share=VAL)
    assert (data.channels, data.ndim, data.classes, data.whole) == (12, 2, ["fine", "rough"], (6, 8))
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    expected = [load("walloc-rgb-16x").read_latents(item.read()) for item in data.val_items[:4]]
    assert torch.equal(batch.x, torch.cat(expected))
    assert batch.label.tolist() == [item.label for item in data.val_items[:4]]
    raw = next(iter(data.train_dataloader()))
    assert raw.x.dtype == torch.int32 and raw.x.shape == (4, 12, 6, 8) and raw.quality == (200,) * 4
    assert data.describe() == {"codec": "walloc-rgb-16x", "digest": load("walloc-rgb-16x").digest.hex()}


def test_split_windows_and_statistics(latents: Path) -> None:
    data = Latents(latents, batch_size=4, shift=2, val_share=VAL, cache=True)
    again = Latents(latents, batch_size=4, shift=2, val_share=VAL)
    keys = {item.key for item in data.train_items}
    assert keys == {item.key for item in again.train_items}
    assert not keys & {item.key for item in data.val_items} and len(keys) + len(data.val_items) == 20
    loader = data.train_dataloader()
    torch.manual_seed(1)
    first = torch.cat([raw.x for raw in loader])
    assert first.shape[1:] == (12, 4, 6)
    torch.manual_seed(1)
    assert torch.equal(first, torch.cat([raw.x for raw in loader]))  # from the cache
    assert not torch.equal(first, torch.cat([raw.x for raw in loader]))
    mean, deviation = data.statistics()
    y = torch.cat([load("walloc-rgb-16x").read_latents(item.read()) for item in data.train_items])
    assert torch.allclose(mean, y.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(deviation, y.std((0, 2, 3)), rtol=1e-3)


def test_mirrors_are_fitted_on_the_files(latents: Path) -> None:
    data = Latents(latents, batch_size=4, shift=0, mirror="both", val_share=VAL)
    data.setup("fit")
    assert [mirror.axis for mirror in data.mirrors] == [-1, -2]
    assert all(mirror.error < 0.05 for mirror in data.mirrors)
    x = torch.cat([load("walloc-rgb-16x").read_latents(item.read()) for item in data.train_items])
    changed = data.augment_signal(x)
    kept = [bool((a == b).all()) for a, b in zip(x, changed, strict=True)]
    assert 0 < sum(kept) < len(x) / 2  # a quarter of them, on average


def test_qualities_may_differ_and_sizes_are_cut(latents: Path, pictures: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(latents, tmp_path / "data"))
    codec = load("walloc-rgb-16x")
    x = torch.rand(1, 3, 70, 40) * 2 - 1
    (root / "fine" / "fine0.cdm").write_bytes(codec.compress(x, quality=80.0))
    data = Latents(root, batch_size=32, shift=0, mirror="none", val_share=VAL)
    assert data.whole == (6, 8)
    items = [*data.train_items, *data.val_items]
    place = next(i for i, item in enumerate(items) if item.key == "fine0")
    loader = data.train_dataloader() if place < len(data.train_items) else data.val_dataloader()
    raws = list(loader)
    (raw,) = raws
    row = raw.quality.index(320)
    y = data.to_signal(raw.x, raw.quality)[row]
    assert not y[:, :, 0].any() and not y[:, :, 6:].any()  # 5 cells wide among 8
    expected = codec.encode(x, quality=80.0)[0]
    assert any(torch.equal(y[:, :, 1:6], expected[:, i : i + 6]) for i in range(4))


def test_shards(latents: Path, tmp_path: Path, make_shard: Callable[..., Path]) -> None:
    members: dict[str, bytes] = {}
    for path in sorted(latents.rglob("*.cdm")):
        members |= {path.name: path.read_bytes(), path.with_suffix(".cls").name: path.parent.name.encode()}
    make_shard(tmp_path / "0.tar", members)
    from_shard = Latents(tmp_path, batch_size=32, val_share=VAL)
    from_folder = Latents(latents, batch_size=32, val_share=VAL)
    a, b = next(iter(from_shard.val_dataloader())), next(iter(from_folder.val_dataloader()))
    assert torch.equal(a.x, b.x) and torch.equal(a.label, b.label)

    damaged = bytearray(members["fine3.cdm"])
    damaged[-6] ^= 1
    make_shard(tmp_path / "0.tar", members | {"fine3.cdm": bytes(damaged), "rough1.cdm": b"CDM"})
    with pytest.raises(ValueError, match=r"2 of 20 files are damaged: .*0.tar: fine3.cdm: chunk 1 of 1 is damaged"):
        Latents(tmp_path, val_share=VAL)
    with pytest.warns(UserWarning, match=r"left out 2 of 20 files, damaged: .*fine3.cdm"):
        data = Latents(tmp_path, val_share=VAL, on_damage="skip")
    assert len(data.train_items) + len(data.val_items) == 18 and len(data.damaged) == 2


def test_bad_folders(latents: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(latents, tmp_path / "data"))
    (root / "fine" / "fine0.cdm").write_bytes(load("walloc-rgb-4x").compress(torch.zeros(1, 3, 48, 64)))
    with pytest.raises(ValueError, match=r"files of one model; found .*walloc-rgb-4x \(1 files such as .*fine0.cdm\)"):
        Latents(root, val_share=VAL)
    (root / "fine" / "fine0.cdm").unlink()
    with pytest.raises(ValueError, match="no validation files of class fine, rough with val_share=0"):
        Latents(root, val_share=0.0)
    with pytest.raises(ValueError, match=r"shift is .* \(6, 8\); found 6"):
        Latents(root, val_share=VAL, shift=6)
    shutil.rmtree(root / "rough")
    (root / "rough").mkdir()
    with pytest.raises(ValueError, match=r"no files \(.cdm\) in class rough"):
        Latents(root)


def test_sound(tmp_path: Path) -> None:
    for name, pitch in (("high", 2000), ("low", 200)):
        (tmp_path / "wav" / name).mkdir(parents=True)
        for i in range(6):
            wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + i / 20) * np.arange(8192 + 512 * (i == 0)) / 44100)
            soundfile.write(tmp_path / "wav" / name / f"{name}{i}.wav", np.stack([wave, wave], 1), 44100)
    words = ["encode", str(tmp_path / "wav"), str(tmp_path / "cdm"), "--model", "walloc-stereo-5x"]
    assert main(words) == 0
    data = Latents(tmp_path / "cdm", batch_size=2, shift=1, val_share=VAL)
    codec = load("walloc-stereo-5x")
    assert (data.ndim, data.channels, data.whole) == (1, codec.latent_dim, (8192 // codec.stride,))
    raw = next(iter(data.train_dataloader()))
    assert data.to_signal(raw.x, raw.quality).shape == (2, codec.latent_dim, 8192 // codec.stride - 1)
    high, rate = soundfile.read(tmp_path / "wav" / "high" / "high1.wav")
    soundfile.write(tmp_path / "other.wav", high, rate // 2)
    assert main(["encode", str(tmp_path / "other.wav"), str(tmp_path / "cdm" / "high"), *words[3:]]) == 0
    with pytest.raises(ValueError, match=r"one sample rate; found 22050 Hz \(such as .*\), 44100 Hz"):
        Latents(tmp_path / "cdm", batch_size=2, shift=1, val_share=VAL)


@pytest.mark.parametrize("name", ["walloc-stereo-5x", "walloc-stereo-20x", "hificodec-speech-16k", "simvq-rgb"])
def test_integers_are_those_of_the_file(name: str) -> None:
    data, codec = (GOLDEN / f"golden_1_{name}.cdm").read_bytes(), load(name)
    symbols, index = read_symbols(codec, data)
    assert torch.equal(codec.bottleneck.from_symbols(symbols[None], index), codec.read_latents(data))


def test_workers_decode_what_this_process_does(latents: Path) -> None:
    data = [Latents(latents, batch_size=4, workers=n, val_share=VAL) for n in (0, 2)]
    for x, y in zip(*(one.val_dataloader() for one in data), strict=True):
        assert torch.equal(x.x, y.x) and x.quality == y.quality and torch.equal(x.label, y.label)
