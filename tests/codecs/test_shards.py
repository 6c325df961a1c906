from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs import bitstream, files
from codomain.codecs.load import load
from codomain.codecs.shard_plan import Plan, make_plan
from codomain.codecs.shards import Recipe, Row, claim, complete, remove_partials, write_shard
from PIL import Image

DATA = Path(__file__).parents[1] / "data"
MODEL = "walloc-rgb-16x"


def crops(folder: Path, n: int) -> Path:
    with Image.open(DATA / "chelsea.png") as photo:
        for i in range(n):
            path = folder / ("cat", "whisker")[i % 2] / f"{i:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo.convert("RGB").crop((5 * i, 3 * i, 5 * i + 160, 3 * i + 128)).save(path, quality=95)
    return folder


def write(recipe: Recipe, n_bytes: int = 1_000_000) -> list[Row]:
    return [write_shard(shard, recipe, lambda: None) for shard in make_plan(recipe.folder, "image", n_bytes).shards]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def tar_of(path: Path, parts: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 12345
            tar.addfile(member, io.BytesIO(data))
    return path


def test_a_shard_holds_what_encode_writes_and_its_sidecar_counts_it(tmp_path: Path) -> None:
    recipe = Recipe(crops(tmp_path / "in", 5), tmp_path / "out", MODEL, 30.0)
    advanced: list[int] = []
    (shard,) = make_plan(recipe.folder, "image", 1_000_000).shards
    row = write_shard(shard, recipe, lambda: advanced.append(1))
    found, codec = members(recipe.out / "00000.tar"), load(MODEL)
    assert list(found) == [f"{key}.{s}" for key in ("cat/000", "cat/002", "cat/004", "whisker/001", "whisker/003")
                           for s in ("cdm", "cls")]  # fmt: skip
    for name in ("cat/004", "whisker/001"):
        assert (
            found[f"{name}.cdm"] == files.encode_picture((recipe.folder / f"{name}.jpg").read_bytes(), codec, 30.0)[0]
        )
        assert found[f"{name}.cls"] == (b"0" if "cat" in name else b"1")
    data = (recipe.out / "00000.tar").read_bytes()
    assert json.loads((recipe.out / "00000.json").read_text()) == row == {
        "shard": "00000", "samples": 5, "failures": [], "bytes_out": len(data),
        "bytes_in": sum(p.stat().st_size for p in recipe.folder.rglob("*.jpg")),
        "sha256": hashlib.sha256(data).hexdigest(), "sources": shard.digest, "model": MODEL,
        "weights": codec.digest.hex(), "quality": 30.0,
    }  # fmt: skip
    assert len(advanced) == 5
    assert sorted(p.name for p in recipe.out.iterdir()) == ["00000.json", "00000.tar"]


def test_bytes_do_not_depend_on_who_writes_which_shard_when(tmp_path: Path) -> None:
    recipe = Recipe(crops(tmp_path / "in", 8), tmp_path / "a", MODEL, None)
    write(recipe, 15_000)
    moved = shutil.copytree(recipe.folder, tmp_path / "elsewhere")
    again = Recipe(moved, tmp_path / "b", MODEL, None)
    shards = make_plan(moved, "image", 15_000).shards
    assert len(shards) >= 3
    for shard in reversed(shards):
        write_shard(shard, again, lambda: None)
    for path in recipe.out.iterdir():
        assert path.read_bytes() == (again.out / path.name).read_bytes()


def test_a_shard_is_complete_if_its_sidecar_fits(tmp_path: Path) -> None:
    recipe = Recipe(crops(tmp_path / "in", 2), tmp_path / "out", MODEL, None)
    (shard,) = make_plan(recipe.folder, "image", 1_000_000).shards
    assert complete(shard, recipe) is None
    row = write_shard(shard, recipe, lambda: None)
    assert complete(shard, recipe) == row
    assert complete(shard, replace(recipe, quality=60.0)) is None
    assert complete(shard, replace(recipe, model="walloc-rgb-4x")) is None
    (source, other) = shard.sources
    assert complete(replace(shard, sources=(source, other._replace(n_bytes=1))), recipe) is None
    tar, sidecar = recipe.out / "00000.tar", recipe.out / "00000.json"
    for damaged in (b"", b"[]", b"{}", b"\xff", sidecar.read_bytes()[:-9]):
        kept = sidecar.read_bytes()
        sidecar.write_bytes(damaged)
        assert complete(shard, recipe) is None
        sidecar.write_bytes(kept)
    tar.write_bytes(tar.read_bytes()[:-512])
    assert complete(shard, recipe) is None


def test_failures_are_left_out_and_named(tmp_path: Path) -> None:
    recipe = Recipe(crops(tmp_path / "in", 3), tmp_path / "out", MODEL, None)
    (recipe.folder / "cat" / "000.jpg").write_bytes(b"no picture")
    (recipe.folder / "cat" / "heic.heic").write_bytes(b"....ftypheic")
    (plan,) = make_plan(recipe.folder, "image", 1_000_000).shards
    (recipe.folder / "whisker" / "001.jpg").unlink()
    row = write_shard(plan, recipe, lambda: None)
    assert row["samples"] == 1
    assert list(members(recipe.out / "00000.tar")) == ["cat/002.cdm", "cat/002.cls"]
    assert [name for name, _ in row["failures"]] == ["cat/000.jpg", "cat/heic.heic", "whisker/001.jpg"]
    assert row["failures"][0][1] == "not an image that can be read (10 bytes)"
    assert row["failures"][2][1].endswith("001.jpg: No such file or directory")


def test_a_tar_shard_keeps_all_but_the_pictures(tmp_path: Path) -> None:
    picture = (crops(tmp_path / "photos", 1) / "cat" / "000.jpg").read_bytes()
    parts = {
        "a/0001.jpg": picture, "a/0001.cls": b"7", "a/0001.mask.png": b"not looked at", "a/0002.json": b"{}",
        "a/0002.JPG": picture, "b.jpg": b"broken", "b.cls": b"1", "c.cdm": b"coded before", "c.txt": b"",
        "d.jpg": picture, "d.png": picture, "e.jpg": picture, "e.1.cls": b"x", "README": b"all",
    }  # fmt: skip
    tar_of(tmp_path / "in" / "train.tar", parts)
    recipe = Recipe(tmp_path / "in", tmp_path / "out", MODEL, None)
    (row,) = write(recipe)
    coded = files.encode_picture(picture, load(MODEL))[0]
    assert members(recipe.out / "00000.tar") == {
        "a/0001.cdm": coded, "a/0001.cls": b"7", "a/0001.mask.png": b"not looked at", "a/0002.json": b"{}",
        "a/0002.cdm": coded, "c.cdm": b"coded before", "c.txt": b"", "e.cdm": coded, "e.1.cls": b"x", "README": b"all",
    }  # fmt: skip
    assert row["samples"] == 5
    assert row["failures"] == [
        ["train.tar: b", "not an image that can be read (6 bytes)"],
        ["train.tar: d", "expected one image in a sample; found jpg and png"],
    ]


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda data: data[:700], "a.txt is not whole"),
        (lambda data: data[:1024], "no end of archive"),
        (lambda data: data[:1024] + b"x" * 512 + data[1536:], "no end of archive"),
        (lambda data: data[:0], "empty"),
        (lambda data: b"x" * 5000, "invalid header"),
    ],
)
def test_a_damaged_tar_makes_no_shard(tmp_path: Path, cut: object, message: str) -> None:
    path = tar_of(tmp_path / "in" / "train.tar", {"a.txt": b"1" * 300, "b.txt": b"2"})
    path.write_bytes(cut(path.read_bytes()))  # type: ignore[operator]
    recipe = Recipe(tmp_path / "in", tmp_path / "out", MODEL, None)
    with pytest.raises(ValueError, match=f"train.tar: damaged, or cut, or no tar file: .*{message}"):
        write(recipe)
    assert list(recipe.out.iterdir()) == []


