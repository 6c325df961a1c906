from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from codomain.codecs.cli import main
from codomain.codecs.load import load
from codomain.tasks.classify import Classify
from codomain.tasks.colorize import Colorize
from codomain.tasks.learner import Learner
from codomain.tasks.predict import Predictor, from_checkpoint
from codomain.tasks.read import Read, transcribe
from codomain.tasks.separate import Separate
from codomain.tasks.text_lines import ALPHABET, Look, TextLines, draw_line, to_height
from PIL import Image

QUALITY = 30.0  # not the default


def save(path: Path, module: Learner) -> Path:
    """An untrained task, as `codomain train` leaves it."""
    saved: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


def checkpoint(path: Path, channels: int, data: dict[str, Any]) -> Path:
    module = Classify(patch=2, width=8, depth=1)
    module.build({"channels": channels, "ndim": 2, "classes": ["a", "b", "c", "d"], "data": data})
    return save(path, module)


def about(name: str) -> dict[str, Any]:
    codec = load(name)
    found = {"codec": codec.name, "digest": codec.digest.hex()}
    return found | ({"sample_rate": 44100} if codec.kind == "sound" else {"quality": QUALITY})


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


def test_what_is_no_checkpoint_of_a_task(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    for made in (b"", b"nothing of the kind", {"state_dict": {}}, {"task": {"name": "knit"}}, [1]):
        if isinstance(made, bytes):
            path.write_bytes(made)
        else:
            torch.save(made, path)
        with pytest.raises(ValueError, match=r"x\.ckpt: "):
            from_checkpoint(path)


@pytest.mark.parametrize("name", ["walloc-rgb-4x", None])
def test_lines_are_read(name: str | None, fonts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = TextLines(fonts, model=name, quality=QUALITY, shrink=1 if name else 2)
    module = Read(patch=1 if name else 4, width=16, depth=1)
    alphabet = {"steps": 4, "alphabet": ALPHABET}
    module.build({"channels": data.channels, "rows": data.grid[0], **alphabet, "data": data.describe()})
    module.mean, module.deviation = data.statistics()
    torch.nn.init.normal_(module.head.weight)  # so that it says something
    made = save(tmp_path / "x.ckpt", module)
    x, _ = draw_line(Random(1), data.train_faces, Look())
    line, high = tmp_path / "line.png", tmp_path / "high.png"
    Image.fromarray(x.permute(1, 2, 0).numpy()).save(line)
    Image.fromarray(x.permute(1, 2, 0).numpy()).resize((384, 48)).save(high)
    assert main(["predict", "--checkpoint", str(made), str(line), str(high)]) == 0
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    y = data.to_signal(to_height(x, 24, data.look.shrink)[None])
    assert rows[0] == {"file": str(line), "text": transcribe(module(y))[0]} and len(rows[0]["text"]) > 5
    assert set(rows[1]) == {"file", "text"}
    assert main(["predict", "--checkpoint", str(made), str(line), "--out", str(tmp_path / "out")]) == 1
    assert "finds words, which are printed" in capsys.readouterr().err
    if name:
        coded = load(name)
        (tmp_path / "line.cdm").write_bytes(coded.compress(x[None], quality=QUALITY))
        (tmp_path / "high.cdm").write_bytes(coded.compress(torch.zeros(1, 3, 48, 64)))
        assert main(["predict", "--checkpoint", str(made), str(tmp_path / "line.cdm"), str(tmp_path / "high.cdm")]) == 1
        out, err = capsys.readouterr()
        assert json.loads(out)["text"] == rows[0]["text"]
        assert "high.cdm: 6 rows of positions; the checkpoint learnt from lines of 3" in err


@pytest.mark.parametrize("name", ["walloc-rgb-4x", None])
def test_grey_pictures_get_colours(
    name: str | None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, source, out = Colorize(patch=2, width=8, depth=1), pictures / "fine" / "fine0.png", tmp_path / "out"
    channels = 48 if name else 2
    module.build({"x_channels": 48 if name else 1, "y_channels": channels, "data": about(name) if name else {}})
    if not name:
        module.y_mean[0] = 0.2  # an untrained network finds the mean: red
    made = save(tmp_path / "x.ckpt", module)
    with Image.open(source) as image:
        grey = np.asarray(image.convert("L"), dtype=np.float32)
        image.convert("L").save(tmp_path / "grey.png")
    words = ["predict", "--checkpoint", str(made), str(tmp_path / "grey.png")]
    assert main(words) == 1
    assert "finds pictures or sound: --out names a folder" in capsys.readouterr().err
    assert main([*words, "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == str(out / "grey.png")
    found = np.asarray(Image.open(out / "grey.png"), dtype=np.float32)
    assert found.shape == (48, 64, 3)
    assert main([*words, "--out", str(out)]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert main([*words[:3], str(pictures), "--out", str(tmp_path / "all")]) == 0
    assert (tmp_path / "all" / "rough" / "rough9.png").is_file()
    if not name:
        assert np.abs(found[..., 0] - (grey + 25.5).clip(0, 255)).max() <= 1
        assert np.abs(found[..., 2] - grey).max() <= 1
        return
    for path in (tmp_path / "grey.png", source):
        assert main(["encode", str(path), str(tmp_path), "--model", name, "--quality", str(QUALITY)]) == 0
    capsys.readouterr()
    files = [str(tmp_path / "grey.cdm"), str(tmp_path / "fine0.cdm")]
    assert main([*words[:3], *files, "--out", str(tmp_path / "coded")]) == 1
    assert "fine0.cdm: holds a picture in colours" in capsys.readouterr().err
    again = np.asarray(Image.open(tmp_path / "coded" / "grey.png"), dtype=np.float32)
    assert np.abs(again - found).max() <= 1
    assert main(["decode", str(tmp_path / "grey.cdm"), str(tmp_path / "decoded.png")]) == 0
    decoded = np.asarray(Image.open(tmp_path / "decoded.png"), dtype=np.float32)
    assert np.abs(found.mean(2) - decoded).max() < 2  # an untrained network adds nothing to what the grey file holds


@pytest.mark.parametrize("name", ["walloc-stereo-5x", None])
def test_stems_are_written(
    name: str | None, stems: Path, stem_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, source, out = Separate(patch=1, width=8, depth=1), stems / "song0" / "mixture.flac", tmp_path / "out"
    sound = {"cell": 256, "channels": 2, "sample_rate": 44100}
    channels = load(name).latent_dim if name else 512
    module.build({"channels": channels, "stems": ["bass", "rest"], "data": about(name) if name else sound})
    made = save(tmp_path / "x.ckpt", module)
    words = ["predict", "--checkpoint", str(made), str(source), "--out", str(out)]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["stems"] == ["bass", "rest"]
    x, rate = soundfile.read(source)
    found = [soundfile.read(out / "mixture" / f"{stem}.flac")[0] for stem in ("bass", "rest")]
    assert rate == 44100 and found[0].shape == found[1].shape == x.shape
    assert np.array_equal(found[0], found[1])  # an untrained network shares equally
    if not name:
        assert np.abs(2 * found[0] - x).max() < 1e-6
    else:
        coded = stem_files / "song0" / "mixture.cdm"
        assert main([*words[:3], str(coded), "--out", str(tmp_path / "coded")]) == 0
        assert np.array_equal(soundfile.read(tmp_path / "coded" / "mixture" / "bass.flac")[0], found[0])
        error = 2 * found[0] - x
        assert 10 * np.log10((x**2).mean() / (error**2).mean()) > 5
    assert main(words) == 1
    assert "--force replaces it" in capsys.readouterr().err
    for samples, rate in ((x[:, 0], 44100), (x, 22050)):
        soundfile.write(tmp_path / "other.wav", samples, rate)
        assert main([*words[:3], str(tmp_path / "other.wav"), "--out", str(tmp_path / "other")]) == 1
        found = f"other.wav: {samples.ndim} channels at {rate} Hz; the checkpoint learnt from 2 at 44100 Hz"
        assert found in capsys.readouterr().err


@pytest.mark.parametrize("name", ["walloc-stereo-5x", None])
def test_long_songs_are_separated_in_pieces(
    name: str | None, stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Separate(patch=2, width=8, depth=2, kernel=3)
    assert module.reach == 4
    channels = load(name).latent_dim if name else 512
    sound = about(name) if name else {"cell": 256, "channels": 2, "sample_rate": 44100}
    module.build({"channels": channels, "stems": ["bass", "rest"], "data": sound})
    torch.nn.init.normal_(module.leave.weight)
    made = Predictor(save(tmp_path / "x.ckpt", module))
    x, _ = soundfile.read(stems / "song0" / "mixture.flac")
    x[30000:60000] = 0  # digital silence, which decodes as such in files
    soundfile.write(tmp_path / "x.wav", x, 44100)
    data, found = (tmp_path / "x.wav").read_bytes(), []
    for piece in (4096, 37):
        monkeypatch.setattr("codomain.tasks.predict.PIECE", piece)
        found.append([soundfile.read(io.BytesIO(flac))[0] for flac in made(data).written])
    assert np.abs(np.subtract(*found)).max() < 1e-6
    assert np.abs(found[0][0] - found[0][1]).max() > 0.01
    assert not np.any(found[0][0][40000:50000]) and not np.any(found[0][1][40000:50000])


def test_names_that_would_meet(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Colorize(patch=2, width=8, depth=1)
    module.build({"x_channels": 1, "y_channels": 2, "data": {}})
    words = ["predict", "--checkpoint", str(save(tmp_path / "x.ckpt", module))]
    sources, out = [str(pictures / name / f"{name}0.png") for name in ("fine", "rough")], str(tmp_path / "out")
    shutil.copy(sources[1], tmp_path / "fine0.png")
    assert main([*words, sources[0], str(tmp_path / "fine0.png"), "--out", out]) == 1
    assert "would both be written to" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none.png"), *sources, "--out", out]) == 1
    assert "none.png: no such file" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fine0.png", "rough0.png"]
    assert main([*words, *sources, "--out", "-"]) == 1
    with pytest.raises(ValueError, match=r"a stem named '\.\./x'"):
        Separate().build({"channels": 1, "stems": ["../x"], "data": {}})
