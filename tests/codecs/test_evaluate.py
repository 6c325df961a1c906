from __future__ import annotations

from pathlib import Path

import pytest
from codomain.codecs.cli import main
from codomain.codecs.evaluate import evaluate
from PIL import Image

DATA = Path(__file__).parents[1] / "data"


def test_real_files_against_a_baseline(tmp_path: Path) -> None:
    csv = tmp_path / "rd.csv"
    assert main(["evaluate", "--models", "walloc-rgb-4x", "jpeg:30", "--data", str(DATA), "--out", str(csv)]) == 0
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    assert rows[0] == ["model", "image", "n_bytes", "bpp", "psnr", "ssim", "ms_ssim", "haarpsi"]
    assert [(r[0], r[1]) for r in rows[1:]] == [
        (model, image) for model in ("walloc-rgb-4x", "jpeg:30") for image in ("chelsea.png", "coffee.png")
    ]
    assert all(float(r[4]) > 27 and 0.2 < float(r[3]) < 1 for r in rows[1:])
    assert all(0.75 < float(value) < 1 for r in rows[1:] for value in r[5:7])


@pytest.mark.parametrize("model", ["nothing", "gif:4"])
def test_unknown_models(model: str) -> None:
    with pytest.raises(ValueError, match=f"no model '{model}'; there are walloc-.*, jpeg:1...95, webp:0"):
        evaluate([model], DATA)


def test_small_pictures_lack_some_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (12, 9), "red").save(tmp_path / "tiny.png")
    row = evaluate(["jpeg:30"], tmp_path)[0]
    assert (row["ssim"], row["ms_ssim"], row["haarpsi"]) == (None, None, None)
    assert isinstance(row["psnr"], float)
    assert " - " in capsys.readouterr().out


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images"):
        evaluate(["jpeg:30"], tmp_path)