def test_sound_is_coded_too(tmp_path: Path) -> None:
    (tmp_path / "in" / "hum").mkdir(parents=True)
    wave = 0.3 * np.sin(np.arange(9000) / 20)
    soundfile.write(tmp_path / "in" / "hum" / "a.flac", np.stack((wave, wave), 1), 44100)
    recipe = Recipe(tmp_path / "in", tmp_path / "out", "walloc-stereo-20x", None)
    (shard,) = make_plan(recipe.folder, "sound", 1_000_000).shards
    write_shard(shard, recipe, lambda: None)
    found = members(recipe.out / "00000.tar")
    assert list(found) == ["hum/a.cdm", "hum/a.cls"]
    assert bitstream.read_header(found["hum/a.cdm"]).shape == (2, 9000, 44100)


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    recipe = Recipe(crops(tmp_path / "in", 6), tmp_path / "out", MODEL, None)
    write(recipe, 12_000)
    paths = sorted(map(str, recipe.out.glob("*.tar")))
    assert len(paths) >= 2
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [
        "cat/000", "cat/002", "cat/004", "whisker/001", "whisker/003", "whisker/005",
    ]  # fmt: skip
    assert [sample["cls"] for sample in samples] == [0, 0, 0, 1, 1, 1]
    assert load(MODEL).read_latents(samples[3]["cdm"]).shape == (1, 12, 16, 20)


