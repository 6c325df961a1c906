from __future__ import annotations

from pathlib import Path

import pytest
import torch
from codomain.codecs.cli import main
from codomain.codecs.load import build, load_weights

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "codecs"


@pytest.mark.parametrize("config", ["walloc_rgb_16x_fixed.yaml", "walloc_rgb_16x.yaml"])
def test_twenty_steps_export_resume_and_load(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    small = tmp_path / "small.yaml"
    text = (CONFIGS / config).read_text().replace("[96, 32]", "[8, 4]")
    small.write_text(text.replace("{channels: 12}", "{channels: 12, fit_steps: 30}") if "Context" in text else text)
    words = [
        "train", "--config", str(small), "--data", str(ROOT / "tests" / "data"), "--run", str(run),
        "--data.crop=64", "--data.val_crop=64", "--trainer.max_steps=20", "--trainer.val_check_interval=10",
        "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=5", "--trainer.accelerator=cpu",
        "--model.warmup=2",
    ]  # fmt: skip
    assert main(words) == 0
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    column = lines[0].index("train/loss")
    losses = [float(line[column]) for line in lines[1:] if line[column]]
    assert len(losses) == 4
    assert min(losses[1:]) < losses[0]
    assert list((run / "samples").glob("step_*.png"))

    codec = build(small)
    load_weights(codec, (run / "weights.safetensors").read_bytes())
    x = torch.rand(1, 3, 40, 50)
    assert codec.decompress(codec.compress(x)).shape == x.shape

    assert main(words) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert main([*[w for w in words if "max_steps" not in w], "--resume", "--trainer.max_steps=24"]) == 0
    assert main([*words[:6], str(tmp_path / "other"), "--resume"]) == 1
    assert "nothing to resume" in capsys.readouterr().err
