from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from codomain.codecs.cli import main
from codomain.codecs.dataset import Settings, encode_dataset, work
from codomain.codecs.shard_plan import make_plan
from codomain.codecs.shards import Recipe, claim
from PIL import Image

DATA = Path(__file__).parents[1] / "data"
MODEL = "walloc-rgb-16x"
CODOMAIN = [sys.executable, "-m", "codomain.codecs.cli"]
SIZE = 100_000  # of a shard


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of a photograph in folders of two classes; about 13 to a shard."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    with Image.open(DATA / "coffee.png") as photo:
        for i in range(240):
            path = folder / ("cup", "spoon")[i % 2] / f"{i:03}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            x, y = 7 * i % (photo.width - 192), 5 * i % (photo.height - 128)
            photo.convert("RGB").crop((x, y, x + 192, y + 128)).save(path, quality=95, method=0)
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos: Path) -> dict[str, bytes]:
    """What a run that nothing disturbs writes, here in this process."""
    recipe = Recipe(photos, photos.parent / "undisturbed", MODEL, None)
    for shard in make_plan(photos, "image", SIZE).shards:
        assert "error" not in work(shard, recipe)
    return content(recipe.out)


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("0*")}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_killed_in_the_middle_and_started_again(
    photos: Path, undisturbed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["encode", str(photos), str(out), "--shards", "100kB", "--model", MODEL, "--jobs"]
    killed = subprocess.Popen([*CODOMAIN, *command, "2"])
    try:
        until(lambda: len(list(out.glob("0*.json"))) >= 2 and any(out.glob(".codomain-0*.part")))
        workers = children(killed.pid)
    finally:
        killed.kill()
        killed.wait()
    assert len(workers) >= 2
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers), 10)  # they do not outlive it
    halfway = content(out)
    assert 2 <= sum(name.endswith(".json") for name in halfway) < len(undisturbed) // 2
    assert all(data == undisturbed[name] for name, data in halfway.items())  # no partial shard has its name
    partials = list(out.glob(".codomain-0*.part"))
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("0*.json")}

    n = len(undisturbed) // 2
    assert main([*command, "1", "--shard", "1/2"]) == 0
    assert f"{n // 2} of {n} shards" in capsys.readouterr().out
    assert main([*command, "1"]) == 0
    said = capsys.readouterr()
    assert f"{n} of {n} shards, 240 samples" in said.out
    assert said.err == ""
    assert content(out) == undisturbed
    assert not any(path.exists() for path in partials)
    assert not list(out.glob(".codomain*"))
    assert all((out / name).stat().st_mtime_ns == then for name, then in times.items())  # not done again
    names = []
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    wanted = [path.relative_to(photos).with_suffix("") for path in photos.rglob("*.webp")]
    assert sorted(names) == sorted(f"{key}.{suffix}" for key in wanted for suffix in ("cdm", "cls"))


def test_ctrl_c_leaves_what_is_finished(photos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*CODOMAIN, "encode", str(photos), str(out), "--shards", "100kB", "--model", MODEL, "--jobs", "1"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: any(out.glob("0*.json")))
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, said) == (130, "codomain: interrupted; finished files are kept\n")
    assert all(data == undisturbed[name] for name, data in content(out).items())
    assert not list(out.glob(".codomain*"))


def test_what_fails_is_named_and_costs_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(DATA / "chelsea.png", folder)
    (folder / "broken.jpg").write_bytes(b"no picture")
    command = ["encode", str(folder), str(out), "--shards", "1M", "--model", MODEL, "--jobs", "1"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "codomain: broken.jpg: not an image that can be read (10 bytes)",
        "codomain: 2 files lie in no class folder and have no label",
        "codomain: 1 of 2 samples failed",
    ]
    assert "1 of 1 shards, 1 samples, 0.2 MB -> 0.0 MB" in said.out
    assert main([*command, "--json"]) == 1  # all is complete, and still one lacks
    assert json.loads(capsys.readouterr().out) == json.loads((out / "00000.json").read_text())
    shutil.copy(DATA / "coffee.png", folder / "broken.jpg")
    assert main(command) == 1
    assert f"{out} holds another data set, of another plan: --force replaces" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


def test_a_damaged_shard_fails_alone(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b"):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            tar.add(photos / "cup" / "000.webp", "0.webp")
    (folder / "a.tar").write_bytes((folder / "a.tar").read_bytes()[:4000])
    assert main(["encode", str(folder), str(out), "--shards", "1M", "--model", MODEL, "--jobs", "1"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"codomain: shard 00000: {folder / 'a.tar'}: damaged, or cut, or no tar file: 0.webp is not whole",
        "codomain: 1 of 2 shards failed",
    ]
    assert "1 of 2 shards, 1 samples" in said.out
    assert sorted(p.name for p in out.iterdir()) == ["00001.json", "00001.tar", "dataset.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "--shards", "1M"], "--shards needs OUT, a folder of shards, and --quality in place of a target"),
        (["in", "out", "--shards", "1M", "--target-bpp", "1"], "and --quality in place of a target"),
        (["in", "out", "--jobs", "1"], "--shard, --jobs and --engine are of data sets, which --shards encodes"),
        (["in", "out", "--shards", "0"], "a shard holds at least 10000 bytes of input; found 0"),
        (["in", "out", "--shards", "1M", "--jobs", "0"], "expected at least 1 job; found 0"),
        (["in", "out", "--shards", "1M", "--quality", "0"], "quality is 1 to 100, in quarters; found 0"),
        (["in", "out", "--shards", "1M", "--model", "hnerv"], "hnerv codes video, one film at a time"),
        (["in", "in/out", "--shards", "1M"], "in/out lies in"),
        (["in/cat.png", "out", "--shards", "1M"], "cat.png: expected a folder of files, or of tar shards"),
        (["empty", "out", "--shards", "1M"], "empty: no tar shards, and no files that end in"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "empty"):
        (tmp_path / folder).mkdir()
    shutil.copy(DATA / "chelsea.png", tmp_path / "in" / "cat.png")
    assert main(["encode", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "in"]


def test_a_ray_cluster_of_two_nodes_writes_the_same(
    photos: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    from ray._private import services
    from ray.cluster_utils import Cluster

    def patient(*args: object, find: Callable[..., dict[str, Any]] = services.get_node) -> dict[str, Any]:
        for _ in range(100):
            try:
                return find(*args)
            except RuntimeError:
                time.sleep(1)
        return find(*args)

    monkeypatch.setattr(services, "get_node", patient)  # Ray gives a node 30 s, which a busy machine exceeds
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        recipe = Recipe(photos, tmp_path / "out", MODEL, None)
        plan = make_plan(photos, "image", SIZE)
        claim(plan, recipe, False)
        work(plan.shards[1], recipe)
        outcome = encode_dataset(recipe, SIZE, Settings(engine="ray"))
        assert ray.cluster_resources()["CPU"] == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert outcome.n_before == 1
    assert sorted(row["shard"] for row in outcome.rows) == [shard.name for shard in outcome.plan.shards]
    assert content(recipe.out) == undisturbed
