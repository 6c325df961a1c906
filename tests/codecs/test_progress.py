from __future__ import annotations

import sys

import numpy as np
import pytest
from codomain.codecs.progress import Bar, progress


def test_nobody_watching_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "work") as bar:
        for _ in range(3):
            bar.begin("x")
            bar.finish()
    assert capsys.readouterr().err == ""


def test_a_log_has_a_line_for_every_tenth_of_long_work(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(60, "sweep", logged=True) as bar:
        for _ in range(60):
            bar.finish("x")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "sweep: 60 of 60, about 0 s left"


def test_a_bar_shows_shares_and_throughput(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(2, "encode") as bar:
        bar.begin("song.flac")
        blocks = list(bar.count([np.zeros((2, 30)), np.zeros((2, 10))], 80))
        assert [b.shape[1] for b in blocks] == [30, 10]
        assert bar.items + bar.share == 0.5
        bar.finish()
        assert (bar.items, bar.share) == (1, 0.0)
    assert "Msamples/s" in capsys.readouterr().err


def test_a_share_is_at_most_an_item() -> None:
    bar = Bar(2)
    for _ in range(3):
        bar.pass_through(1.0, "Msamples", 0.5)
    assert bar.share == 1.0


def test_work_says_how_far_it_is_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(1) as bar:
        bar.tell(0.25, "25%, 30.1 dB")
        assert bar.share == 0.25
        assert list(bar.tally("abcd", 4, "frames")) == list("abcd")
        assert bar.share == 1.0
        bar.tell(0.5, "50%, 31.0 dB")
    assert "31.0 dB" in capsys.readouterr().err
