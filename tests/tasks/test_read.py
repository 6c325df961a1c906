from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from codomain.codecs.cli import main
from codomain.tasks.read import Read, edit_distance, to_labels, transcribe
from codomain.tasks.text_lines import ALPHABET, Lines, TextLines

CONFIGS = Path(__file__).parents[2] / "configs" / "tasks"


def about(channels: int, rows: int) -> dict[str, Any]:
    return {"channels": channels, "rows": rows, "steps": 4, "alphabet": ALPHABET}


@pytest.mark.parametrize(
    ("a", "b", "n"), [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
)
def test_edit_distance(a: str, b: str, n: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == n


def test_transcribing() -> None:
    labels = [0, *to_labels("ssa"), 0, *to_labels("as"), 0, 0, *to_labels("s ")]
    scores = torch.nn.functional.one_hot(torch.tensor([labels]), 1 + len(ALPHABET)).float()
    assert transcribe(scores) == ["saass "]
    with pytest.raises(ValueError, match="'naïve' has characters that cannot be read: ï"):
        to_labels("naïve")


def test_eight_lines_are_learnt_by_heart(fonts: Path) -> None:
    data = TextLines(fonts, model="walloc-rgb-4x", quality=50.0, width=96, batch_size=8)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    module = Read(patch=1, width=32, depth=2, drop=0.0, lr=3e-3)
    module.build(about(data.channels, data.grid[0]))
    module.mean, module.deviation = batch.x.mean((0, 2, 3)), batch.x.std()
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    first = float(module._loss(module(batch.x), batch.texts).detach())
    for _ in range(250):
        optimizer.zero_grad()
        loss = module._loss(module(batch.x), batch.texts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    assert float(loss.detach()) < 0.1 < 4 < first
    assert transcribe(module(batch.x)) == list(batch.texts)


def test_every_arm_has_as_many_steps() -> None:
    for patch, channels, size in ((1, 48, (3, 24)), (8, 3, (24, 192)), (4, 3, (12, 96))):
        module = Read(patch=patch, width=16, depth=1)
        module.build(about(channels, size[0]))
        assert module(torch.zeros(2, channels, *size)).shape == (2, 96, 1 + len(ALPHABET))


def test_rate_of_errors_is_of_all_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = Read(patch=1, width=16, depth=1), {}
    module.build(about(3, 8))
    monkeypatch.setattr(module, "log_dict", lambda values, **other: seen.update(values, **other))
    monkeypatch.setattr("codomain.tasks.read.transcribe", lambda scores: ["cat", "horses"])
    module.validation_step(Lines(torch.zeros(2, 3, 8, 64), ("cats", "horse")), 0)
    assert float(seen["val/cer"]) == pytest.approx(2 / 9) and seen["batch_size"] == 9


@pytest.mark.parametrize("name", ["read_latents_4x", "read_pixels", "read_pixels_small"])
def test_configs_train(name: str, fonts: Path, tmp_path: Path) -> None:
    small = [
        "--data.batch_size=2", "--data.val_lines=2", "--model.width=16", "--model.depth=1", "--trainer.max_steps=2",
        "--trainer.val_check_interval=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    run = tmp_path / "run"
    words = ["train", "--config", str(CONFIGS / f"{name}.yaml"), "--data", str(fonts), "--run", str(run), *small]
    assert main(words) == 0
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    (cer,) = (float(row["val/cer"]) for row in rows if row.get("val/cer"))
    assert 0.5 < cer < 10
    state = torch.load(run / "model.ckpt", weights_only=True)["state_dict"]
    assert state["mean"].shape == ((48,) if "latents" in name else (3,)) and float(state["deviation"].min()) > 0
