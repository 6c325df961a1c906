from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from codomain.codecs.load import load
from codomain.tasks.text_lines import ALPHABET, STATISTICS, Face, Look, TextLines, draw_line, find_faces, split, word


def test_faces_are_split_by_name(fonts: Path) -> None:
    faces = find_faces(fonts)
    assert [Path(face.path).name for face in faces] == ["DejaVuSans-Oblique.ttf", "DejaVuSans.ttf"]
    assert all(0.5 < face.x_height < 0.6 for face in faces)
    train, val = split(faces, 0.15)
    assert [Path(face.path).stem for face in train] == ["DejaVuSans"]
    assert [Path(face.path).stem for face in val] == ["DejaVuSans-Oblique"]


def test_words_are_of_the_alphabet() -> None:
    words = [word(Random(i)) for i in range(2000)]
    assert set("".join(words)) == set(ALPHABET) - {" "}
    assert word(Random(5)) == words[5]
    assert 4 < np.mean([len(w) for w in words]) < 8


def test_lines_are_drawn_once(fonts: Path) -> None:
    faces = find_faces(fonts)
    x, text = draw_line(Random(1), faces, Look())
    again, same = draw_line(Random(1), faces, Look())
    assert x.shape == (3, 24, 192) and torch.equal(x, again) and text == same
    other, another = draw_line(Random(2), faces, Look())
    assert not torch.equal(x, other) and text != another
    for i in range(20):  # ink in the middle, paper at the sides
        ink = draw_line(Random(i), faces, Look())[0].float().mean(0)
        away = (ink - ink.median()).abs()
        assert away[4:20, 6:-6].amax() > 3 * away[:, :3].mean() + 20
    fine, coarse = (draw_line(Random(1), faces, Look(x_height=(n, n)))[1] for n in (4.0, 8.0))
    assert len(fine) > 1.5 * len(coarse) > 10
    small, same = draw_line(Random(1), faces, Look(shrink=2))
    assert same == text and small.shape == (3, 12, 96)
    assert torch.allclose(small.float().mean((1, 2)), x.float().mean((1, 2)), atol=1)


def test_latents_are_those_of_files(fonts: Path) -> None:
    data = TextLines(fonts, model="walloc-rgb-4x", quality=50.0, batch_size=3, val_lines=3)
    assert (data.channels, data.grid) == (48, (3, 24))
    raw = next(iter(data.val_dataloader()))
    batch = data.on_after_batch_transfer(raw, 0)  # without a trainer as in validation: through files
    assert batch.texts == raw.texts and batch.x.shape == (3, 48, 3, 24)
    assert torch.equal(batch.x, data.to_signal(raw.x))
    assert torch.equal(batch.x, load("walloc-rgb-4x").encode(raw.x, 50.0))
    mean, deviation = data.statistics()
    lines = iter(data.train_dataloader().dataset)
    errors = data.to_signal(torch.stack([next(lines)[0] for _ in range(STATISTICS)])) - mean[:, None, None]
    assert mean.shape == (48,) and float(errors.mean((0, 2, 3)).abs().max()) < 1e-4
    assert float(deviation) == pytest.approx(float(errors.std(correction=0)), rel=1e-4)


def test_streams(fonts: Path) -> None:
    data = TextLines(fonts, batch_size=2, val_lines=2)
    first, second = (next(iter(data.train_dataloader())) for _ in range(2))
    assert torch.equal(first.x, second.x) and first.texts == second.texts
    other = next(iter(TextLines(fonts, batch_size=2, seed=1).train_dataloader()))
    assert other.texts != first.texts
    pixels = data.on_after_batch_transfer(first, 0).x
    assert torch.allclose(pixels, first.x / 127.5 - 1) and data.grid == (24, 192)
    assert TextLines(fonts, shrink=2).grid == (12, 96)


def test_bad_fonts(fonts: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found 0 fonts \(.otf .ttf\)"):
        TextLines(tmp_path)
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    shutil.copy(fonts / "DejaVuSans.ttf", tmp_path)
    assert [Path(face.path).stem for face in find_faces(tmp_path)] == ["DejaVuSans"]
    with pytest.raises(ValueError, match=r"found 1 fonts .* some for validation"):
        TextLines(tmp_path)
    with pytest.raises(ValueError, match=r"x_height is two numbers of pixels, up to 12; found \[9.0, 13.0\]"):
        TextLines(fonts, x_height=(9.0, 13.0))
    with pytest.raises(ValueError, match="pixels are shrunk"):
        TextLines(fonts, model="walloc-rgb-4x", shrink=2)


def test_symbol_fonts_are_left_out(fonts: Path, tmp_path: Path) -> None:
    import matplotlib

    shutil.copy(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXSizFiveSymReg.ttf", tmp_path)
    assert find_faces(tmp_path) == []
    assert isinstance(find_faces(fonts)[0], Face)
