from __future__ import annotations

from pathlib import Path

import pytest
from codomain.codecs.files import jobs, write


def test_folders_keep_their_tree_and_every_file_its_own_name(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "sub/b.PNG", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pairs = list(jobs(tmp_path, Path("out"), {".png", ".jpg"}, ".cdm"))
    assert [str(target) for _, target in pairs] == ["out/a.jpg.cdm", "out/a.png.cdm", "out/sub/b.cdm"]


def test_single_files_and_streams(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.touch()
    assert list(jobs(photo, None, set(), ".cdm")) == [(photo, tmp_path / "photo.cdm")]
    assert list(jobs(photo, tmp_path, set(), ".cdm")) == [(photo, tmp_path / "photo.cdm")]
    assert list(jobs(Path("-"), None, set(), ".cdm")) == [(Path("-"), Path("-"))]
    with pytest.raises(ValueError, match="no such file"):
        list(jobs(tmp_path / "nothing", None, set(), ".cdm"))
    with pytest.raises(ValueError, match=r"no files that end in \.tif"):
        list(jobs(tmp_path, None, {".tif"}, ".cdm"))


def test_nothing_is_overwritten_or_left_half_written(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.cdm"
    write(target, b"one", force=False)
    with pytest.raises(ValueError, match="exists already"):
        write(target, b"two", force=False)
    write(target, b"three", force=True)
    assert target.read_bytes() == b"three"
    with pytest.raises(TypeError):
        write(tmp_path / "y", "not bytes", force=False)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["new", "x.cdm"]
