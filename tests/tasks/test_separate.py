from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from codomain.codecs.cli import main
from codomain.tasks.separate import LIMIT, Separate, decibels, error
from codomain.tasks.stems import Mixed

CONFIGS = Path(__file__).parents[2] / "configs" / "tasks"
SMALL = [
    "--data.crop=128", "--data.val_crop=256", "--data.val_excerpts=1", "--data.batch_size=4", "--data.val_share=0.4",
    "--model.width=16", "--model.depth=1", "--model.lr=0.01", "--trainer.max_steps=60",
    "--trainer.val_check_interval=60", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
]  # fmt: skip


def test_starts_at_the_shares_and_fits_lengths_that_patches_do_not() -> None:
    module = Separate(patch=4, width=16, depth=1, drop=0.0)
    module.build(6, 3)
    module.log_share = torch.rand(3, 6, 1).softmax(0).log()
    x = torch.randn(2, 6, 21)
    y = module(x)
    assert y.shape == (2, 3, 6, 21)
    assert torch.allclose(y, module.log_share.exp() * x[:, None])
    assert torch.allclose(y.sum(1), x, atol=1e-6)


def test_masks_share_a_mixture_out() -> None:
    module = Separate(patch=1, width=16, depth=1, drop=0.0)
    module.build(6, 3)
    torch.nn.init.normal_(module.leave.weight)
    x = torch.randn(2, 6, 20)
    y = module(x).detach()
    assert torch.allclose(y.sum(1), x, atol=1e-5) and bool((y * x[:, None] >= 0).all())
    assert float((y[:, 0] - x / 3).abs().max()) > 0.1


def test_error_is_relative_with_a_floor_for_silence() -> None:
    y = torch.randn(2, 3, 4, 50)
    batch = Mixed(y.sum(1), y, (0, 0), None)
    assert float(error(0.9 * y, batch)) == pytest.approx(math.log(0.01), abs=0.3)
    assert float(error(0 * y, batch)) == pytest.approx(0, abs=1e-5)
    assert float(error(y, batch)) > math.log(0.002)
    silent = Mixed(batch.x, torch.cat([y[:, :2], 0 * y[:, 2:]], 1), (0, 0), None)
    assert math.isfinite(float(error(y, silent)))
    nothing = Mixed(0 * batch.x, 0 * y, (0, 0), None)
    assert float(error(0 * y, nothing)) == pytest.approx(0, abs=1e-5)


def test_decibels_are_within_limits() -> None:
    x = torch.randn(2, 100)
    assert decibels(x, x) == LIMIT
    assert decibels(x, 0 * x) == -LIMIT
    assert decibels(x, x + 0.1 * torch.randn(2, 100)) == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize("name", ["separate_latents_5x", "separate_waveform"])
def test_stems_are_found(name: str, stems: Path, stem_files: Path, tmp_path: Path) -> None:
    in_latents = "latents" in name
    data = ["--data", str(stem_files), f"--data.originals={stems}"] if in_latents else ["--data", str(stems)]
    words = ["train", "--config", str(CONFIGS / f"{name}.yaml"), *data, "--run", str(tmp_path / "run"), *SMALL]
    assert main(words) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    (row,) = (row for row in rows if row.get("val/gain"))
    scores = {key: float(value) for key, value in row.items() if value}
    print("GAINS", name, {k: round(v, 2) for k, v in scores.items()})
    assert scores["val/gain"] > 0
    state = torch.load(tmp_path / "run" / "model.ckpt", weights_only=True)["state_dict"]
    assert state["log_share"].shape == (3, 108 if in_latents else 512, 1)
