from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from codomain.codecs.inputs import complain, each, inspect
from codomain.codecs.progress import Bar


def test_a_failed_job_costs_a_line_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one(source: Path, target: Path, bar: Bar) -> dict[str, Any]:
        if source.name == "b.png":
            raise ValueError("expected a picture; found\n two lines")
        return {"width": 3, "height": 2, "n_bytes": 7}

    pairs = [(tmp_path / f"{name}.png", tmp_path / f"{name}.cdm") for name in "abc"]
    assert each(argparse.Namespace(json=True), pairs, one) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(Path(row["input"]).name, row["n_bytes"]) for row in rows] == [("a.png", 7), ("c.png", 7)]
    assert f"codomain: {tmp_path}/b.png: expected a picture; found two lines\n" in err
    assert err.endswith("codomain: 1 of 3 failed\n")
    assert each(argparse.Namespace(json=False), pairs[:1], one) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/a.cdm: 3 x 2, 7 bytes, ")


def test_a_look_at_every_file_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.cdm", "a.cdm", "c.png"):
        (tmp_path / name).write_bytes(name.encode())
    inputs = argparse.Namespace(input=[tmp_path, tmp_path / "none"], json=False)
    assert inspect(inputs, lambda data: {"size": len(data), "note": ""}) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"      file  {tmp_path}/a.cdm", "      size  5", f"      file  {tmp_path}/b.cdm",
                                "      size  5"]  # fmt: skip
    assert err == f"codomain: {tmp_path}/none: no such file or folder\n"
    assert inspect(argparse.Namespace(input=[tmp_path], json=True), lambda data: {}, {".png"}) == 0
    assert json.loads(capsys.readouterr().out) == {"file": f"{tmp_path}/c.png"}


def test_an_error_names_its_input_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(ValueError("a.png: is none"), Path("a.png")) == 1
    complain(FileNotFoundError(2, "No such file", "x"), Path("a.png"))
    assert capsys.readouterr().err == "codomain: a.png: is none\ncodomain: x: No such file\n"
