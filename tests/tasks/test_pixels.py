from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.tasks.latents import Latents
from codomain.tasks.pixels import Pixels, read_picture
from PIL import Image


def test_the_same_split_and_field_of_view(pictures: Path, latents: Path) -> None:
    data, other = Pixels(pictures, shift=16, val_share=0.4), Latents(latents, shift=2, val_share=0.4)
    assert [i.key for i in data.val_items] == [i.key for i in other.val_items]
    assert [i.label for i in data.train_items] == [i.label for i in other.train_items]
    assert data.whole == tuple(8 * n for n in other.whole) == (48, 64)
    assert data.window == tuple(8 * n for n in other.window) == (32, 48)
    small = Pixels(pictures, shift=16, shrink=4, val_share=0.4)
    assert (small.whole, small.window, small.cell) == ((12, 16), (8, 12), 2)
    assert 3 * 12 * 16 == 12 * 6 * 8  # values: as many as 16x latents


def test_batches(pictures: Path) -> None:
    data = Pixels(pictures, batch_size=4, mirror="both", shift=0, val_share=0.4)
    raw = next(iter(data.val_dataloader()))
    assert raw.x.dtype == torch.uint8
    batch = data.on_after_batch_transfer(raw, 0)
    pixels = np.array(Image.open(data.val_items[0].path)).transpose(2, 0, 1)
    assert torch.allclose(batch.x[0], torch.from_numpy(pixels) / 127.5 - 1)
    changed = data.augment_signal(batch.x)
    for a, b in zip(batch.x, changed, strict=True):
        assert any(torch.equal(a.flip(axes), b) for axes in ([], [-1], [-2], [-1, -2]))
    assert data.describe() == {"shrink": 1}


def test_shrinking_keeps_the_mean(pictures: Path) -> None:
    data = (pictures / "rough" / "rough1.png").read_bytes()
    whole, small = read_picture(data).float(), read_picture(data, 4).float()
    assert small.shape == (3, 12, 16)
    assert torch.allclose(whole.mean((1, 2)), small.mean((1, 2)), atol=1)


def test_bad_input(pictures: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1\.png: not an image that can be read"):
        Pixels(tmp_path)
    with pytest.raises(ValueError, match="not an image that can be read"):
        read_picture(b"no picture")
    with pytest.raises(ValueError, match="multiple of 8"):
        Pixels(pictures, shift=12, val_share=0.4)


def test_deep_and_transparent_pictures(tmp_path: Path) -> None:
    path, ramp = tmp_path / "x.png", np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(path)
    found = read_picture(path.read_bytes()).float()
    assert torch.allclose(found, torch.from_numpy(ramp / 257.0).float().expand(3, -1, -1), atol=1)
    ink = np.zeros((4, 4, 4), np.uint8)  # black letters on nothing
    ink[1, 1:3, 3] = 255, 128
    Image.fromarray(ink).save(path)
    found = read_picture(path.read_bytes())
    assert found[:, 1, 1].tolist() == [0, 0, 0] and found[:, 1, 2].tolist() == [127] * 3
    assert found[:, 0].eq(255).all()
