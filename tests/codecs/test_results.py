from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from codomain.codecs import results
from codomain.codecs.contenders import KINDS
from codomain.codecs.image_kind import to_compressai

IMAGE = KINDS["image"]
SOUND = KINDS["sound"]


def point(model: str, bpp: float, psnr: float, **more: object) -> results.Row:
    name, _, quality = model.partition(":")
    return {"model": model, "name": name, "quality": quality or None, "version": "1", "bpp": bpp, "psnr": psnr, **more}


CURVE = [(0.25, 26.7), (0.45, 29.1), (0.61, 30.5), (0.87, 32.2), (1.34, 34.5)]


def test_means_are_over_pictures_and_of_decibels() -> None:
    rows = [point("jpeg:30", 0.4, 30.0, ssim=0.9), point("jpeg:30", 0.6, 33.0, ssim=None)]
    (mean,) = results.means(IMAGE, rows)
    assert (mean["bpp"], mean["psnr"], mean["ssim"], mean["images"]) == (0.5, 31.5, 0.9, 2)
    assert mean["haarpsi"] is None


def test_comparisons_with_an_anchor() -> None:
    points = [point(f"jpeg:{i}", *p) for i, p in enumerate(CURVE)]
    points += [point(f"same:{i}", 0.9 * r, q) for i, (r, q) in enumerate(CURVE)]
    points += [
        point("lone", 0.61 * 0.8, 30.5),
        point("beyond", 3.0, 60.0),
        point("few:1", 0.3, 29.0),
        point("few:2", 0.5, 30.0),
    ]
    found = {row["name"]: row for row in results.compare(IMAGE, points, "jpeg")}
    assert set(found) == {"same", "lone", "beyond", "few"}
    assert found["same"]["percent"] == pytest.approx(-10, abs=0.1)
    assert found["same"]["note"] == "26.70 to 34.50 dB, 5 and 5 points inside"
    assert found["lone"]["percent"] == pytest.approx(-20, abs=0.1)
    assert found["lone"]["note"] == "1 point, at 30.50 dB"
    assert found["beyond"]["percent"] is None
    assert found["beyond"]["note"] == "1 point, at 60.00 dB: jpeg has no such quality"
    assert found["few"]["note"] == "a BD-rate needs 4 points; the tested curve has 2"
    assert results.compare(IMAGE, points, "nothing") == []


def test_curves_that_do_not_grow_are_said_to_be_so() -> None:
    flat = [point(f"jpeg:{i}", r, 30.0 + (i > 1)) for i, (r, _) in enumerate(CURVE)]
    found = results.compare(
        IMAGE, [*flat, point("lone", 0.5, 30.5), *(point(f"a:{i}", *p) for i, p in enumerate(CURVE))], "jpeg"
    )
    assert [row["note"] for row in found] == ["quality does not grow with the rate of the anchor"] * 2
    assert [row["percent"] for row in found] == [None, None]


def test_equal_pictures_do_not_make_means_infinite() -> None:
    (mean,) = results.means(IMAGE, [point("jpeg:95", 1.0, float("inf")), point("jpeg:95", 2.0, 40.0)])
    assert mean["psnr"] == 70.0
    assert json.loads(to_compressai("jpeg", [mean | {"ms_ssim": 1.0}], "x"))["results"]["psnr-rgb"] == [70.0]


def test_tables_hold_what_was_measured(evaluation: Path) -> None:
    rows = list(csv.DictReader((evaluation / "out" / "points.csv").open()))
    codecs = {row["model"]: row for row in csv.DictReader((evaluation / "out" / "codecs.csv").open())}
    for model, row in codecs.items():
        own = [float(r["psnr"]) for r in rows if r["model"] == model]
        assert float(row["psnr"]) == pytest.approx(sum(own) / 2, abs=1e-5)
        assert float(row["encode_mpix_s"]) > 0.05
        assert (row["latents_per_pixel"] != "") == model.startswith("walloc")
    compared = list(csv.DictReader((evaluation / "out" / "compared.csv").open()))
    webp = next(r for r in compared if (r["name"], r["metric"]) == ("webp", "psnr"))
    assert -60 < float(webp["percent"]) < -5
    assert webp["method"] == "BD-rate"


