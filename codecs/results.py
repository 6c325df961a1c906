"""Results: rows of a sweep to means, curves, comparisons, and the tables that others read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from codomain.codecs.kind import BEST, Kind, Metric, Row
from codomain.codecs.metrics import bd_rate, rate_difference

COMPARISON = ("name", "anchor", "metric", "percent", "method", "note")  # the keys of `compare`


def means(kind: Kind, rows: Sequence[Row]) -> list[Row]:
    """Return one row per contender, in order of appearance: means over signals.

    Decibels are averaged as such; an infinite value counts `BEST`. Where the kind shows intervals, ``KEY_ci95`` is half
    the width of the mean's 95 % confidence interval, and ``KEY_n`` the number of signals that it is of.
    """
    out = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        keys = ("model", "name", "quality", "version", *(() if kind.latents is None else (kind.latents.key,)))
        point: Row = {key: own[0].get(key) for key in keys} | {f"{kind.name}s": len(own)}
        metrics = [metric.key for metric in kind.metrics]
        for key in (kind.rate.key, *(size.key for size in kind.sizes), *metrics):
            known = [min(row[key], BEST) if key in metrics else row[key] for row in own if row.get(key) is not None]
            point[key] = round(mean(known), 6) if known else None
            if kind.intervals:
                point[f"{key}_ci95"] = round(half_interval(known), 6) if len(known) > 1 else None
                point[f"{key}_n"] = len(known)
        out.append(point)
    return out


def half_interval(values: Sequence[float]) -> float:
    """Return half the width of the 95 % confidence interval of a mean, by Student's t; of at least two values."""
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5)


def differences(kind: Kind, rows: Sequence[Row]) -> list[Row]:
    """Return one row per contender that a baseline was matched with: what it gains at the baseline's same bytes.

    Returns:
        rows of model, against ("opus@model"), bytes_percent (the mean over signals of what the baseline's file is
        larger by), and per metric the mean of the differences signal by signal, ``KEY_ci95`` half its 95 % confidence
        interval. Of distances, negative is better.
    """
    by_model: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_model.setdefault(row["model"], {})[row["crc"]] = row
    out = []
    for against, theirs in by_model.items():
        baseline, matched, model = against.partition("@")
        if not matched or model not in by_model:
            continue
        pairs = [(row, theirs[crc]) for crc, row in by_model[model].items() if crc in theirs]
        larger = [100 * (b["n_bytes"] / a["n_bytes"] - 1) for a, b in pairs]
        found: Row = {"model": model, "against": against, "baseline": baseline, "bytes_percent": round(mean(larger), 3)}
        for key in (metric.key for metric in kind.metrics):
            known = [
                min(a[key], BEST) - min(b[key], BEST)
                for a, b in pairs
                if a.get(key) is not None and b.get(key) is not None
            ]
            found[key] = round(mean(known), 6) if known else None
            found[f"{key}_ci95"] = round(half_interval(known), 6) if len(known) > 1 else None
        out.append(found)
    return out


def curves(kind: Kind, points: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the points of each name, by rate."""
    names, rate = dict.fromkeys(point["name"] for point in points), kind.rate.key
    return {name: sorted((p for p in points if p["name"] == name), key=lambda p: p[rate]) for name in names}


def compare(kind: Kind, points: Sequence[Row], anchor: str) -> list[Row]:
    """Compare every curve, and every lone point, with the curve of ``anchor``; but for those that are matched in bytes.

    Returns:
        rows of name, metric, percent of rate at equal quality (None where there is no answer), how it was found, and
        a note: the interval of quality and the number of points of a BD-rate, or why there is none. No rows where
        ``anchor`` is none of the curves.
    """
    found, by_name = [], {name: curve for name, curve in curves(kind, points).items() if "@" not in name}
    if anchor not in by_name:
        return []
    for key in kind.compared:
        metric = kind.metric(key)
        line = {name: _line(kind, curve, metric) for name, curve in by_name.items()}
        for name, own in line.items():
            row: Row = {"name": name, "anchor": anchor, "metric": key, "percent": None, "method": "BD-rate"}
            if name == anchor or not own:
                continue
            try:
                if len(own) == 1:
                    row |= {"method": "at equal quality", "note": f"1 point, at {own[0][1]:.2f} {metric.unit}"}
                    row["percent"] = rate_difference(line[anchor], *own[0])
                    if row["percent"] is None:
                        row["note"] += f": {anchor} has no such quality"
                else:
                    rate = bd_rate(line[anchor], own)
                    row["percent"] = rate.percent
                    found_in = f"{rate.low:.2f} to {rate.high:.2f} {metric.unit}"
                    row["note"] = f"{found_in}, {rate.points[0]} and {rate.points[1]} points inside"
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


def to_markdown(
    kind: Kind, points: Sequence[Row], compared: Sequence[Row], columns: Sequence[str], gained: Sequence[Row] = ()
) -> str:
    """Return the table of means and those of `compare` and `differences`, for a README."""
    titles = " | ".join(kind.columns[c].title for c in columns)
    lines = [f"| codec | {titles} |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {_code_name(kind, p)} | " + " | ".join(show(kind, c, p) for c in columns) + " |" for p in points]
    if compared:
        cell = {(row["name"], row["metric"]): row["percent"] for row in compared}
        metrics = [m for m in kind.compared if any(row["metric"] == m for row in compared)]
        titles = " | ".join(kind.metric(m).title.removesuffix(" dB") for m in metrics)
        lines += ["", f"| bytes against {compared[0]['anchor']} at equal | {titles} |"]
        lines += ["| --- " * (len(metrics) + 1) + "|"]
        for name in dict.fromkeys(row["name"] for row in compared):
            lines.append(f"| {name} | " + " | ".join(show_percent(cell.get((name, m))) for m in metrics) + " |")
    if gained:
        metrics = [c for c in columns if any(c == metric.key for metric in kind.metrics)]
        titles = " | ".join(kind.metric(m).title for m in metrics)
        lines += ["", f"| gain at equal bytes | their bytes | {titles} |", "| --- " * (len(metrics) + 2) + "|"]
        for row in gained:
            cells = [show_percent(row["bytes_percent"]), *(show_gain(kind, m, row) for m in metrics)]
            lines.append(f"| `{row['model']}` against {row['baseline']} | " + " | ".join(cells) + " |")
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


def show(kind: Kind, key: str, row: Row) -> str:
    """Return a figure of a row as people read it, with its confidence interval where the row has it."""
    column, value, half = kind.columns[key], row.get(key), row.get(f"{key}_ci95")
    return column.show(value) if half is None or value is None else f"{column.show(value)} ± {column.show(half)}"


def show_gain(kind: Kind, key: str, row: Row) -> str:
    """Return a figure of `differences` with its sign."""
    shown = show(kind, key, row)
    return f"+{shown}" if row.get(key) is not None and row[key] > 0 else shown


def show_percent(value: float | None) -> str:
    """Return a change of rate with its sign."""
    return "-" if value is None else f"{value:+.1f} %"


def _line(kind: Kind, curve: Sequence[Row], metric: Metric) -> list[tuple[float, float]]:
    """(rate, quality) of the points that have the metric."""
    return [(p[kind.rate.key], metric.quality(p[metric.key])) for p in curve if p.get(metric.key) is not None]


def _code_name(kind: Kind, point: Row) -> str:
    is_model = point["model"].partition("@")[0].partition(":")[0] not in kind.scales
    return f"`{point['model']}`" if is_model else str(point["model"])
