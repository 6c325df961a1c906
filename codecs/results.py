"""Results: rows of a sweep to means, curves, comparisons, and the tables that others read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from codomain.codecs.metrics import BEST, bd_rate, decibels, rate_difference

Row = dict[str, Any]
TITLES = {
    "bpp": "bpp", "psnr": "PSNR dB", "psnr_float": "PSNR float", "ssim": "SSIM", "ms_ssim": "MS-SSIM",
    "haarpsi": "HaarPSI", "lpips": "LPIPS", "dists": "DISTS", "encode_mpix_s": "encode MPix/s",
    "decode_mpix_s": "decode MPix/s", "threads": "threads", "start_s": "start s",
    "peak_mb": "peak MB", "latents_per_pixel": "latents/pixel",
}  # fmt: skip
METRICS = ("psnr", "psnr_float", "ssim", "ms_ssim", "haarpsi", "lpips", "dists")
SPEEDS = ("latents_per_pixel", "encode_mpix_s", "decode_mpix_s", "threads", "start_s", "peak_mb")
COMPARISON = ("name", "anchor", "metric", "percent", "method", "note")  # the keys of `compare`
COMPARED = ("psnr", "ms_ssim", "haarpsi")  # the metrics whose curves are drawn and compared


def means(rows: Sequence[Row]) -> list[Row]:
    """Return one row per contender, in order of appearance: means over pictures.

    PSNR is the mean of dB; an infinite one counts `BEST`.
    """
    out = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        keys = ("model", "name", "quality", "version", "latents_per_pixel")
        point: Row = {key: own[0].get(key) for key in keys} | {"images": len(own)}
        for key in ("bpp", *METRICS):
            known = [min(row[key], BEST) for row in own if row.get(key) is not None]
            point[key] = round(mean(known), 6) if known else None
        out.append(point)
    return out


def curves(points: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the points of each name, by rate."""
    names = dict.fromkeys(point["name"] for point in points)
    return {name: sorted((p for p in points if p["name"] == name), key=lambda p: p["bpp"]) for name in names}


def compare(points: Sequence[Row], anchor: str) -> list[Row]:
    """Compare every curve, and every lone point, with the curve of ``anchor``.

    Returns:
        rows of name, metric, percent of rate at equal quality (None where there is no answer), how it was found, and
        a note: the interval of quality and the number of points of a BD-rate, or why there is none. No rows where
        ``anchor`` is none of the curves.
    """
    found, by_name = [], curves(points)
    if anchor not in by_name:
        return []
    for metric in COMPARED:
        line = {name: _line(curve, metric) for name, curve in by_name.items()}
        for name, own in line.items():
            row: Row = {"name": name, "anchor": anchor, "metric": metric, "percent": None, "method": "BD-rate"}
            if name == anchor or not own:
                continue
            try:
                if len(own) == 1:
                    row |= {"method": "at equal quality", "note": f"1 point, at {own[0][1]:.2f} dB"}
                    row["percent"] = rate_difference(line[anchor], *own[0])
                    if row["percent"] is None:
                        row["note"] += f": {anchor} has no such quality"
                else:
                    rate = bd_rate(line[anchor], own)
                    row["percent"] = rate.percent
                    row["note"] = (
                        f"{rate.low:.2f} to {rate.high:.2f} dB, {rate.points[0]} and {rate.points[1]} points inside"
                    )
            except ValueError as error:
                row["note"] = str(error)
            found.append(row)
    return found


def to_csv(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as CSV; the header has ``columns`` and every key that a row has."""
    out = io.StringIO()
    header = list(dict.fromkeys((*columns, *(key for row in rows for key in row))))
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_compressai(name: str, curve: Sequence[Row], data: str) -> str:
    """Return one curve as JSON in the layout of CompressAI's ``utils.eval_model``, which its plot tool reads.

    The rate is of whole files, headers included; PSNR is the mean of the pictures' 8-bit PSNRs. Times are seconds per
    megapixel, which CompressAI leaves open; without timing they are missing.
    """
    results: dict[str, list[float]] = {
        "psnr-rgb": [p["psnr"] for p in curve],
        "ms-ssim-rgb": [p["ms_ssim"] for p in curve],
        "bpp": [p["bpp"] for p in curve],
    }
    for key, speed in (("encoding_time", "encode_mpix_s"), ("decoding_time", "decode_mpix_s")):
        if all(p.get(speed) for p in curve):
            results[key] = [round(1 / p[speed], 6) for p in curve]
    known = {key: values for key, values in results.items() if None not in values}
    description = f"{name} on {data}: real files, codomain evaluate; times are seconds per megapixel"
    return json.dumps({"name": name, "description": description, "results": known}, indent=2, allow_nan=False) + "\n"


def to_markdown(points: Sequence[Row], compared: Sequence[Row], columns: Sequence[str]) -> str:
    """Return the table of means and the table of comparisons, for a README."""
    lines = ["| codec | " + " | ".join(TITLES[c] for c in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {_code_name(p)} | " + " | ".join(show(c, p.get(c)) for c in columns) + " |" for p in points]
    if compared:
        cell = {(row["name"], row["metric"]): row["percent"] for row in compared}
        metrics = [m for m in COMPARED if any(row["metric"] == m for row in compared)]
        titles = " | ".join(TITLES[m].removesuffix(" dB") for m in metrics)
        lines += ["", f"| bytes against {compared[0]['anchor']} at equal | {titles} |"]
        lines += ["| --- " * (len(metrics) + 1) + "|"]
        for name in dict.fromkeys(row["name"] for row in compared):
            lines.append(f"| {name} | " + " | ".join(show_percent(cell.get((name, m))) for m in metrics) + " |")
    return "\n".join(lines) + "\n"


def replace_section(readme: Path, name: str, body: str) -> str:
    """Return a text with what stands between its two markers of ``name`` replaced.

    Raises:
        ValueError: if the markers are not there.
    """
    if not readme.is_file():
        raise ValueError(f"{readme}: no such file")
    text, start, end = readme.read_text(), f"<!-- results: {name} -->\n", f"<!-- end of results: {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{readme}: expected the lines {start.strip()} and {end}, with the results between them")
    return f"{before}{start}\n{body}\n{end}{after}"


def show(key: str, value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if key in ("psnr", "psnr_float", "start_s"):
        return f"{value:.2f}"
    if key in ("bpp", "ssim", "ms_ssim", "haarpsi", "lpips", "dists"):
        return f"{value:.3f}" if key == "bpp" else f"{value:.4f}"
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:.0f}"


def show_percent(value: float | None) -> str:
    """Return a change of rate with its sign."""
    return "-" if value is None else f"{value:+.1f} %"


def _line(curve: Sequence[Row], metric: str) -> list[tuple[float, float]]:
    """(rate, quality in dB) of the points that have the metric."""
    return [(p["bpp"], decibels(metric, p[metric])) for p in curve if p.get(metric) is not None]


def _code_name(point: Row) -> str:
    return f"`{point['model']}`" if point.get("latents_per_pixel") else str(point["model"])
