from __future__ import annotations

from pathlib import Path

import pytest
from codomain.codecs.demo import main
from codomain.codecs.load import names
from PIL import Image

DATA = Path(__file__).parents[1] / "data"


def test_demo_leaves_files_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(DATA / "chelsea.png", tmp_path)
    table = capsys.readouterr().out
    for name in names("image"):
        assert name in table
        assert (tmp_path / f"chelsea_{name}.cdm").exists()
        assert Image.open(tmp_path / f"chelsea_{name}.png").size == (451, 300)
    assert "JPEG" in table
    assert "WebP" in table
    assert Image.open(tmp_path / "comparison.png").width > 1500
