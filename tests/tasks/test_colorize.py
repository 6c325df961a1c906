from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from codomain.codecs.cli import main
from codomain.tasks.colorize import Colorize, mean_psnr

CONFIGS = Path(__file__).parents[2] / "configs" / "tasks"


def test_psnr_is_of_8_bit_samples() -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    assert float(mean_psnr(x, x + 0.001)) == 60  # the same sample
    assert float(mean_psnr(x, x + 2 / 255)) == pytest.approx(48.13, abs=0.01)


def test_starts_at_the_mean_and_fits_sides_that_patches_do_not() -> None:
    module = Colorize(patch=4, width=16, depth=1, drop=0.0)
    module.build({"x_channels": 1, "y_channels": 2})
    module.y_mean = torch.tensor([0.25, -0.5])[:, None, None]
    y = module(torch.rand(2, 1, 10, 15))
    assert y.shape == (2, 2, 10, 15)
    assert torch.equal(y, module.y_mean.expand(2, 2, 10, 15))


@pytest.mark.parametrize("name", ["colorize_latents", "colorize_pixels"])
def test_tints_of_textures_are_found(name: str, pictures: Path, tmp_path: Path) -> None:
    small = [
        "--data.crop=48", "--data.val_crop=48", "--data.val_share=0.4", "--model.width=16", "--model.depth=1",
        "--model.lr=0.01", "--trainer.max_steps=80", "--trainer.val_check_interval=80", "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    run = tmp_path / "run"
    words = ["train", "--config", str(CONFIGS / f"{name}.yaml"), "--data", str(pictures), "--run", str(run), *small]
    assert main(words) == 0
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    (scores,) = (row for row in rows if row.get("val/psnr"))
    assert 15 < float(scores["val/psnr_grey"]) < 20
    assert float(scores["val/gain"]) > 1.5  # seeds and thread counts give 2.9 to 5.1
    assert float(scores["val/psnr"]) == pytest.approx(float(scores["val/psnr_grey"]) + float(scores["val/gain"]))
    state = torch.load(run / "model.ckpt", weights_only=True)["state_dict"]
    assert state["y_deviation"].shape == ((48, 1, 1) if "latents" in name else (2, 1, 1))
