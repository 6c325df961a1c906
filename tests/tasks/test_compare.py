from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from codomain.codecs.cli import main
from codomain.tasks.compare import Arm, Plan, compare, measure_input, prepare, read_plan
from codomain.tasks.labelled import chance

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
    paths = (out / "data" / "walloc-rgb-16x").rglob("*.cdm")
    sizes = [path.stat().st_size for path in paths if chance(path.stem) < 0.4]  # those of validation
    assert float(rows[0]["n_bytes"]) == round(sum(sizes) / len(sizes))
    assert all(0 <= float(row["score"]) <= 100 and float(row["epoch_s"]) > 0 and row["minutes"] for row in rows)
    assert all(float(row["peak_mib"]) > 100 and float(row["input_s"]) > 1 for row in rows)
    assert (out / "scores.png").stat().st_size > 5000
    assert (out / "table.md").read_text().startswith("# Tints\n\n| input | accuracy % |")

    kept = out / "runs" / "latents-0" / "result.json"
    run = json.loads(kept.read_text())
    kept.write_text(json.dumps(run | {"scores": {"val/accuracy": 0.123}}))
    assert main([*words, *OVERRIDES]) == 0  # nothing is trained again
    assert "| latents | 12.3 |" in (out / "table.md").read_text()
    capsys.readouterr()
    assert main([*words, *OVERRIDES, "--model.width=16"]) == 1
    assert "other settings" in capsys.readouterr().err
    kept.write_text(json.dumps({"accuracy": 0.5}))
    assert main([*words, *OVERRIDES]) == 1
    assert "latents-0 is a run of other settings" in capsys.readouterr().err
    assert main([*words, "--data.shift", "0"]) == 1
    assert "expected settings such as --data.name=3; found --data.shift" in capsys.readouterr().err


