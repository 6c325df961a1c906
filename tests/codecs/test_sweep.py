from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.contenders import KINDS, parse
from codomain.codecs.image_kind import read_picture
from codomain.codecs.metrics import psnr
from codomain.codecs.sweep import Store, measure, read_folder, sweep, time_codec
from PIL import Image

DATA = Path(__file__).parents[1] / "data"
IMAGE = KINDS["image"]


def test_rows_are_of_the_files_that_lie_there(evaluation: Path) -> None:
    rows = list(csv.DictReader((evaluation / "out" / "points.csv").open()))
    assert len(rows) == 2 * 11
    for row in rows:
        coded = evaluation / "out" / row["file"]
        assert coded.stat().st_size == int(row["n_bytes"])
        assert float(row["bpp"]) == pytest.approx(8 * int(row["n_bytes"]) / (256 * 192), abs=1e-6)
        x = read_picture(evaluation / "photos" / row["image"])
        x_hat = parse(row["model"]).decompress(coded.read_bytes())
        rounded = x_hat.clip(0, 255).round().astype(np.uint8)
        assert float(row["psnr"]) == pytest.approx(psnr(x, rounded, 255.0), abs=2e-3)
        ours = row["model"].startswith("walloc")
        assert (row["psnr_float"] != "") == ours
        if ours:
            assert abs(float(row["psnr_float"]) - float(row["psnr"])) < 0.05
            assert coded.read_bytes()[:3] == b"CDM"


def test_what_is_known_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.open(DATA / "chelsea.png").convert("RGB").crop((0, 0, 64, 48)).save(path)
    (picture,), _ = read_folder(path.parent, IMAGE)
    contenders, steps = [parse("jpeg:30"), parse("webp:30")], []
    assert sweep(contenders, [picture], Store(tmp_path / "run"), 2, steps.append) == []
    lines = (tmp_path / "run" / "points.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["model"] for line in lines) == sorted(steps) == ["jpeg:30", "webp:30"]
    coded = next((tmp_path / "run" / "coded").rglob("*.jpg"))
    os.utime(coded, (1, 1))
    with (tmp_path / "run" / "points.jsonl").open("a") as stream:
        stream.write('{"model": "jpeg:90", "vers')  # a run that was cut off
    store = Store(tmp_path / "run")
    assert sweep([*contenders, parse("jpeg:60")], [picture], store, 1, steps.append) == []
    assert coded.stat().st_mtime == 1
    assert [row["model"] for row in store.rows.values()][-1] == "jpeg:60"
    assert len(Store(tmp_path / "run").rows) == 3

    coded.write_bytes(coded.read_bytes()[:-1])
    assert store.find(contenders[0], picture) is None  # its file is not whole
    Image.new("RGB", (64, 48), "red").save(path)
    assert store.find(contenders[1], read_folder(path.parent, IMAGE)[0][0]) is None  # the same name, another picture


def test_what_a_killed_run_leaves(tmp_path: Path) -> None:
    (tmp_path / ".decoded-x").mkdir(parents=True)
    (tmp_path / "points.jsonl").write_text("")
    Store(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["points.jsonl"]
    for text in ('{"x": 1}\n', "nothing\n", "3\n"):
        (tmp_path / "points.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"points\.jsonl: line 1 is no row of an evaluation"):
            Store(tmp_path)


def test_pictures_are_known_by_their_path_and_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "folder.png").mkdir(parents=True)
        Image.new("RGB", (20, 20), "red").save(tmp_path / folder / "x.png")
    (tmp_path / "b" / "broken.webp").write_bytes(b"RIFF")
    pictures, failures = read_folder(tmp_path, IMAGE)
    assert [p.name for p in pictures] == ["a/x.png", "b/x.png"]
    assert pictures[0].crc != pictures[1].crc
    assert len(failures) == 1
    assert failures[0].startswith("b/broken.webp: ")
    assert sweep([parse("jpeg:30")], pictures, Store(tmp_path / "run"), 1, lambda name: None) == []
    assert len(list((tmp_path / "run" / "coded").rglob("*.jpg"))) == 2
    with pytest.raises(ValueError, match="expected a folder of images; found a file"):
        read_folder(pictures[0].path, IMAGE)


def test_a_run_that_is_terminated_leaves_no_process(tmp_path: Path) -> None:
    command = ["evaluate", "--models", "walloc-rgb-4x", "--data", str(DATA), "--out", str(tmp_path / "out")]
    run = subprocess.Popen([sys.executable, "-m", "codomain.codecs.cli", *command], start_new_session=True)
    while not list((tmp_path / "out").glob(".decoded-*")):
        assert run.poll() is None
        time.sleep(0.1)
    run.terminate()
    assert run.wait(60) == 143
    assert list((tmp_path / "out").glob(".decoded-*")) == []
    for _ in range(100):  # multiprocessing's own tracker ends a moment after
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes are left")


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="is not empty and holds no evaluation"):
        Store(tmp_path)


def test_failures_are_lines_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(DATA / "chelsea.png", tmp_path / "photos")
    Image.new("RGB", (17000, 2), "red").save(tmp_path / "photos" / "wide.png")  # WebP holds sides up to 16383
    (good, wide), _ = read_folder(tmp_path / "photos", IMAGE)
    failures = sweep([parse("webp:30"), parse("jpeg:30")], [good, wide], Store(tmp_path / "run"), 2, lambda name: None)
    assert len(failures) == 1
    assert failures[0].startswith("webp:30: wide.png: ")
    rows = [json.loads(line) for line in (tmp_path / "run" / "points.jsonl").read_text().splitlines()]
    assert sorted((r["model"], r["image"]) for r in rows) == [
        ("jpeg:30", "chelsea.png"), ("jpeg:30", "wide.png"), ("webp:30", "chelsea.png"),
    ]  # fmt: skip
    assert [r["haarpsi"] for r in rows if r["image"] == "wide.png"] == [None]

    monkeypatch.setattr("codomain.codecs.sweep.sys.executable", "/bin/false")  # processes that die
    failures = sweep([parse("jpeg:50")], [good], Store(tmp_path / "run"), 1, lambda name: None)
    assert failures == ["jpeg:50: chelsea.png: its process ended with exit code 1: no message"]


def test_measure_says_when_sizes_differ(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((20, 30, 3), np.uint8))
    np.save(tmp_path / "y.npy", np.zeros((20, 31, 3), np.uint8))
    with pytest.raises(ValueError, match="decoded to 31 x 20; the picture is 30 x 20"):
        measure("image", tmp_path / "x.npy", tmp_path / "y.npy")


def test_speeds_are_of_a_process_of_its_own() -> None:
    began = time.time()
    row = time_codec(parse("jpeg:30"), [DATA / "chelsea.png"])
    assert set(row) == {"encode_mpix_s", "decode_mpix_s", "threads", "start_s", "peak_mb"}
    assert row["threads"] == 1
    assert 0 < row["start_s"] < time.time() - began
    assert 1 < row["encode_mpix_s"] < 5000
    assert 20 < row["peak_mb"] < 1500
