from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.codecs.cli import main
from codomain.codecs.contenders import KINDS, label, parse
from codomain.codecs.evaluate import Plan, evaluate, read_plan
from codomain.codecs.sound_baselines import SoundBaseline
from codomain.codecs.sound_metrics import snr
from codomain.codecs.waveform import read_waveform
from PIL import Image

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


def test_everything_is_written_and_printed(evaluation: Path) -> None:
    out, printed = evaluation / "out", (evaluation / "printed.txt").read_text()
    names = {p.name for p in out.iterdir()}
    plots = {f"rd_{metric}.{end}" for metric in ("psnr", "ms_ssim", "haarpsi") for end in ("png", "svg")}
    tables = {"points.jsonl", "points.csv", "codecs.csv", "compared.csv"}
    assert names == {"coded", "compressai", "report.html"} | plots | tables
    assert re.search(r"BD-rate +│ \d+\.\d\d to \d+\.\d\d dB, \d and \d points inside", printed)
    for words in ("walloc-rgb-16x", "BD-rate", "2 pictures of photos"):
        assert words in printed, words


def test_a_second_run_gives_the_same_results(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["walloc-rgb-4x", "jpeg:20"]
    command = ["evaluate", "--models", *models, "--data", str(evaluation / "photos"), "--no-timing"]
    assert main([*command, "--out", str(tmp_path / "a"), "--jobs", "1"]) == 0
    assert main([*command, "--out", str(tmp_path / "b"), "--jobs", "2"]) == 0
    points = [(tmp_path / folder / "points.csv").read_text() for folder in "ab"]
    assert points[0] == points[1]
    whole = (evaluation / "out" / "points.csv").read_text().splitlines()
    assert points[0].splitlines() == [whole[0], *(line for line in whole[1:] if line.split(",")[0] in models)]
    assert "MPix/s" not in capsys.readouterr().out


def test_what_is_left_out_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(DATA / "chelsea.png", tmp_path / "good.png")
    Image.new("RGB", (12, 9), "red").save(tmp_path / "tiny.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    monkeypatch.setattr("codomain.codecs.baselines.is_installed", lambda name: name != "avif")
    models = ["jpeg:30", "avif:50", "nothing", "webp:40"]
    assert main(["evaluate", "--models", *models, "--data", str(tmp_path), "--no-timing"]) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 4
    assert "'avif:50': avif is not installed" in lines[0]
    assert "no model 'nothing'; there are walloc-" in lines[1]
    assert "broken.jpg: " in lines[2]
    assert lines[3] == "codomain: left out: tiny.png: 12 x 9 is too small for SSIM, MS-SSIM, HaarPSI"
    assert captured.out.count("left out: ") == 4
    assert "1 pictures of" in captured.out


def test_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "[bold]").mkdir()
    Image.new("RGB", (12, 9), "red").save(tmp_path / "[bold]" / "x.png")
    (tmp_path / "[bold]" / "[red]y.png").write_bytes(b"nothing")
    models = ["jpeg:30", "jpeg:95", "[/x]"]  # a flat picture that JPEG codes without loss: no infinity anywhere
    command = ["evaluate", "--models", *models, "--data", str(tmp_path / "[bold]"), "--no-timing"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert "left out: [red]y.png" in capsys.readouterr().out
    assert "Infinity" not in (tmp_path / "out" / "report.html").read_text()


def test_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data, text in ((tmp_path, "no images"), (tmp_path / "none", "expected a folder of images; no such folder")):
        assert main(["evaluate", "--models", "jpeg:30", "--data", str(data)]) == 1
        assert capsys.readouterr().err == f"codomain: {data}: {text}\n"
    with pytest.raises(ValueError, match="no model 'nothing'"):
        evaluate(Plan(("nothing",)), DATA, None)
    with pytest.raises(ValueError, match="no curve 'webp' to compare with; there are jpeg"):
        evaluate(Plan(("jpeg:30",), anchor="webp"), DATA, None)


def test_a_folder_of_results_is_not_made_over_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["evaluate", "--models", "jpeg:30", "--data", str(DATA), "--out", str(tmp_path)]) == 1
    assert "holds no evaluation" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_plans(tmp_path: Path) -> None:
    plan = read_plan(ROOT / "configs" / "evaluate" / "kodak.yaml")
    assert plan.anchor == "jpeg"
    assert {"walloc-rgb-4x:55", "walloc-rgb-16x:50", "jpeg:30", "webp:40", "avif:50"} <= set(plan.models)
    assert len(plan.models) == 30
    slips = ("models: jpeg:30", "models: [jpeg: 30]", "title: 3\nmodels: [a]", "readme: [nothing]\nmodels: [a]")
    for text in ("models: []", "model: [jpeg:30]", "{a", "3", *slips):
        (tmp_path / "plan.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"plan\.yaml: "):
            read_plan(tmp_path / "plan.yaml")


def test_readme_by_the_same_command(evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text('title: Two\nmodels: ["jpeg:20", "jpeg:40"]\nreadme: [bpp, psnr]\n')
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: small -->\n<!-- end of results: small -->\n")
    command = [
        "evaluate",
        "--config",
        str(tmp_path / "small.yaml"),
        "--data",
        str(evaluation / "photos"),
        "--no-timing",
    ]
    assert main([*command, "--readme", str(readme)]) == 1
    assert capsys.readouterr().err == "codomain: --readme needs --config and --out\n"
    for missing, text in ((tmp_path / "none.md", "no such file"), (DATA / "LICENCES.md", "expected the lines")):
        assert main([*command, "--readme", str(missing), "--out", str(tmp_path / "out")]) == 1
        assert text in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert main([*command, "--readme", str(readme), "--out", str(tmp_path / "out")]) == 0
    text = readme.read_text()
    assert "![Two](docs/small_psnr.png)\n\n| codec | bpp | PSNR dB |" in text
    assert "bytes against" not in text  # there is nothing to compare
    assert (tmp_path / "out" / "compared.csv").read_text() == "name,anchor,metric,percent,method,note\n"
    assert (tmp_path / "docs" / "small_psnr.png").read_bytes() == (tmp_path / "out" / "rd_psnr.png").read_bytes()


def test_sound_beside_the_baselines(sound_evaluation: Path) -> None:
    out, printed = sound_evaluation / "out", (sound_evaluation / "printed.txt").read_text()
    plots = {f"rd_{m}.{end}" for m in ("snr", "mel", "stft", "si_sdr", "stoi") for end in ("png", "svg")}
    tables = {"points.jsonl", "points.csv", "codecs.csv", "compared.csv", "gained.csv"}
    assert {"coded", "report.html"} | plots | tables <= {p.name for p in out.iterdir()}
    for words in (
        "3 recordings of sounds; kbps counts whole files, headers included",
        "encode x real time",
        "gain at equal bytes",
        "bytes against opus at equal quality",
        "opus@tiny-stereo",
    ):
        assert words in printed, words
    assert "picture" not in printed
    codecs = {row["model"]: row for row in csv.DictReader((out / "codecs.csv").open())}
    assert list(codecs) == ["tiny-stereo", "opus@tiny-stereo", "opus:48", "opus:96", "mp3:96", "vorbis:4"]
    for model, row in codecs.items():
        assert row["sounds"] == row["snr_n"] == "3"
        assert float(row["snr_ci95"]) > 0
        assert (row["latents_per_sample"] == "0.5") == (model == "tiny-stereo")  # 8 channels, one latent for 16 samples
        if "@" not in model:  # which searches
            assert float(row["decode_x"]) > 1


def test_opus_has_our_bytes_file_by_file(sound_evaluation: Path) -> None:
    rows = list(csv.DictReader((sound_evaluation / "out" / "points.csv").open()))
    assert len(rows) == 3 * 6
    by_name = {(row["model"], row["sound"]): row for row in rows}
    gains = []
    for name in ("a.wav", "b.flac", "more/c.wav"):
        ours, opus = by_name["tiny-stereo", name], by_name["opus@tiny-stereo", name]
        for row in (ours, opus):
            coded = sound_evaluation / "out" / row["file"]
            assert coded.stat().st_size == int(row["n_bytes"])
            seconds = int(row["samples"]) / int(row["sample_rate"])
            assert float(row["kbps"]) == pytest.approx(8 * int(row["n_bytes"]) / seconds / 1000, abs=1e-5)
            x, x_hat = read_waveform(sound_evaluation / "sounds" / name), None
            if row is opus:
                assert coded.read_bytes()[28:36] == b"OpusHead"
                x_hat = SoundBaseline("opus", 64.0).decompress(coded.read_bytes())
                assert float(row["snr"]) == pytest.approx(snr(x.samples, x_hat.samples.clip(-1, 1)), abs=1e-4)
        assert 0.97 * int(ours["n_bytes"]) < int(opus["n_bytes"]) <= int(ours["n_bytes"])
        gains.append(float(ours["snr"]) - float(opus["snr"]))
    (gained,) = csv.DictReader((sound_evaluation / "out" / "gained.csv").open())
    assert (gained["model"], gained["against"]) == ("tiny-stereo", "opus@tiny-stereo")
    assert float(gained["snr"]) == pytest.approx(sum(gains) / 3, abs=1e-5)
    assert -3 < float(gained["bytes_percent"]) <= 0


def test_one_kind_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((100, 1)), 16000)
    command = ["evaluate", "--data", str(tmp_path), "--no-timing", "--models"]
    assert main([*command, "opus:64", "jpeg:30", "mp3:64"]) == 1
    assert capsys.readouterr().err == (
        "codomain: expected models of one kind of signal; opus:64 codes sound files, jpeg:30 codes images\n"
    )
    assert main([*command, "jpeg:30"]) == 1
    assert capsys.readouterr().err == f"codomain: {tmp_path}: no images\n"
    assert main([*command, "jpeg@opus:64"]) == 1
    assert capsys.readouterr().err == "codomain: 'jpeg@opus:64': expected one of opus, mp3, vorbis before the @\n"
    assert main([*command, "opus:matched"]) == 1
    assert capsys.readouterr().err == "codomain: opus:matched: no model of ours to be matched with\n"


def test_sound_that_is_left_out_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_music: Callable[..., np.ndarray]
) -> None:
    soundfile.write(tmp_path / "good.wav", make_music(0.6, 16000, 1).T, 16000)
    soundfile.write(tmp_path / "wide.wav", make_music(0.6, 16000, 3).T, 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros((9600, 1)), 16000)
    (tmp_path / "broken.flac").write_bytes(b"fLaC nothing")
    (tmp_path / "notes.txt").write_text("of no matter")
    assert main(["evaluate", "--models", "opus:24", "vorbis:3", "--data", str(tmp_path), "--no-timing"]) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 4
    assert "broken.flac: not a sound file that can be read" in lines[0]
    assert "opus:24: wide.wav: opus is tested with 1 or 2 channels; found 3" in lines[1]
    assert "vorbis:3: wide.wav: vorbis is tested" in lines[2]
    assert lines[3] == "codomain: left out: silent.wav: 0.6 s, too short or silent for SNR dB, SI-SDR dB"
    assert "1 recordings of" in captured.out


def test_sound_plans() -> None:
    for name in ("music", "speech"):
        plan = read_plan(ROOT / "configs" / "evaluate" / f"{name}.yaml")
        assert plan.anchor == "opus"
        assert {"opus:matched"} < set(plan.models)
        assert {model.partition(":")[0] for model in plan.models} >= {"opus", "mp3", "vorbis"}
        for model in plan.models:
            if model.partition(":")[0] in KINDS["sound"].scales and model.partition(":")[2] != "matched":
                assert label(parse(model)) == model


def test_video_beside_the_baselines(video_evaluation: Path) -> None:
    out, printed = video_evaluation / "out", (video_evaluation / "printed.txt").read_text()
    plots = {f"rd_{m}.{end}" for m in ("psnr", "psnr_y", "ms_ssim") for end in ("png", "svg")}
    assert {"coded", "report.html", "points.csv", "gained.csv"} | plots <= {p.name for p in out.iterdir()}
    for words in ("encode CPU s", "stream bytes", "PSNR Y dB", "2 clips of clips", "slow encoded once"):
        assert words in printed, words
    codecs = {row["model"]: row for row in csv.DictReader((out / "codecs.csv").open())}
    models = ["flipbook", "x264@flipbook", "x264:30", "x264:36", "x265:32", "svtav1:40"]
    assert list(codecs) == models
    for model, row in codecs.items():
        assert row["videos"] == "2"
        if "@" not in model:  # which searches
            assert float(row["encode_cpu_s"]) > 0
            assert float(row["encode_fps"]) > 1
            assert float(row["decode_fps"]) > 5
        if model != "flipbook":
            assert 500 < float(row["n_bytes"]) - float(row["stream_bytes"]) < 3000


def test_a_fit_is_made_once(video_evaluation: Path) -> None:
    """No other file of it is like the first: not for speeds, nor for what is matched with it, nor for the page."""
    assert (video_evaluation / "fits.txt").read_text().splitlines() == ["fitted"] * 2
    assert "codomain: 2 fits, which take " in (video_evaluation / "told.txt").read_text()
    rows = {(r["model"], r["video"]): r for r in csv.DictReader((video_evaluation / "out" / "points.csv").open())}
    for clip in ("a.mkv", "more/b.mkv"):
        ours, matched = rows["flipbook", clip], rows["x264@flipbook", clip]
        assert (video_evaluation / "out" / ours["file"]).stat().st_size == int(ours["n_bytes"])
        assert int(matched["at_most"]) == int(ours["n_bytes"])
        assert 0.95 * int(ours["n_bytes"]) < int(matched["n_bytes"]) <= int(ours["n_bytes"])
        assert float(ours["bpp"]) == pytest.approx(
            8 * int(ours["n_bytes"]) / (176 * 128 * int(ours["frames"])), abs=1e-6
        )


def test_video_plan() -> None:
    plan = read_plan(ROOT / "configs" / "evaluate" / "video.yaml")
    assert plan.anchor == "x264"
    assert {model.partition(":")[0] for model in plan.models} == KINDS["video"].scales.keys()
    for model in plan.models:
        assert label(parse(model)) == model