def test_a_folder_holds_one_data_set(tmp_path: Path) -> None:
    recipe = Recipe(crops(tmp_path / "in", 4), tmp_path / "out", MODEL, None)
    plan = make_plan(recipe.folder, "image", 10_000)
    claim(plan, recipe, False)
    claim(plan, recipe, False)
    row = json.loads((recipe.out / "dataset.json").read_text())
    assert row == {
        "model": MODEL, "weights": load(MODEL).digest.hex(), "quality": 50.0, "classes": ["cat", "whisker"],
        "shards": len(plan.shards), "plan": plan.digest,
    }  # fmt: skip
    fewer = Plan(plan.shards[:1], plan.classes)
    for other, how, message in (
        (plan, replace(recipe, quality=60.0), r"of another quality \(50.0, not 60.0\): --force replaces what differs"),
        (plan, replace(recipe, model="walloc-rgb-4x"), r"another model \(walloc-rgb-16x, not walloc-rgb-4x\)"),
        (fewer, recipe, rf"another shards \({len(plan.shards)}, not 1\)"),
        (make_plan(crops(recipe.folder, 2), "image", 10_000), recipe, None),
    ):
        if message is not None:
            with pytest.raises(ValueError, match=message):
                claim(other, how, False)
    write(recipe, 10_000)
    claim(fewer, recipe, True)
    assert sorted(p.name for p in recipe.out.iterdir()) == ["00000.json", "00000.tar", "dataset.json"]
    (recipe.out / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"holds tar files and no dataset.json: --force replaces them"):
        claim(plan, recipe, False)


def test_only_what_a_killed_run_left_of_these_shards_is_removed(tmp_path: Path) -> None:
    recipe = Recipe(crops(tmp_path / "in", 4), tmp_path / "out", MODEL, None)
    plan = make_plan(recipe.folder, "image", 10_000)
    recipe.out.mkdir()
    for name in ("00000", "00001"):
        with files.writing(recipe.out / f"{name}.tar", force=False) as partial:
            shutil.copy(DATA / "chelsea.png", kept := partial.with_name(partial.name.replace(".part", "x.part")))
            assert kept.exists()
        (recipe.out / f"{name}.tar").unlink()
    assert len(list(recipe.out.iterdir())) == 2
    remove_partials(recipe.out, plan.shards[:1])
    (left,) = recipe.out.iterdir()
    assert left.name.startswith(".codomain-00001-")
