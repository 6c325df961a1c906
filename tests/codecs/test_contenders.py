from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs.contenders import KINDS, Matched, Ours, label, parse
from codomain.codecs.footage import Footage
from codomain.codecs.image_kind import read_picture
from codomain.codecs.load import index, load
from codomain.codecs.results import curves
from PIL import Image

DATA = Path(__file__).parents[1] / "data"


def run(job: str, name: str, pairs: list[tuple[Path, Path]]) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "codomain.codecs.contenders", job, name],
        input=json.dumps([[str(a), str(b)] for a, b in pairs]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "numbers"), [("walloc-rgb-16x", 12 / 64), ("walloc-rgb-4x", 48 / 64), ("webp:40", None)]
)
def test_all_are_the_same_kind_of_thing(text: str, numbers: float | None) -> None:
    contender = parse(text)
    x = read_picture(DATA / "chelsea.png")[:96, :120].copy()
    data = contender.compress(x)
    x_hat = contender.decompress(data)
    assert label(contender) == text
    assert x_hat.shape == x.shape
    assert np.abs(x_hat.astype(float) - x).mean() < 8
    assert contender.latents_per_position == numbers


def test_ours_at_a_quality() -> None:
    x = read_picture(DATA / "chelsea.png")[:128, :128].copy()
    sizes = [len(parse(f"walloc-rgb-4x:{quality}").compress(x)) for quality in (30, 50, 70.5)]
    assert sizes == sorted(set(sizes))
    assert label(parse("walloc-rgb-4x:70.5")) == "walloc-rgb-4x:70.5"
    assert parse("walloc-rgb-4x").compress(x) == parse("walloc-rgb-4x:50").compress(x)
    for text, message in (
        ("walloc-rgb-4x:999", "quality is 1 to 100, in quarters; found 999"),
        ("walloc-rgb-4x:x", "expected a quality"),
    ):
        with pytest.raises(ValueError, match=message):
            parse(text)


def test_ours_writes_the_file_that_the_codec_writes() -> None:
    x = read_picture(DATA / "chelsea.png")
    signal = torch.from_numpy(x).permute(2, 0, 1)[None].contiguous()
    assert Ours("walloc-rgb-4x").compress(x) == load("walloc-rgb-4x").compress(signal)
    assert Ours("walloc-rgb-4x").version == index()["walloc-rgb-4x"]["sha256"][:16]


def test_ours_fitted_for_a_time() -> None:
    fitted = parse("hnerv-boost-2m:75")
    assert isinstance(fitted, Ours)
    assert (fitted.model, fitted.quality, fitted.seconds, fitted.slow) == ("hnerv-boost", 75.0, 120.0, True)
    assert (label(fitted), parse(label(fitted))) == ("hnerv-boost-120s:75", fitted)
    assert parse("x264@hnerv-boost-2m:75").name == "x264@hnerv-boost-120s"
    for text in ("hnerv-boost-soon:75", "hnerv-boost-0s", "walloc-rgb-4x-9s"):
        with pytest.raises(ValueError, match=f"no model '{text}'; there are"):
            parse(text)


def test_networks_of_two_sizes_are_a_curve(moving: Callable[..., list[np.ndarray]]) -> None:
    x, points = Footage(np.stack(moving(24, 96, 64)), Fraction(25)), []
    for quality, bpp in ((90, 0.03 * 2**3.2), (100, 0.03 * 2**4)):
        ours, matched = parse(f"hnerv-boost-1s:{quality}"), parse(f"x264@hnerv-boost-1s:{quality}")
        data = ours.compress(x)
        assert 0.9 * bpp < 8 * len(data) / x.pixels[..., 0].size <= bpp + 1e-4
        assert isinstance(matched, Matched)
        assert 0.8 * len(data) < len(matched.within(x, len(data))) <= len(data)
        x_hat = ours.decompress(data)
        assert (x_hat.pixels.shape, x_hat.rate) == (x.pixels.shape, x.rate)
        points.append({"name": ours.name, "bpp": len(data)})
    assert list(curves(KINDS["video"], points)) == ["hnerv-boost-1s"]


def test_jobs_in_fresh_processes(tmp_path: Path) -> None:
    good, bad = DATA / "coffee.png", tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG nothing")
    reports = run(
        "encode", "jpeg:30", [(good, tmp_path / "a.jpg"), (bad, tmp_path / "b.jpg"), (good, tmp_path / "c.jpg")]
    )
    assert reports[0] == reports[2] == {"n_bytes": (tmp_path / "a.jpg").stat().st_size}
    assert "error" in reports[1]
    assert not (tmp_path / "b.jpg").exists()
    assert 20 < float(str(reports[3]["peak_mb"])) < 2000
    reports = run("decode", "jpeg:30", [(tmp_path / "a.jpg", tmp_path / "a.npy"), (bad, tmp_path / "b.npy")])
    assert reports[0] == {}
    assert "error" in reports[1]
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.array(Image.open(tmp_path / "a.jpg")))
    report, _ = run("time", "jpeg:30", [(good, good)])
    assert report["amount"] == read_picture(good)[..., 0].size / 1e6
    assert all(0 < float(str(report[key])) < 10 for key in ("encode_s", "decode_s"))


def test_a_process_that_runs_a_baseline_needs_no_torch(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", read_picture(DATA / "chelsea.png"))
    code = (
        "import sys; from codomain.codecs.contenders import parse; from pathlib import Path\n"
        "from codomain.codecs.image_kind import read_picture\n"
        f"parse('jpeg:30').compress(read_picture(Path({str(tmp_path / 'x.npy')!r}))); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("text", ["nothing", "gif:4", "walloc-rgb-64x:3"])
def test_unknown(text: str) -> None:
    with pytest.raises(ValueError, match=f"no model '{text}'; there are walloc-.*, jpeg:1...95, webp:0"):
        parse(text)


def test_what_every_contender_is_given(tmp_path: Path) -> None:
    deep = (np.arange(40 * 30).reshape(30, 40) * 50).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    x = read_picture(tmp_path / "deep.png")
    assert (x.shape, x.dtype) == ((30, 40, 3), np.uint8)
    assert np.array_equal(x[..., 0], np.round(deep * (255 / 65535)).astype(np.uint8))


def test_a_baseline_at_the_bytes_of_another() -> None:
    x = read_picture(DATA / "chelsea.png")[:96, :120].copy()
    matched, other = parse("jpeg@webp:40"), parse("webp:40")
    assert (label(matched), matched.name, matched.kind, matched.suffix) == (
        "jpeg@webp:40",
        "jpeg@webp",
        "image",
        ".jpg",
    )
    n_bytes, data = len(other.compress(x)), matched.compress(x)
    sizes = [len(parse(f"jpeg:{quality}").compress(x)) for quality in range(1, 96)]
    assert len(data) <= n_bytes
    assert len(data) >= 0.998 * n_bytes or len(data) == max(size for size in sizes if size <= n_bytes)
    assert matched.decompress(data).shape == x.shape
    assert other.version in matched.version
    with pytest.raises(ValueError, match="'opus@webp:40': expected one of jpeg, webp"):
        parse("opus@webp:40")


def test_models_of_video_are_slow_and_have_qualities() -> None:
    contender = parse("hnerv-boost:60.25")
    assert (contender.kind, contender.quality, contender.slow) == ("video", 60.25, True)
    assert contender.latents_per_position is None
    assert contender.version == index()["hnerv-boost"]["sha256"][:16]
    with pytest.raises(ValueError, match="quality is 1 to 100, in quarters; found 0"):
        parse("hnerv:0")
    assert parse("x264@nerv:50").name == "x264@nerv"
