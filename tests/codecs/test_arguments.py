from __future__ import annotations

import pytest
from codomain.codecs.arguments import make_parser

COMMANDS = ("encode", "decode", "info", "verify", "models", "evaluate", "train", "bench")


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
