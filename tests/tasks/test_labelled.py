from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from codomain.tasks.labelled import cut, find, spaced, stream_seed, usual


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_class_folders(tmp_path: Path) -> None:
    items, classes = find(tree(tmp_path, ["dog/1.cdm", "cat/more/2.cdm", "cat/1.cdm", "cat/note.txt"]), {".cdm"})
    assert classes == ["cat", "dog"]
    assert [(item.key, item.label) for item in items] == [("1", 0), ("2", 0), ("1", 1)]
    assert items[1].read() == b"cat/more/2.cdm"


def test_shards_are_read_where_they_lie(tmp_path: Path, make_shard: Callable[..., Path]) -> None:
    make_shard(tmp_path / "a.tar", {"x/1.cdm": b"one", "x/1.cls": b"10", "x/2.cdm": b"two", "x/2.cls": b"9\n"})
    make_shard(tmp_path / "b.tar", {"1.cls": b"10", "1.cdm": b"three", "1.json": b"{}"})
    items, classes = find(tmp_path, {".cdm"})
    assert classes == ["9", "10"]  # numbers in their order
    assert [(item.read(), item.label) for item in items] == [(b"one", 1), (b"two", 0), (b"three", 1)]
    assert str(items[0]) == f"{tmp_path / 'a.tar'}: x/1.cdm"
    assert find(tmp_path / "b.tar", {".cdm"}) == ([items[2]._replace(label=0)], ["10"])
    make_shard(tmp_path / "c.tar", {f"{i}.{suffix}": str(i).encode() for i in range(9) for suffix in ("cdm", "cls")})
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": [*"klmnopqrs", "dog", "cat"]}))
    items, classes = find(tmp_path, {".cdm"})
    assert classes == ["cat", "dog", *"klmnopqrs"]
    assert [item.label for item in items] == [0, 1, 0, *range(2, 11)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "found no files to learn from"),
        (["a/1.cdm", "2.cdm"], r"no labels: 1 files \(.*2.cdm\) in no class folder"),
        (["a/1.cdm", "b/1.txt"], "no files .* in class b"),
    ],
)
def test_bad_folders(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        find(tree(tmp_path, names), {".cdm"})


def test_bad_shards(tmp_path: Path, make_shard: Callable[..., Path]) -> None:
    make_shard(tmp_path / "a.tar", {"1.cdm": b"one", "1.cls": b"cat", "2.cdm": b"two", "3.cls": b"dog"})
    with pytest.raises(ValueError, match=r"no labels \(.cls\): 1 files \(.*a.tar: 2.cdm\)"):
        find(tmp_path, {".cdm"})
    (tmp_path / "a.tar").write_bytes(b"no shard at all" * 100)
    with pytest.raises(ValueError, match=r"a\.tar: "):
        find(tmp_path, {".cdm"})
    make_shard(tmp_path / "a.tar", {"1.cdm": b"one", "1.cls": b"0", "2.cdm": b"two", "2.cls": b"0"})
    whole = (tmp_path / "a.tar").read_bytes()
    for damaged in (whole[:2060] + b"?" + whole[2061:], whole[:2048], whole[:700]):  # a header, between two, within one
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.tar: damaged, or cut"):
            find(tmp_path, {".cdm"})
    (tmp_path / "a.tar").write_bytes(whole)
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["cat", "dog"]}))
    with pytest.raises(ValueError, match=r"no files .* in class dog"):
        find(tmp_path, {".cdm"})


def test_the_split_goes_by_what_shards_are_written_with(tmp_path: Path, make_shard: Callable[..., Path]) -> None:
    names = [f"blues.{i:05d}" for i in range(40)]
    items, _ = find(tree(tmp_path / "loose", [f"blues/{name}.wav" for name in names]), {".wav"})
    shard = make_shard(
        tmp_path / "a.tar",
        {f"blues/{name.replace('.', '_')}.{suffix}": b"0" for name in names for suffix in ("cdm", "cls")},
    )
    stored, _ = find(shard, {".cdm"})
    assert [item.key for item in items] == [item.key for item in stored]
    assert len({item.key for item in items}) == 40


def test_windows() -> None:
    x = torch.arange(60).reshape(1, 6, 10)
    assert torch.equal(cut(x, [4, 4]), x[:, 1:5, 3:7])
    found = {tuple(cut(x, [2, 10], cell=2)[0, :, 0].tolist()) for _ in range(60)}
    assert found == {(0, 10), (20, 30), (40, 50)}  # steps of two
    wide = cut(x, [8, 10])
    assert wide.shape == (1, 8, 10) and not wide[:, 0].any() and torch.equal(wide[:, 1:7], x)
    assert cut(torch.arange(5)[None], [3]).tolist() == [[1, 2, 3]]


def test_usual_and_spaced() -> None:
    assert usual([(4, 4), (2, 3), (2, 3)]) == (2, 3)
    assert usual([(4, 4), (2, 3)]) == (2, 3)
    assert usual([(9,), (1,), (5,), (7,), (6,)]) == (6,)  # all differ: half of them are at least as long
    assert spaced(list("abcdef"), 3) == ["a", "c", "e"]
    assert spaced(list("ab"), 3) == ["a", "b"]


def test_ranks_and_resumed_runs_have_streams_of_their_own() -> None:
    data = L.LightningDataModule()
    assert stream_seed(data, 3) == 3
    seeds = []
    for step, rank in ((0, 0), (0, 1), (0, 2), (500, 0), (500, 1)):
        data.trainer = SimpleNamespace(global_step=step, global_rank=rank)
        seeds.append(stream_seed(data, 3))
    assert len(set(seeds)) == 5
