from __future__ import annotations

import argparse
from collections.abc import Callable
from fractions import Fraction

import pytest
from codomain.codecs.arguments import duration, frames, make_parser, part, ratio, size

COMMANDS = ("encode", "decode", "info", "verify", "models", "evaluate", "train", "compare", "predict", "bench")


def parse(*words: str) -> object:
    return make_parser({name: lambda _, name=name: name for name in COMMANDS}).parse_args(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(command, "--help")
    assert left.value.code == 0
    assert f"codomain {command}" in capsys.readouterr().out


def test_one_rate_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse("encode", "x.wav", "--quality", "50", "--target-kbps", "64")
    assert left.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_times_and_stages_are_numbers() -> None:
    arguments = parse("decode", "x.cdm", "--start", "12.5", "--stop", "20", "--stages", "2")
    assert (arguments.start, arguments.stop, arguments.stages) == (12.5, 20.0, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (size, "60k", 60e3), (size, "1.5M", 1.5e6), (size, "256MB", 256e6), (size, "60000", 6e4), (size, "60B", None),
        (size, "k", None), (size, "60 apples", None),
        (duration, "90", 90.0), (duration, "90s", 90.0), (duration, "10m", 600.0), (duration, "1h", 3600.0),
        (duration, "soon", None), (duration, "inf", None), (ratio, "1/2", Fraction(1, 2)),
        (ratio, "30000/1001", Fraction(30000, 1001)), (ratio, "1/0", None), (ratio, "-1", None),
        (frames, "100:120", (100, 120)), (frames, "7", (7, 8)), (frames, "7:", (7, None)), (frames, ":7", (None, 7)),
        (frames, "", None), (frames, "a:b", None), (part, "0/8", (0, 8)), (part, "7/8", (7, 8)), (part, "8/8", None),
        (part, "-1/8", None), (part, "3", None), (part, "", None),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(read: Callable[[str], object], text: str, value: object) -> None:
    if value is not None:
        assert read(text) == value
        return
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected .*; found '{text}'"):
        read(text)
