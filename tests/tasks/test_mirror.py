from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs.load import load
from codomain.tasks.mirror import fit
from PIL import Image
from torch import Tensor

DATA = Path(__file__).parents[1] / "data"


def lacking(y: Tensor, expected: Tensor) -> float:
    """Relative energy of a difference."""
    mean = expected.mean((0, 2, 3), keepdim=True)
    return float((y - expected).square().sum() / (expected - mean).square().sum())


def picture(name: str) -> Tensor:
    x = torch.from_numpy(np.array(Image.open(DATA / name).convert("RGB")))[:256, :256]
    return x.permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize(("model", "mirrored"), [("walloc-rgb-16x", 0.02), ("walloc-rgb-4x", 0.01)])
def test_what_pixel_transforms_are_on_latents(model: str, mirrored: float) -> None:
    codec, x, other = load(model), picture("chelsea.png"), picture("coffee.png")
    with torch.inference_mode():
        y = codec.analysis(x)
        assert lacking(codec.analysis(x[..., 16:, 8:])[..., 4:, 4:], y[..., 6:, 5:]) < 1e-8  # moved by whole cells
        z = codec.analysis(other)
        rows, turned = (v.movedim(1, -1).flatten(0, -2) for v in (z.mT, codec.analysis(other.mT)))
        mixed = torch.einsum("nchw,cd->ndhw", y.mT, torch.linalg.lstsq(rows, turned).solution)
        assert lacking(mixed, codec.analysis(x.mT)) < 0.01  # transposed: a d x d matrix of each cell
        for axis in (-1, -2):
            map = fit(codec, [other], axis)  # fitted on another picture
            expected = codec.analysis(x.flip(axis).roll(1, axis))
            inside = [slice(None)] * 4
            inside[axis] = slice(1, -1)  # what rolls around is of no picture
            found = lacking(map(y)[tuple(inside)], expected[tuple(inside)])
            assert found < mirrored
            assert map.error < mirrored
            assert lacking(y.flip(axis), expected) > 10 * found  # cells alone, backwards, are not enough
