from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import pytest
import torch
from codomain.codecs.cli import main
from codomain.tasks.separate import LIMIT, Separate, decibels, error, statistics
from codomain.tasks.stem_waves import StemWaves
from codomain.tasks.stems import Mixed

CONFIGS = Path(__file__).parents[2] / "configs" / "tasks"
SMALL = [
    "--data.crop=128", "--data.val_crop=256", "--data.val_excerpts=1", "--data.batch_size=4", "--data.val_share=0.4",
    "--model.width=16", "--model.depth=1", "--model.lr=0.01", "--trainer.max_steps=60",
    "--trainer.val_check_interval=60", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
]  # fmt: skip


def test_starts_at_the_shares_and_fits_lengths_that_patches_do_not() -> None:
    module = Separate(patch=4, width=16, depth=1, drop=0.0)
    module.build({"channels": 6, "stems": ["a", "b", "c"]})
    module.log_share = torch.rand(3, 6, 1).softmax(0).log()
    x = torch.randn(2, 6, 21)
    y = module(x)
    assert y.shape == (2, 3, 6, 21)
    assert torch.allclose(y, module.log_share.exp() * x[:, None])
    assert torch.allclose(y.sum(1), x, atol=1e-6)


def test_masks_share_a_mixture_out() -> None:
    module = Separate(patch=1, width=16, depth=1, drop=0.0)
    module.build({"channels": 6, "stems": ["a", "b", "c"]})
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


def test_shares_are_of_the_energy_in_training(stems: Path) -> None:
    data = StemWaves(stems, crop=64, val_crop=100, val_excerpts=1, batch_size=4, val_share=0.4)
    deviation, log_share = statistics(data)
    assert deviation.shape == (512, 1) and log_share.shape == (3, 512, 1)
    assert torch.allclose(log_share.exp().sum(0), torch.ones(512, 1), atol=1e-5)
    y = torch.cat([batch.y for batch in data.samples()]).square().mean((0, 3))
    assert torch.allclose(log_share.exp()[..., 0], y / y.sum(0), atol=1e-3)
    assert float(log_share.exp()[0, 0]) > 0.9 > 0.2 > float(log_share.exp()[0, 100])  # the bass is low


def test_what_is_wrong_with_songs_is_one_line(stems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(stems, tmp_path / "songs")
    (tmp_path / "songs" / "song4" / "drums.flac").unlink()
    words = ["train", "--config", str(CONFIGS / "separate_waveform.yaml"), "--run", str(tmp_path / "run")]
    assert main([*words, "--data", str(tmp_path / "songs")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "song4: has the stems bass, other; expected bass, drums, other, as song0 has" in said[-1]


@pytest.mark.parametrize("name", ["separate_latents_5x", "separate_waveform"])
def test_stems_are_found(name: str, stems: Path, stem_files: Path, tmp_path: Path) -> None:
    in_latents = "latents" in name
    data = ["--data", str(stem_files), f"--data.originals={stems}"] if in_latents else ["--data", str(stems)]
    words = ["train", "--config", str(CONFIGS / f"{name}.yaml"), *data, "--run", str(tmp_path / "run"), *SMALL]
    assert main(words) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    (row,) = (row for row in rows if row.get("val/gain"))
    scores = {key: float(value) for key, value in row.items() if value}
    assert scores["val/gain_other"] > 6  # constant masks give 1.7 and 0.8; four seeds, trained, 9.5 to 11.2
    assert scores["val/gain_bass"] > 10 and scores["val/gain_drums"] > 3  # 14.3 to 18.0, and 6.1 to 9.9
    for stem in ("", "_bass", "_drums", "_other"):
        difference = scores[f"val/si_sdr{stem}"] - scores[f"val/si_sdr_mixture{stem}"]
        assert scores[f"val/gain{stem}"] == pytest.approx(difference, abs=1e-3)
    state = torch.load(tmp_path / "run" / "model.ckpt", weights_only=True)["state_dict"]
    assert state["log_share"].shape == (3, 108 if in_latents else 512, 1)