def test_compressai_reads_its_json(evaluation: Path, tmp_path: Path) -> None:
    folder = evaluation / "out" / "compressai"
    jpeg = json.loads((folder / "jpeg.json").read_text())
    assert set(jpeg) == {"name", "description", "results"}
    lengths = {key: len(values) for key, values in jpeg["results"].items()}
    assert lengths == dict.fromkeys(("psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"), 4)
    plot = tmp_path / "plot.png"
    files = [str(folder / f"{name}.json") for name in ("jpeg", "webp", "walloc-rgb-4x")]
    command = [sys.executable, "-m", "compressai.utils.plot", "-f", *files, "-o", str(plot)]
    for metric in ("psnr", "ms-ssim"):
        plot.unlink(missing_ok=True)
        subprocess.run([*command, "-m", metric], check=True, capture_output=True, cwd=tmp_path)
        assert plot.read_bytes()[:4] == b"\x89PNG"


def test_readme_section(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# A\n\n<!-- results: kodak -->\nold\n<!-- end of results: kodak -->\n\nB\n")
    table = results.to_markdown(
        IMAGE, [point("walloc-rgb-4x", 0.5, 31.0, latents_per_pixel=0.75), point("jpeg:30", 0.61, 30.49)],
        [{"name": "walloc-rgb-4x", "anchor": "jpeg", "metric": "psnr", "percent": -14.62}], ("bpp", "psnr", "ms_ssim"),
    )  # fmt: skip
    text = results.replace_section(readme, "kodak", table)
    assert text.startswith("# A\n\n<!-- results: kodak -->\n\n| codec | bpp | PSNR dB | MS-SSIM |\n")
    assert "| `walloc-rgb-4x` | 0.500 | 31.00 | - |\n| jpeg:30 | 0.610 | 30.49 | - |" in text
    assert "| bytes against jpeg at equal | PSNR |\n| --- | --- |\n| walloc-rgb-4x | -14.6 % |" in text
    assert text.endswith("<!-- end of results: kodak -->\n\nB\n")
    assert "old" not in text
    with pytest.raises(ValueError, match="expected the lines <!-- results: other -->"):
        results.replace_section(readme, "other", table)


def test_intervals_of_means_by_students_t() -> None:
    rows = [
        {"model": "opus:64", "name": "opus", "quality": 64.0, "version": "1", "kbps": 150.0, "snr": v, "pesq": p}
        for v, p in ((10.0, 4.0), (12.0, None), (17.0, None))
    ]
    (mean,) = results.means(SOUND, rows)
    assert (mean["kbps"], mean["snr"], mean["snr_n"], mean["sounds"]) == (150.0, 13.0, 3, 3)
    assert mean["snr_ci95"] == pytest.approx(4.302653 * 13**0.5 / 3**0.5, abs=1e-5)  # t of 2 degrees of freedom, 97.5 %
    assert (mean["pesq"], mean["pesq_ci95"], mean["pesq_n"]) == (4.0, None, 1)
    assert results.show(SOUND, "snr", mean) == "13.00 ± 8.96"
    assert results.show(SOUND, "pesq", mean) == "4.00"


def test_differences_are_paired() -> None:
    def row(model: str, crc: str, n_bytes: int, snr: float, mel: float) -> results.Row:
        return {"model": model, "crc": crc, "n_bytes": n_bytes, "snr": snr, "mel": mel}

    rows = [row("ours:50", "a", 1000, 10.0, 1.0), row("ours:50", "b", 2000, 30.0, 2.0),
            row("opus@ours:50", "b", 1980, 27.0, 1.5), row("opus@ours:50", "a", 1000, 8.0, 0.5),
            row("opus:64", "a", 9, 1.0, 1.0)]  # fmt: skip
    (found,) = results.differences(SOUND, rows)
    assert (found["model"], found["against"], found["baseline"]) == ("ours:50", "opus@ours:50", "opus")
    assert (found["bytes_percent"], found["snr"], found["mel"]) == (-0.5, 2.5, 0.5)
    assert found["snr_ci95"] == pytest.approx(12.7062 * 0.5, abs=1e-4)
    assert found["mel_ci95"] == 0
    assert results.show_gain(SOUND, "snr", found) == "+2.50 ± 6.35"
    points = [{"model": "ours:50", "latents_per_sample": 0.5, "kbps": 64.0, "snr": 20.0}]
    table = results.to_markdown(SOUND, points, [], ("kbps", "snr"), [found])
    assert "| `ours:50` | 64.0 | 20.00 |" in table
    assert "| `ours:50` against opus | -0.5 % | +2.50 ± 6.35 |" in table
