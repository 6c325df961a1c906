from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.cli import main
from codomain.codecs.metrics import psnr
from PIL import Image

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "chelsea.png", tmp_path / "cat.png"))


@pytest.mark.parametrize(("model", "least"), [("walloc-rgb-16x", 28.0), ("walloc-rgb-4x", 30.0)])
def test_a_photograph_there_and_back_in_fresh_processes(photo: Path, model: str, least: float) -> None:
    run = [sys.executable, "-m", "codomain.codecs.cli"]
    subprocess.run([*run, "encode", "cat.png", "--model", model], cwd=photo.parent, check=True)
    subprocess.run([*run, "decode", "cat.cdm", "back.png"], cwd=photo.parent, check=True)
    x, x_hat = (np.asarray(Image.open(photo.parent / name).convert("RGB")) for name in ("cat.png", "back.png"))
    assert x.shape == x_hat.shape
    assert psnr(x, x_hat, 255.0) > least
    assert (photo.parent / "cat.cdm").stat().st_size * 8 < 0.8 * x[..., 0].size


def test_nothing_is_overwritten(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", str(photo)]) == 0
    assert main(["encode", str(photo)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["encode", str(photo), "--force"]) == 0
    assert main(["decode", str(photo.with_suffix(".cdm"))]) == 1


def test_folder_with_a_bad_file_goes_on(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photo.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    out = photo.parent / "out"
    assert main(["encode", str(photo.parent), str(out), "--json"]) == 1
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 2
    assert "broken.jpg" in captured.err.splitlines()[0]
    row = json.loads(captured.out)
    assert (row["width"], row["height"]) == (451, 300)
    assert row["n_bytes"] == (out / "cat.cdm").stat().st_size
    assert [p.name for p in out.iterdir()] == ["cat.cdm"]


def test_grey_alpha_deep_and_exif(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = (np.linspace(0, 60000, 50 * 40).reshape(50, 40) + rng.integers(0, 99, (50, 40))).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    alpha = rng.integers(0, 256, (30, 20), np.uint8)
    Image.fromarray(np.dstack((*[np.full((30, 20), 90, np.uint8)] * 3, alpha))).save(tmp_path / "alpha.png")
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["encode", str(tmp_path), str(out)]) == 0
    assert main(["decode", str(out), str(back)]) == 0
    deep = np.asarray(Image.open(back / "deep.png"))
    assert deep.dtype.itemsize == 2 or deep.dtype == np.int32
    assert psnr(grey, deep.astype(np.uint16), 65535.0) > 28
    np.testing.assert_array_equal(np.asarray(Image.open(back / "alpha.png"))[..., 3], alpha)


def test_info_verify_and_salvage(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", str(photo)]) == 0
    coded = photo.with_suffix(".cdm")
    capsys.readouterr()
    assert main(["info", str(coded), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["model"] == "walloc-rgb-4x"
    assert row["n_bytes"] == coded.stat().st_size
    assert main(["verify", str(coded)]) == 0
    damaged = bytearray(coded.read_bytes())
    damaged[-50] ^= 8
    coded.write_bytes(damaged)
    assert main(["verify", str(coded)]) == 1
    assert "chunk 1 of 1 is damaged" in capsys.readouterr().err
    assert main(["decode", str(coded), str(photo.parent / "s.png")]) == 1
    assert main(["decode", str(coded), str(photo.parent / "s.png"), "--salvage"]) == 0


def test_streams(photo: Path) -> None:
    run = [sys.executable, "-m", "codomain.codecs.cli"]
    coded = subprocess.run([*run, "encode", "-"], input=photo.read_bytes(), capture_output=True, check=True).stdout
    png = subprocess.run([*run, "decode", "-"], input=coded, capture_output=True, check=True).stdout
    assert png.startswith(b"\x89PNG")


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["encode"], ["encode", "a", "b", "c"], ["bench", "nothing"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
    assert main(["encode", "a.png", "--model", "nothing"]) == 1
    assert "no model named 'nothing'; there are: walloc" in capsys.readouterr().err
    assert main(["models"]) == 0
    assert "walloc-rgb-16x" in capsys.readouterr().out


def test_outputs_that_are_no_cdm_or_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    shutil.copy(DATA / "chelsea.png", photo)
    before = photo.read_bytes()
    assert main(["encode", str(photo), str(photo), "--force"]) == 1
    assert main(["encode", str(photo), str(tmp_path / "new"), "--force"]) == 1
    assert capsys.readouterr().err.count("expected a name that ends in .cdm") == 2
    assert main(["encode", str(tmp_path), "-"]) == 1
    assert "expected a folder to write to; found -" in capsys.readouterr().err
    pipe = tmp_path / "pipe.cdm"
    os.mkfifo(pipe)
    assert main(["encode", str(photo), str(pipe), "--force"]) == 1
    assert "no regular file" in capsys.readouterr().err
    assert photo.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png", "pipe.cdm"]


def test_a_missing_path_does_not_stop_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = DATA / "golden_1_walloc-rgb-4x.cdm"
    assert main(["info", str(tmp_path / "missing.cdm"), str(golden), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["file"] == str(golden)
    assert "missing.cdm: no such file or folder" in err


def test_foreign_pictures_in_a_folder_fail_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DATA / "chelsea.png", tmp_path / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.gif")
    (tmp_path / "notes.txt").write_text("not a picture")
    out = tmp_path / "out"
    assert main(["encode", str(tmp_path), str(out)]) == 1
    assert [p.name for p in out.iterdir()] == ["a.cdm"]
    assert "found GIF" in capsys.readouterr().err


def test_qualities_and_targets(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def encode(*options: str) -> dict[str, float]:
        assert main(["encode", str(photo), "--force", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)

    sizes = [encode("--quality", q)["n_bytes"] for q in ("1", "20", "50", "80.25", "100")]
    assert sizes == sorted(set(sizes))
    assert encode()["n_bytes"] == sizes[2]
    for size in (sizes[1] + 500, 2 * sizes[2]):
        assert 0.98 * size < encode("--target-bytes", str(size))["n_bytes"] <= size
    assert 0.49 < encode("--target-bpp", "0.5")["bpp"] <= 0.5
    row = encode("--target-psnr", "33", "--model", "walloc-rgb-4x")
    assert main(["info", str(photo.with_suffix(".cdm")), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"] == row["quality"]

    def decoded() -> float:
        back = photo.parent / "back.png"
        assert main(["decode", str(photo.with_suffix(".cdm")), str(back), "--force"]) == 0
        return psnr(*(np.asarray(Image.open(path).convert("RGB")) for path in (photo, back)), 255.0)

    assert 33 <= decoded() < 33.1
    capsys.readouterr()
    encode("--quality", str(row["quality"] - 0.25), "--model", "walloc-rgb-4x")
    assert decoded() < 33  # a quarter less is not enough


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-bytes", "60"], "a target of 60 bytes cannot be met: quality 1, the smallest, gives"),
        (["--target-psnr", "80"], "a target of 80 dB cannot be met: quality 100, the highest, gives"),
        (["--target-bpp", "-1"], "a target is a positive number of bits per pixel; found -1"),
        (["--quality", "101"], "quality is 1 to 100, in quarters; found 101"),
        (["--quality", "50.1"], "quality is 1 to 100, in quarters; found 50.1"),
        (["--quality", "50", "--model", "walloc-rgb-4x-fixed"], "walloc-rgb-4x-fixed has one rate; found quality 50"),
        (["--target-bpp", "1", "--model", "walloc-rgb-4x-fixed"], "walloc-rgb-4x-fixed has one rate; it has no target"),
    ],
)
def test_qualities_that_cannot_be(
    photo: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", str(photo), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == (2 if "cat.png" in error else 1)  # the second counts the failures
    assert not photo.with_suffix(".cdm").exists()


def test_a_preview_of_the_same_file(photo: Path) -> None:
    assert main(["encode", str(photo)]) == 0
    found = []
    for decoder in ("fast", "best"):
        back = photo.parent / f"{decoder}.png"
        assert main(["decode", str(photo.with_suffix(".cdm")), str(back), "--decoder", decoder]) == 0
        found.append(psnr(*(np.asarray(Image.open(path).convert("RGB")) for path in (photo, back)), 255.0))
    assert found[1] - 4 < found[0] < found[1] - 0.2


def test_pictures_of_one_latent_and_flat_ones(tmp_path: Path) -> None:
    for name, size in (("dot", (1, 1)), ("flat", (300, 200)), ("thin", (3, 90))):
        Image.new("RGB", size, (200, 30, 90)).save(tmp_path / f"{name}.png")
        for quality in ("1", "100"):
            coded, back = tmp_path / f"{name}.cdm", tmp_path / f"{name}_back.png"
            assert main(["encode", str(tmp_path / f"{name}.png"), "--quality", quality, "--force"]) == 0
            assert main(["decode", str(coded), str(back), "--force"]) == 0
            with Image.open(back) as image:
                assert image.size == size
                if quality == "100":
                    assert np.abs(np.asarray(image).astype(int) - (200, 30, 90)).max() < 12
            assert coded.stat().st_size < (700 if quality == "1" else 3000)


def test_films_are_of_models_of_video(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = photo.with_name("film.mp4")
    film.write_bytes(b"\0\0\0\x20ftypisom")
    assert main(["encode", str(film)]) == 1
    assert "film.mp4" in capsys.readouterr().err
    assert main(["encode", str(film), "--model", "walloc-rgb-4x"]) == 1
    assert "expected image, which walloc-rgb-4x codes; found video" in capsys.readouterr().err
    assert main(["encode", str(photo), "--model", "hnerv-boost"]) == 1
    assert "expected video, which hnerv-boost codes; found image" in capsys.readouterr().err
    assert main(["encode", str(photo.parent), "--model", "walloc-rgb-4x"]) == 0  # films are passed over
    assert main(["decode", str(photo.with_suffix(".cdm")), str(photo.with_name("x.png")), "--frames", "1:2"]) == 1
    assert "--frames and --fps are of video; the file holds image" in capsys.readouterr().err
