from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs.cli import main
from codomain.codecs.ladder import ladder

DATA = Path(__file__).parents[1] / "data"


def test_files_cost_hardly_more_than_their_tables_say(tmp_path: Path) -> None:
    t = np.arange(80000) / 16000
    soundfile.write(tmp_path / "x.flac", 0.3 * np.sin(2 * np.pi * 180 * t) * (t % 0.4), 16000)
    bits = ladder("hificodec-speech-16k", tmp_path)
    assert bits["fixed length"] == 10
    assert bits["previous frame"] < bits["whole files"] < bits["previous frame"] + 8 * 90 / (4 * 250)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.png").write_bytes((DATA / "chelsea.png").read_bytes())
    assert main(["evaluate", "--models", "simvq-rgb", "--data", str(tmp_path), "--ladder"]) == 0
    printed = capsys.readouterr().out
    assert "fixed length" in printed and "16.000" in printed
    assert main(["evaluate", "--models", "walloc-rgb-4x", "--data", str(tmp_path), "--ladder"]) == 1
    assert "walloc-rgb-4x has no codes" in capsys.readouterr().err
