"""Evaluate: models and baselines on a folder of pictures, from real files to tables, plots and one page.

The parts: `contenders.py` (what is tested), `sweep.py` (files in fresh processes), `metrics.py`, `results.py` (tables),
`plots.py`, `report.py` (the page). This module runs them in order.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from codomain.codecs import files, plots, report, results
from codomain.codecs.contenders import RUNS, Contender, label, parse, read_picture
from codomain.codecs.results import COMPARED, METRICS, SPEEDS, Row
from codomain.codecs.sweep import TIMED, Picture, Store, read_folder, sweep, time_codec


@dataclass(frozen=True)
class Plan:
    """What is evaluated; a YAML file of ``configs/evaluate`` holds the same keys.

    Attributes:
        models: names that `contenders.parse` takes.
        title: above plots and page.
        anchor: the curve that others are compared with: a name without its quality; by default jpeg, if it is there.
        readme: columns of the README's table.
        name: of its file, and of its section in a README; no key of the file.
    """

    models: tuple[str, ...]
    title: str = ""
    anchor: str | None = None
    readme: tuple[str, ...] = ("bpp", "psnr", "ms_ssim")
    name: str = ""


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        ValueError: if the file is no plan.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from None
    known = {field.name for field in fields(Plan)} - {"name"}
    if not isinstance(found, dict) or not set(found) <= known or not found.get("models"):
        raise ValueError(f"{path}: expected models, and perhaps {', '.join(sorted(known - {'models'}))}")
    for key, value in found.items():
        if key in ("models", "readme"):
            expected, right = "a list of words", isinstance(value, list) and all(isinstance(v, str) for v in value)
        else:
            expected, right = "a word", isinstance(value, str)
        if not right:
            raise ValueError(f"{path}: {key}: expected {expected}; found {value!r}")
    settings: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    unknown = set(settings.get("readme", ())) - results.TITLES.keys()
    if unknown:
        raise ValueError(
            f"{path}: readme: no columns {', '.join(sorted(unknown))}; there are {', '.join(results.TITLES)}"
        )
    return Plan(**settings, name=path.stem)


def evaluate(
    plan: Plan,
    data: Path,
    out: Path | None = None,
    jobs: int | None = None,
    timing: bool = True,
    readme: Path | None = None,
) -> list[str]:
    """Evaluate, print the tables, write everything to ``out``; return a line for all that was left out.

    Args:
        plan: what is evaluated.
        data: folder of images.
        out: folder of results, new or of a run to continue; None keeps nothing.
        jobs: processes at a time; by default one per core.
        timing: measure speeds too, alone, after everything else.
        readme: put the tables there, between the markers of the plan's name, and a plot into ``docs`` beside it.

    Raises:
        ValueError: for a folder without images, a README without markers, or if no contender is left.
    """
    if readme is not None:
        results.replace_section(readme, plan.name, "")  # before the work, not after it
    jobs = jobs or os.cpu_count() or 1
    left_out: list[str] = []
    contenders: list[Contender] = []
    for name in dict.fromkeys(plan.models):
        try:
            contenders.append(parse(name))
        except ValueError as error:
            left_out.append(str(error))
    if not contenders:
        raise ValueError("; ".join(left_out))
    curves = dict.fromkeys(contender.name for contender in contenders)
    if plan.anchor is not None and plan.anchor not in curves:
        raise ValueError(f"no curve {plan.anchor!r} to compare with; there are {', '.join(curves)}")
    pictures, unreadable = read_folder(data)
    left_out += unreadable
    with _folder(out) as folder:
        store = Store(folder)
        with _progress("sweep", len(contenders) * len(pictures)) as advance:
            left_out += sweep(contenders, pictures, store, jobs, advance)
        points, rows, complete = _points(contenders, pictures, store, left_out)
        if timing:
            _add_speeds(contenders, complete, points, left_out)
        title = plan.title or data.resolve().name
        compared = results.compare(points, plan.anchor or "jpeg")
        notes = _notes(data, complete, points, left_out, timing)
        _print(title, points, compared, notes)
        if out is not None:
            with _progress("pictures", min(len(complete), report.PICTURES)) as advance:
                shown = report.gather(contenders, complete, store, jobs, advance)
            _write(out, title, data.name, rows, points, compared, notes, shown)
            print(f"{out / 'report.html'}: {(out / 'report.html').stat().st_size / 1e6:.1f} MB, opens in any browser")
        if readme is not None:
            plot = readme.parent / "docs" / f"{plan.name}_psnr.png"
            body = f"![{title}](docs/{plot.name})\n\n" + results.to_markdown(points, compared, plan.readme)
            files.write(plot, plots.rate_distortion(points, "psnr", title, "png"), force=True)
            files.write(readme, results.replace_section(readme, plan.name, body).encode(), force=True)
        return left_out


def _points(
    contenders: Sequence[Contender], pictures: Sequence[Picture], store: Store, left_out: list[str]
) -> tuple[list[Row], list[Row], list[Picture]]:
    """Return means, the rows behind them, and the pictures that they are of: the same ones for every contender and
    metric.

    A contender that coded no picture at all is left out first; then the pictures that some contender could not code, or
    that are too small for a metric that others have.
    """
    able = [c for c in contenders if any(store.find(c, p) for p in pictures)]
    found = {p.name: [row for c in able if (row := store.find(c, p)) is not None] for p in pictures}
    whole = [p for p in pictures if able and len(found[p.name]) == len(able)]
    common = {key for p in whole for key in METRICS if key != "psnr_float" and found[p.name][0].get(key) is not None}
    complete = []
    for picture in whole:
        row = found[picture.name][0]
        lacking = [results.TITLES[key] for key in METRICS if key in common and row.get(key) is None]
        if lacking:
            left_out.append(f"{picture.name}: {row['width']} x {row['height']} is too small for {', '.join(lacking)}")
        else:
            complete.append(picture)
    if not complete:
        raise ValueError(f"no picture was coded by every contender: {'; '.join(left_out)}")
    rows = [found[p.name][i] for i in range(len(able)) for p in complete]
    return results.means(rows), rows, complete


def _add_speeds(
    contenders: Sequence[Contender], pictures: Sequence[Picture], points: list[Row], left_out: list[str]
) -> None:
    """Time every contender on up to `TIMED` pictures that lie evenly in the list; it has the machine to itself."""
    by_label = {point["model"]: point for point in points}
    timed = [c for c in contenders if label(c) in by_label]
    with tempfile.TemporaryDirectory() as folder, _progress("speeds", len(timed)) as advance:
        chosen = sorted({i * len(pictures) // TIMED for i in range(TIMED)})
        samples = []
        for i in chosen:  # as samples: reading the file is no part of a codec's time
            samples.append(Path(folder) / f"{i}.npy")
            np.save(samples[-1], read_picture(pictures[i].path))
        for contender in timed:
            try:
                by_label[label(contender)].update(time_codec(contender, samples))
            except ValueError as error:
                left_out.append(f"speed of {label(contender)}: {error}")
            advance(label(contender))


def _notes(
    data: Path, pictures: Sequence[Picture], points: Sequence[Row], left_out: Sequence[str], timing: bool
) -> list[str]:
    notes = [
        f"{len(pictures)} pictures of {data.resolve().name}; bpp counts whole files, headers included; every file was "
        "decoded in a fresh process; means are over pictures, PSNR is the mean of dB",
        "metrics are of 8-bit RGB; PSNR float, where a codec gives it, is of its samples before rounding",
    ]
    if timing:
        notes.append(
            f"speeds: warm, median of {RUNS} runs, geometric mean over up to {TIMED} pictures, {os.cpu_count()} cores, "
            "of which a codec uses as many as its column of threads says; start: a fresh process to its first coded "
            "picture; peak: memory of a process that encodes and decodes"
        )
    versions = dict.fromkeys(f"{p['name']}: {p['version']}" for p in points)
    notes.append("; ".join(versions))
    return notes + [f"left out: {line}" for line in left_out]


def _print(title: str, points: Sequence[Row], compared: Sequence[Row], notes: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(width=None if sys.stdout.isatty() else 150, markup=False, emoji=False)
    for keys in (("bpp", *METRICS), SPEEDS):
        there = [key for key in keys if any(point.get(key) is not None for point in points)]
        if there:
            columns = (Column(results.TITLES[key], no_wrap=True, justify="right") for key in there)
            table = Table(Column("codec", no_wrap=True), *columns, title=title)
            for point in points:
                table.add_row(point["model"], *(results.show(key, point.get(key)) for key in there))
            console.print(table)
    if compared:
        title = f"bytes against {compared[0]['anchor']} at equal quality"
        table = Table(*(Column(name, no_wrap=True) for name in ("codec", "metric", "bytes")), "method", "", title=title)
        for row in compared:
            percent = results.show_percent(row["percent"])
            table.add_row(row["name"], results.TITLES[row["metric"]], percent, row["method"], row["note"])
        console.print(table)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=not sys.stdout.isatty())


def _write(
    out: Path, title: str, data: str, rows: list[Row], points: list[Row], compared: list[Row], notes: list[str],
    shown: list[report.Shown],
) -> None:  # fmt: skip
    """Everything that people and programs read; what an earlier run wrote here is replaced."""

    def write(name: str, content: str | bytes) -> None:
        files.write(out / name, content.encode() if isinstance(content, str) else content, force=True)

    write("points.csv", results.to_csv(rows))
    write("codecs.csv", results.to_csv(points))
    write("compared.csv", results.to_csv(compared, results.COMPARISON))
    for name, curve in results.curves(points).items():
        write(f"compressai/{name}.json", results.to_compressai(name, curve, data))
    for metric in COMPARED:
        if any(point.get(metric) is not None for point in points):
            for format in ("png", "svg"):
                write(f"rd_{metric}.{format}", plots.rate_distortion(points, metric, title, format))
    write("report.html", report.page(title, points, compared, notes, shown))


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    folder = Path(tempfile.mkdtemp(prefix="codomain-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar with the time left on stderr, where someone is watching; for a log, a line at every tenth of long work."""
    if not sys.stderr.isatty():
        began, done = time.monotonic(), 0

        def log(name: str) -> None:
            nonlocal done
            done += 1
            if total >= 50 and done * 10 // total > (done - 1) * 10 // total:
                left = (time.monotonic() - began) * (total - done) / done
                print(f"{title}: {done} of {total}, about {left:.0f} s left", file=sys.stderr, flush=True)

        yield log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(f"{title:>8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.description}"), console=Console(stderr=True),
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=total)
        yield lambda name: bar.update(task, advance=1, description=name)
