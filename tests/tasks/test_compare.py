from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from codomain.codecs.cli import main
from codomain.tasks.compare import prepare, read_plan

ROOT = Path(__file__).parents[2]
OVERRIDES = [
    "--data.val_share=0.4", "--data.batch_size=4", "--data.shift=0", "--model.width=8", "--model.depth=1",
    "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
]  # fmt: skip


def test_one_command(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    configs = ROOT / "configs" / "tasks"
    plan.write_text(
        f"title: Tints\nseeds: [0]\narms:\n"
        f"- {{name: latents, config: {configs / 'classify_latents_16x.yaml'}, model: walloc-rgb-16x}}\n"
        f"- {{name: small, config: {configs / 'classify_pixels_small.yaml'}}}\n"
    )
    words = ["compare", "--config", str(plan), "--data", str(pictures), "--out", str(out)]
    assert main([*words, *OVERRIDES]) == 0
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [(row["arm"], row["values"], row["tokens"], row["seeds"]) for row in rows] == [
        ("latents", "576", "12", "1"), ("small", "576", "12", "1"),
    ]  # fmt: skip
    sizes = [path.stat().st_size for path in (out / "data" / "walloc-rgb-16x").rglob("*.cdm")]
    assert float(rows[0]["n_bytes"]) == round(sum(sizes) / 20)
    assert all(0 <= float(row["accuracy"]) <= 100 and float(row["epoch_s"]) > 0 for row in rows)
    assert all(float(row["peak_mib"]) > 100 and float(row["input_s"]) > 1 for row in rows)
    assert (out / "accuracy.png").stat().st_size > 5000
    assert (out / "table.md").read_text().startswith("# Tints\n\n| input | accuracy % |")

    kept = out / "runs" / "latents-0" / "result.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"accuracy": 0.123}))
    assert main([*words, *OVERRIDES]) == 0  # nothing is trained again
    assert "| latents | 12.3 |" in (out / "table.md").read_text()
    capsys.readouterr()
    assert main([*words, *OVERRIDES, "--model.width=16"]) == 1
    assert "other settings" in capsys.readouterr().err


def test_the_shipped_plan() -> None:
    plan = read_plan(ROOT / "configs" / "compare" / "trashnet.yaml")
    assert [arm.model for arm in plan.arms] == ["walloc-rgb-16x", "walloc-rgb-4x", None, None]
    assert plan.seeds == (0, 1, 2)


def test_bad_plans(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    for text, message in (
        ("[]", "no plan"),
        ("arms: [{name: a}]", "no plan of a comparison: 'config'"),
        ("title: x\narms: [{name: a, config: none.yaml}]", "none.yaml does not exist"),
        ("title: x\narms: []\nseed: 3", "seed"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_plan(path)
    with pytest.raises(ValueError, match="found no pictures"):
        prepare(tmp_path, tmp_path / "data", None)
