from __future__ import annotations

from pathlib import Path

import pytest
from codomain.codecs.shard_plan import make_plan


def make(folder: Path, sizes: dict[str, int]) -> Path:
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))
    return folder


def test_files_are_cut_in_order_and_labelled_by_their_first_folder(tmp_path: Path) -> None:
    sizes = {"dog/a.jpg": 6000, "cat/x/b.png": 4000, "cat/a.webp": 5000, "dog/big.JPG": 30_000, "notes.txt": 9}
    plan = make_plan(make(tmp_path, sizes), "image", 10_000)
    assert plan.classes == ("cat", "dog")
    assert plan.unlabelled == 0
    found = [(shard.name, [(s.name, s.n_bytes, s.key, s.label) for s in shard.sources]) for shard in plan.shards]
    assert found == [
        ("00000", [("cat/a.webp", 5000, "cat/a", 0), ("cat/x/b.png", 4000, "cat/x/b", 0)]),
        ("00001", [("dog/a.jpg", 6000, "dog/a", 1)]),
        ("00002", [("dog/big.JPG", 30_000, "dog/big", 1)]),
    ]


def test_the_digest_tells_names_sizes_labels_and_cuts_apart(tmp_path: Path) -> None:
    sizes = {"b/a.jpg": 6000, "b/b.jpg": 6000}
    plans = [
        make_plan(make(tmp_path / str(i), {**sizes, **more}), "image", n_bytes)
        for i, (more, n_bytes) in enumerate(
            (({}, 20_000), ({}, 20_000), ({}, 10_000), ({"b/b.jpg": 6001}, 20_000), ({"a/a.jpg": 1}, 20_000))
        )
    ]
    assert plans[0] == plans[1]
    assert len({plan.digest for plan in plans}) == 4
    assert plans[0].shards[0].digest == plans[1].shards[0].digest != plans[2].shards[0].digest


def test_keys_have_no_dots_and_differ(tmp_path: Path) -> None:
    names = ["v1.2/a.jpg", "v1.2/a.png", "v1.2/a.b.jpg", "v1.2/a_b.jpg", "v1.2/.c.jpg", "v1.2/a-png.jpg"]
    plan = make_plan(make(tmp_path, dict.fromkeys(names, 1)), "image", 1_000_000)
    found = {s.name.split("/")[1]: s.key for s in plan.shards[0].sources}
    assert found == {
        ".c.jpg": "v1.2/_c", "a-png.jpg": "v1.2/a-png", "a.b.jpg": "v1.2/a_b", "a.jpg": "v1.2/a",
        "a.png": "v1.2/a-png-2", "a_b.jpg": "v1.2/a_b-jpg",
    }  # fmt: skip


def test_links_to_folders_are_followed_but_not_round(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", {"a.jpg": 1})
    make(tmp_path / "set", {"dog/b.jpg": 1})
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "dog" / "round").symlink_to(tmp_path / "set")
    plan = make_plan(tmp_path / "set", "image", 1_000_000)
    assert [s.name for s in plan.shards[0].sources] == ["cat/a.jpg", "dog/b.jpg"]


def test_files_outside_of_folders_have_no_label(tmp_path: Path) -> None:
    plan = make_plan(make(tmp_path, {"a.jpg": 1, "b.jpg": 1}), "image", 1_000_000)
    assert (plan.classes, plan.unlabelled) == ((), 2)
    assert [s.label for s in plan.shards[0].sources] == [None, None]


def test_tar_shards_become_one_shard_each(tmp_path: Path) -> None:
    plan = make_plan(make(tmp_path, {"train-1.tar": 90_000, "train-0.tar": 10, "sizes.json": 4}), "image", 20_000)
    assert [(shard.name, [s.name for s in shard.sources]) for shard in plan.shards] == [
        ("00000", ["train-0.tar"]), ("00001", ["train-1.tar"]),
    ]  # fmt: skip


def test_sound_has_files_of_its_own(tmp_path: Path) -> None:
    plan = make_plan(make(tmp_path, {"a/a.jpg": 1, "a/b.flac": 2}), "sound", 1_000_000)
    assert [s.name for s in plan.shards[0].sources] == ["a/b.flac"]


@pytest.mark.parametrize(
    ("sizes", "n_bytes", "message"),
    [
        ({"notes.txt": 1}, 1_000_000, "no tar shards, and no files that end in .arw .avif"),
        ({"a.tar": 1, "b/c.jpg": 1}, 1_000_000, "expected files or tar shards; found both, a.tar and b/c.jpg"),
        ({"b/c.jpg": 1}, 0, "a shard holds at least 10000 bytes of input; found 0"),
        ({"b/c.jpg": 1}, 64, "at least 10000 bytes of input; found 64"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, sizes: dict[str, int], n_bytes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(make(tmp_path, sizes), "image", n_bytes)
