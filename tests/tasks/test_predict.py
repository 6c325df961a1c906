from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from codomain.codecs.cli import main
from codomain.codecs.load import load
from codomain.tasks.classify import Classify


def checkpoint(path: Path, channels: int, data: dict[str, Any], **about: Any) -> Path:
    """An untrained classifier, as `codomain train` leaves it."""
    module = Classify(patch=2, width=8, depth=1)
    module.build({"channels": channels, "ndim": 2, "classes": ["a", "b", "c", "d"], "data": data} | about)
    saved: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


def test_files_and_pictures(latents: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = load("walloc-rgb-16x")
    made = checkpoint(tmp_path / "x.ckpt", 12, {"codec": codec.name, "digest": codec.digest.hex()})
    other, bad = tmp_path / "other.cdm", tmp_path / "bad.png"
    other.write_bytes(load("walloc-rgb-4x").compress(torch.zeros(1, 3, 48, 64)))
    bad.write_bytes(b"no picture")
    stored, source = latents / "fine" / "fine0.cdm", pictures / "fine" / "fine0.png"
    assert main(["predict", "--checkpoint", str(made), *map(str, (stored, other, source, bad))]) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row.pop("file") for row in rows] == [str(stored), str(source)]
    assert rows[0] == rows[1]  # a picture is coded first, as the stored one was
    assert len(rows[0]["top"]) == 3 and rows[0]["label"] == next(iter(rows[0]["top"]))
    assert rows[0]["probability"] == max(rows[0]["top"].values())
    lines = err.splitlines()
    assert len(lines) == 2
    assert f"{other}: made by walloc-rgb-4x; the checkpoint learnt from walloc-rgb-16x" in lines[0]
    assert str(bad) in lines[1]
    assert main(["predict", "--checkpoint", str(made), str(latents)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 20


def test_pixels(latents: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = checkpoint(tmp_path / "x.ckpt", 3, {"shrink": 4})
    assert main(["predict", "--checkpoint", str(made), str(pictures / "fine" / "fine0.png")]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in "abcd"
    assert main(["predict", "--checkpoint", str(made), str(latents / "fine" / "fine0.cdm")]) == 1
    assert "learnt from pixels" in capsys.readouterr().err


def test_a_checkpoint_of_another_codec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = checkpoint(tmp_path / "x.ckpt", 12, {"codec": "walloc-rgb-16x", "digest": "0" * 16})
    assert main(["predict", "--checkpoint", str(made), "x.cdm"]) == 1
    assert "learnt from walloc-rgb-16x, weights 0000000000000000; none such ships" in capsys.readouterr().err