def test_what_is_drawn_or_cropped_as_it_trains(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    config = ROOT / "configs" / "tasks" / "colorize_latents.yaml"
    text = "title: Greys\nseeds: [0, 1]\nmetric: METRIC\nunit: dB\nfactor: 1.0\njpeg: null\n"
    text += f"arms: [{{name: a, config: {config}}}]\n"
    words = ["compare", "--config", str(plan), "--data", str(pictures), "--out", str(out)]
    small = [
        "--data.crop=48", "--data.val_crop=48", "--data.val_share=0.4", "--model.width=8", "--model.depth=1",
        "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    plan.write_text(text.replace("METRIC", "val/psnr_grey"))
    assert main([*words, *small]) == 0
    (row,) = csv.DictReader((out / "table.csv").read_text().splitlines())
    assert (row["values"], row["tokens"], row["seeds"], row["spread"]) == (str(48 * 36), "9", "2", "0.0")
    assert 15 < float(row["score"]) < 20
    assert 100 < float(row["n_bytes"]) < 48 * 48
    assert not (out / "data").exists()
    plan.write_text(text.replace("METRIC", "val/accuracy"))
    capsys.readouterr()
    assert main([*words, *small]) == 1
    assert "a: a run has no val/accuracy; it has val/gain, val/loss, val/psnr, val/psnr_grey" in capsys.readouterr().err
    plan.write_text(text.replace("METRIC", "val/gain"))  # the runs are kept: nothing is trained for another metric
    assert main([*words, *small]) == 0
    (other,) = csv.DictReader((out / "table.csv").read_text().splitlines())
    assert float(other["score"]) < 5 and other["minutes"] == row["minutes"]


def test_songs_are_encoded_first(stems: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = (ROOT / "configs" / "compare" / "separate.yaml").read_text()
    plan = tmp_path / "plan.yaml"
    plan.write_text(text.replace("[0, 1, 2]", "[0]").replace("../tasks", str(ROOT / "configs" / "tasks")))
    small = [
        "--data.crop=64", "--data.val_crop=100", "--data.val_excerpts=1", "--data.batch_size=2", "--data.val_share=0.4",
        "--model.width=8", "--model.depth=1", "--trainer.max_steps=2", "--trainer.val_check_interval=2",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    assert main(["compare", "--config", str(plan), "--data", str(stems), "--out", str(out), *small]) == 0
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [(row["arm"], row["values"], row["tokens"]) for row in rows] == [
        ("latents 5x", "10800", "100"), ("waveforms", "51712", "101"),
    ]  # fmt: skip
    assert 50 < float(rows[0]["n_bytes"]) < float(rows[1]["n_bytes"]) / 3 < 51200
    assert len(list((out / "data" / "walloc-stereo-5x").rglob("*.cdm"))) == len(list(stems.rglob("*.flac")))


def test_lines_of_type_are_measured(fonts: Path) -> None:
    sizes = {}
    for name in ("read_latents_4x", "read_pixels", "read_pixels_small"):
        arm = Arm(name, ROOT / "configs" / "tasks" / f"{name}.yaml")
        found = measure_input(arm, fonts, ["--data.batch_size=4"])
        assert found["tokens"] == 72
        sizes[name] = found["n_bytes"], found["values"]
    assert [values for _, values in sizes.values()] == [3456, 13824, 3456]
    assert 300 < sizes["read_pixels_small"][0] < sizes["read_pixels"][0] < 24 * 192


def test_the_shipped_plans() -> None:
    for name, metric in (("read", "val/cer"), ("colorize", "val/gain")):
        other = read_plan(ROOT / "configs" / "compare" / f"{name}.yaml")
        assert (other.metric, other.jpeg, {arm.model for arm in other.arms}) == (metric, None, {None})
    stems = read_plan(ROOT / "configs" / "compare" / "separate.yaml")
    assert [(arm.model, arm.settings) for arm in stems.arms] == [
        ("walloc-stereo-5x", ("--data.originals={data}",)), (None, ()),
    ]  # fmt: skip
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
    path.write_text("title: [")
    with pytest.raises(ValueError, match=r"plan\.yaml: no plan of a comparison: while parsing"):
        read_plan(path)
    with pytest.raises(ValueError, match="no files that end in"):
        prepare(tmp_path, tmp_path / "data", None)


def test_what_is_wrong_comes_before_anything_is_coded(pictures: Path, tmp_path: Path) -> None:
    plan, out = read_plan(ROOT / "configs" / "compare" / "trashnet.yaml"), tmp_path / "out"
    for data, words, message in (
        (tmp_path / "none", [], "none: expected a folder"),
        (pictures, ["--data.bach_size=4"], "bach_size"),
        (pictures, ["--model.widht=3"], "widht"),
        (pictures, ["--model.width"], "expected settings such as --model.name=3"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(plan, data, out, words)
    codec = Arm("codec", ROOT / "configs" / "codecs" / "walloc_rgb_16x.yaml")
    with pytest.raises(ValueError, match="expected the config of a task"):
        compare(replace(plan, arms=(codec,)), pictures, out)
    assert not out.exists()
    with pytest.raises(ValueError, match=r"lies in .*, the data: choose another --out"):
        compare(plan, pictures, pictures / "out")


def test_data_of_a_comparison_stay(pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    shutil.copy(data / "fine" / "fine0.png", data / "fine" / "fine0.bmp")  # a name twice
    assert len(list(prepare(data, tmp_path / "out" / "data", None).rglob("*.jpg"))) == 21
    plan = replace(read_plan(ROOT / "configs" / "compare" / "trashnet.yaml"), arms=())
    compare(plan, data, tmp_path / "out")
    compare(plan, data, tmp_path / "out")
    (data / "fine" / "fine1.png").unlink()
    with pytest.raises(ValueError, match=r"compares other data than .* holds now"):
        compare(plan, data, tmp_path / "out")
    assert len(list((tmp_path / "out" / "data").rglob("*.jpg"))) == 21  # nothing is removed
    with pytest.raises(ValueError, match="keeps files: choose another --out"):
        compare(plan, data, tmp_path)  # whose "data" they are
    assert len(list(data.rglob("*.*"))) == 20


@pytest.mark.parametrize("config", sorted((ROOT / "configs" / "tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_of_settings_that_exist(config: Path, tmp_path: Path) -> None:
    plan = Plan("", (Arm("x", config),), (), jpeg=None)
    with pytest.raises(ValueError, match=str(tmp_path)):  # the settings are taken; the folder is empty
        compare(plan, tmp_path, tmp_path.parent / f"{tmp_path.name}-out")
    with pytest.raises(ValueError, match="no_setting"):
        compare(plan, tmp_path, tmp_path.parent / f"{tmp_path.name}-out", ["--data.no_setting=1"])
