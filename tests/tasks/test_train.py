from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
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


def test_the_papers_stereo_codec_trains_and_codes(tmp_path: Path) -> None:
    t = np.arange(3 * 44100) / 44100
    for i in range(2):
        tones = np.stack([np.sin(2 * np.pi * f * (1 + i) * t) for f in (220, 330)], 1) * np.hanning(len(t))[:, None]
        soundfile.write(tmp_path / f"{i}.wav", 0.5 * tones, 44100)
    small, run = tmp_path / "small.yaml", tmp_path / "run"
    small.write_text((CONFIGS / "walloc_stereo_20x_paper.yaml").read_text().replace("width: 768", "width: 27"))
    words = [
        "train", "--config", str(small), "--data", str(tmp_path), "--run", str(run), "--trainer.max_steps=20",
        "--data.crop=4096", "--data.val_crop=4096", "--data.batch_size=4", "--trainer.val_check_interval=10",
        "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=5", "--trainer.accelerator=cpu",
        "--model.warmup=2", "--model.lr=2e-3",
    ]  # fmt: skip
    assert main(words) == 0
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    losses = [float(line[lines[0].index("train/loss")] or "nan") for line in lines[1:]]
    losses = [loss for loss in losses if loss == loss]
    assert len(losses) == 4 and losses[-1] < 0.9 * losses[0]

    codec = build(small)
    load_weights(codec, (run / "weights.safetensors").read_bytes())
    x = torch.from_numpy(0.5 * tones.T[None, :, 30000:50001]).float()
    data = codec.compress(x)
    assert len(data) < 27 * 79 + 200  # of 8 bits each, tables help little as yet
    assert codec.decompress(data).shape == x.shape
    assert torch.equal(codec.read_latents(data), codec.encode(x))


def test_two_processes_learn_from_files(latents: Path, tmp_path: Path) -> None:
    config, runs = ROOT / "configs" / "tasks" / "classify_latents_16x.yaml", []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        words = [
            "train", "--config", str(config), "--data", str(latents), "--run", str(run), "--model.width=8",
            "--model.depth=1", "--model.mixup=0", "--model.drop=0", "--data.val_share=0.4", "--data.shift=0",
            "--data.mirror=none", f"--data.batch_size={8 // devices}", "--trainer.max_epochs=4",
            "--trainer.accelerator=cpu", f"--trainer.devices={devices}", "--trainer.enable_progress_bar=false",
            *(["--trainer.strategy=ddp"] if devices > 1 else []),
        ]  # fmt: skip
        command = [sys.executable, "-m", "codomain.codecs.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs.append(torch.load(run / "model.ckpt", weights_only=True))
    one, two = runs
    assert one["task"] == two["task"]
    assert one["global_step"] == two["global_step"] > 0  # half a batch each
    assert torch.equal(one["state_dict"]["mean"], two["state_dict"]["mean"])
    for devices in (1, 2):
        rows = csv.DictReader((tmp_path / str(devices) / "metrics.csv").read_text().splitlines())
        losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
        assert len(losses) == 4 and losses == sorted(losses, reverse=True)
