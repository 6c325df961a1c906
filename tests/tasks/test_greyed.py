from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs.load import load
from codomain.tasks.greyed import Greyed, to_grey
from PIL import Image

SMALL = {"crop": 48, "val_crop": 48, "batch_size": 4}


def test_grey_is_pillows(pictures: Path) -> None:
    image = Image.open(pictures / "fine" / "fine0.png")
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    grey = (to_grey(x) + 1) * 127.5
    assert (grey.round() - torch.from_numpy(np.array(image.convert("L"))).float()).abs().max() <= 1
    assert torch.allclose(grey, grey.round(), atol=1e-3)


def test_pairs_of_pixels(pictures: Path) -> None:
    data = Greyed(str(pictures), **SMALL)
    photos = next(iter(data.train_dataloader()))
    x, y, same = data.on_after_batch_transfer(photos, 0)
    assert (x.shape, y.shape) == ((4, 1, 48, 48), (4, 2, 48, 48)) and same is photos
    assert (data.to_photos(x, y) - photos).abs().max() < 0.02  # the luma is rounded
    assert torch.allclose(data.to_photos(x, 0 * y), x.expand(-1, 3, -1, -1), atol=1e-5)


def test_pairs_of_latents(pictures: Path) -> None:
    data, codec = Greyed(str(pictures), model="walloc-rgb-16x", quality=60.0, **SMALL), load("walloc-rgb-16x")
    photos = next(iter(data.train_dataloader()))
    x, y, _ = data.on_after_batch_transfer(photos, 0)
    grey = to_grey(photos).expand(-1, 3, -1, -1)
    assert torch.equal(x, torch.cat([codec.read_latents(codec.compress(g[None], quality=60.0)) for g in grey]))
    assert torch.allclose(data.to_photos(x, y), codec.decode(codec.encode(photos, 60.0), quality=60.0), atol=1e-4)
    mean, deviation, y_mean, y_deviation = data.statistics()
    assert mean.shape == y_mean.shape == (12,) and float(deviation.min()) > 0
    assert float(y_deviation.max()) > 10 * float(y_deviation.min())  # few channels carry colour


def test_grey_photographs_have_no_colours_to_find(pictures: Path) -> None:
    for model in (None, "walloc-rgb-16x"):
        data = Greyed(str(pictures), model=model, **SMALL)
        photos = to_grey(next(iter(data.train_dataloader()))).expand(-1, 3, -1, -1)
        assert float(data.pair(photos).y.abs().max()) == pytest.approx(0, abs=1e-5)
