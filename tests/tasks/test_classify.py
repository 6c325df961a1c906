from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codomain.codecs.cli import main
from codomain.codecs.load import load
from codomain.tasks.predict import from_checkpoint

CONFIG = Path(__file__).parents[2] / "configs" / "tasks" / "classify_latents_16x.yaml"
SMALL = [
    "--data.val_share=0.4", "--data.batch_size=4", "--data.shift=1", "--model.width=16", "--model.depth=2",
    "--model.lr=0.01", "--model.mixup=0", "--model.drop=0", "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]  # fmt: skip


def column(run: Path, name: str) -> list[float]:
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    return [float(row[name]) for row in rows if row.get(name)]


def test_tints_are_learnt_from_files(latents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = ["train", "--config", str(CONFIG), "--data", str(latents), "--run", str(run), *SMALL]
    assert main([*words, "--trainer.max_epochs=8"]) == 0
    assert column(run, "val/accuracy")[-1] >= 0.9
    module = from_checkpoint(run / "model.ckpt")
    codec = load("walloc-rgb-16x")
    assert module.about["classes"] == ["fine", "rough"]
    assert module.about["data"] == {"codec": codec.name, "digest": codec.digest.hex()}
    assert float(module.deviation.min()) > 0
    y = torch.cat([codec.read_latents((latents / name / f"{name}0.cdm").read_bytes()) for name in ("fine", "rough")])
    assert module(y).argmax(1).tolist() == [0, 1]

    some = tmp_path / "some"
    shutil.copytree(latents, some)
    (some / "fine" / "bad.cdm").write_bytes((latents / "fine" / "fine0.cdm").read_bytes()[:-9])
    words[4], words[6] = str(some), str(tmp_path / "again")
    assert main([*words, "--trainer.max_steps=1"]) == 1
    assert "1 of 21 files are damaged" in capsys.readouterr().err
    assert main([*words, "--trainer.max_steps=1", "--data.on_damage=skip"]) == 0
    assert (tmp_path / "again" / "damaged.txt").read_text().startswith(f"{some / 'fine' / 'bad.cdm'}: ")
    words[4] = str(latents)

    checkpoint = torch.load(run / "model.ckpt", weights_only=True)
    checkpoint["task"]["about"]["data"]["codec"] = "walloc-rgb-4x"
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert main([*words[:6], str(tmp_path / "other"), *SMALL, f"--ckpt_path={tmp_path / 'other.ckpt'}"]) == 1
    assert "the checkpoint is of data {'codec': 'walloc-rgb-4x'" in capsys.readouterr().err


def test_tones_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, pitch in (("high", 2000), ("low", 200)):
        (tmp_path / "wav" / name).mkdir(parents=True)
        for i in range(24):
            t = np.arange(8000 + 300 * i) / 44100  # all lengths differ
            wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + i / 48) * t + i)
            soundfile.write(tmp_path / "wav" / name / f"{name}.{i:03d}.wav", np.stack([wave, wave], 1), 44100)
    assert main(["encode", str(tmp_path / "wav"), str(tmp_path / "cdm"), "--model", "walloc-stereo-5x"]) == 0
    run = tmp_path / "run"
    words = ["train", "--config", str(CONFIG), "--data", str(tmp_path / "cdm"), "--run", str(run), *SMALL]
    assert main([*words, "--trainer.max_epochs=6"]) == 0
    assert column(run, "val/accuracy")[-1] >= 0.9
    capsys.readouterr()
    for name in ("high", "low"):
        path = tmp_path / "wav" / name / f"{name}.003.wav"
        assert main(["predict", "--checkpoint", str(run / "model.ckpt"), str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["label"] == name
