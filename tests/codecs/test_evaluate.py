from __future__ import annotations

from pathlib import Path

import pytest
from codomain.codecs.cli import main
from codomain.codecs.evaluate import evaluate

DATA = Path(__file__).parents[1] / "data"


def test_real_files_against_a_baseline(tmp_path: Path) -> None:
    csv = tmp_path / "rd.csv"
    assert main(["evaluate", "--models", "walloc-rgb-4x", "jpeg:30", "--data", str(DATA), "--out", str(csv)]) == 0
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    assert rows[0] == ["model", "image", "n_bytes", "bpp", "psnr"]
    assert [(r[0], r[1]) for r in rows[1:]] == [
        (model, image) for model in ("walloc-rgb-4x", "jpeg:30") for image in ("chelsea.png", "coffee.png")
    ]
    assert all(float(r[4]) > 27 and 0.2 < float(r[3]) < 1 for r in rows[1:])


@pytest.mark.parametrize("model", ["nothing", "jpeg:300", "gif:4"])
def test_unknown_models(model: str) -> None:
    with pytest.raises(ValueError, match=f"no model '{model}'"):
        evaluate([model], DATA)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images"):
        evaluate(["jpeg:30"], tmp_path)
