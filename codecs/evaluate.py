"""Evaluate: models and baselines on a folder of signals, from real files to tables, plots and one page.

The parts: `contenders.py` (what is tested), `kind.py` (what they code, and how that is measured), `sweep.py` (files in
fresh processes), `results.py` (tables), `plots.py`, `report.py` (the page). This module runs them in order.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from codomain.codecs import files, plots, report, results
from codomain.codecs.contenders import KINDS, RUNS, Contender, Matched, Ours, label, parse, parse_matched
from codomain.codecs.kind import Kind, Row, Shown
from codomain.codecs.progress import progress
from codomain.codecs.sweep import TIMED, Input, Store, read_folder, sweep, time_codec

MATCHED = ":matched"  # behind a baseline's name: at the bytes of every model of ours


@dataclass(frozen=True)
class Plan:
    """What is evaluated; a YAML file of ``configs/evaluate`` holds the same keys.

    Attributes:
        models: names that `contenders.parse` takes; "opus:matched" is Opus at the bytes of every model of ours.
        title: above plots and page.
        anchor: the curve that others are compared with: a name without its quality; by default the kind's own, if it is
            there.
        readme: columns of the README's table; by default the rate and the metrics that are compared first.
        name: of its file, and of its section in a README; no key of the file.
    """

    models: tuple[str, ...]
    title: str = ""
    anchor: str | None = None
    readme: tuple[str, ...] = ()
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
    columns = {key for kind in KINDS.values() for key in kind.columns}
    unknown = set(settings.get("readme", ())) - columns
    if unknown:
        raise ValueError(
            f"{path}: readme: no columns {', '.join(sorted(unknown))}; there are {', '.join(sorted(columns))}"
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
        data: folder of signals, of the kind that the models are of.
        out: folder of results, new or of a run to continue; None keeps nothing.
        jobs: processes at a time; by default one per core.
        timing: measure speeds too, alone, after everything else.
        readme: put the tables there, between the markers of the plan's name, and a plot into ``docs`` beside it.

    Raises:
        ValueError: for a folder without such signals, models of several kinds, a README without markers, or if no
            contender is left.
    """
    if readme is not None:
        results.replace_section(readme, plan.name, "")  # before the work, not after it
    jobs = jobs or os.cpu_count() or 1
    left_out: list[str] = []
    contenders = _contenders(plan.models, left_out)
    kind = _kind(contenders)
    columns = plan.readme or (kind.rate.key, *kind.compared[:2])
    if not set(columns) <= kind.columns.keys():
        raise ValueError(f"readme: {', '.join(set(columns) - kind.columns.keys())}: no columns of {kind.files}")
    curves = dict.fromkeys(contender.name for contender in contenders if not isinstance(contender, Matched))
    if plan.anchor is not None and plan.anchor not in curves:
        raise ValueError(f"no curve {plan.anchor!r} to compare with; there are {', '.join(curves)}")
    inputs, unreadable = read_folder(data, kind)
    left_out += unreadable
    with _folder(out) as folder:
        store = Store(folder)
        _foretell(contenders, inputs, store, jobs)
        with progress(len(contenders) * len(inputs), "sweep", logged=True) as bar:
            left_out += sweep(contenders, inputs, store, jobs, bar.finish)
        points, rows, complete = _points(kind, contenders, inputs, store, left_out)
        if timing:
            _add_speeds(kind, contenders, complete, store, points, left_out)
        title = plan.title or data.resolve().name
        compared, gained = results.compare(kind, points, plan.anchor or kind.anchor), results.differences(kind, rows)
        notes = _notes(kind, data, complete, points, left_out, timing)
        _print(kind, title, points, compared, gained, notes)
        if out is not None:
            with progress(min(len(complete), kind.shown), f"{kind.item}s", logged=True) as bar:
                shown = report.gather(contenders, complete, store, jobs, bar.finish)
            _write(out, kind, title, data.name, rows, points, compared, gained, notes, shown)
            print(f"{out / 'report.html'}: {(out / 'report.html').stat().st_size / 1e6:.1f} MB, opens in any browser")
        if readme is not None:
            plot = readme.parent / "docs" / f"{plan.name}_{kind.compared[0]}.png"
            table = results.to_markdown(kind, points, compared, columns, gained)
            files.write(plot, plots.rate_distortion(kind, points, kind.compared[0], title, "png"), force=True)
            section = results.replace_section(readme, plan.name, f"![{title}](docs/{plot.name})\n\n{table}")
            files.write(readme, section.encode(), force=True)
        return left_out


def _contenders(models: Sequence[str], left_out: list[str]) -> list[Contender]:
    """Return what names stand for; behind each of our models what is matched with it."""
    found: list[Contender] = []
    matched = [name.removesuffix(MATCHED) for name in dict.fromkeys(models) if name.endswith(MATCHED)]
    for name in dict.fromkeys(models):
        if name.endswith(MATCHED):
            continue
        try:
            contender = parse(name)
            found.append(contender)
            if isinstance(contender, Ours):
                found += [parse_matched(baseline, contender) for baseline in matched]
        except ValueError as error:
            left_out.append(str(error))
    if matched and not any(isinstance(contender, Ours) for contender in found):
        left_out.append(f"{', '.join(name + MATCHED for name in matched)}: no model of ours to be matched with")
    if not found:
        raise ValueError("; ".join(left_out))
    return list({label(contender): contender for contender in found}.values())


def _kind(contenders: Sequence[Contender]) -> Kind:
    """Return the kind of all contenders."""
    examples: dict[str, str] = {}
    for contender in contenders:
        examples.setdefault(contender.kind, label(contender))
    if len(examples) > 1:
        found = ", ".join(f"{example} codes {KINDS[kind].files}" for kind, example in examples.items())
        raise ValueError(f"expected models of one kind of signal; {found}")
    return KINDS[contenders[0].kind]


def _foretell(contenders: Sequence[Contender], inputs: Sequence[Input], store: Store, jobs: int) -> None:
    """Say how long it takes to fit networks: of a fit that runs, a bar shows nothing."""
    ours = [c for c in contenders if isinstance(c, Ours) and c.slow]
    fits = [c for c in ours for source in inputs if store.find(c, source) is None]
    if fits:
        from codomain.codecs.encoding import DEFAULT_SECONDS

        seconds = sum((c.seconds or DEFAULT_SECONDS) / (1 if c.threads > 1 else jobs) for c in fits)
        print(f"codomain: {len(fits)} fits, which take {seconds / 60:.1f} minutes in all", file=sys.stderr, flush=True)


def _points(
    kind: Kind, contenders: Sequence[Contender], inputs: Sequence[Input], store: Store, left_out: list[str]
) -> tuple[list[Row], list[Row], list[Input]]:
    """Return means, the rows behind them, and the signals that they are of: the same ones for every contender and
    metric.

    A contender that coded no signal at all is left out first; then the signals that some contender could not code, or
    that are too small for a needed metric that others have. A signal that lacks another metric does not count in it.
    """
    able = [c for c in contenders if any(store.find(c, p) for p in inputs)]
    found = {p.name: [row for c in able if (row := store.find(c, p)) is not None] for p in inputs}
    whole = [p for p in inputs if able and len(found[p.name]) == len(able)]
    common = [m for m in kind.metrics if m.needed and any(found[p.name][0].get(m.key) is not None for p in whole)]
    complete = []
    for source in whole:
        row = found[source.name][0]
        lacking = [metric for metric in common if row.get(metric.key) is None]
        if lacking:
            left_out.append(f"{source.name}: {kind.lacks(row, lacking)}")
        else:
            complete.append(source)
    if not complete:
        raise ValueError(f"no {kind.item} was coded by every contender: {'; '.join(left_out)}")
    rows = [found[p.name][i].copy() for i in range(len(able)) for p in complete]
    for key in (metric.key for metric in kind.metrics if not metric.needed):
        having = {row["model"] for row in rows if row.get(key) is not None}
        partly = {row["crc"] for row in rows if row["model"] in having and row.get(key) is None}
        for row in rows:
            if row["crc"] in partly and key in row:
                row[key] = None
    return results.means(kind, rows), rows, complete


def _add_speeds(
    kind: Kind, contenders: Sequence[Contender], inputs: Sequence[Input], store: Store, points: list[Row],
    left_out: list[str],
) -> None:  # fmt: skip
    """Time every contender on up to `TIMED` signals that lie evenly in the list; it has the machine to itself.

    Not those that are matched: they search.
    """
    by_label = {point["model"]: point for point in points}
    timed = [c for c in contenders if label(c) in by_label and not isinstance(c, Matched)]
    with tempfile.TemporaryDirectory() as folder, progress(len(timed), "speeds", logged=True) as bar:
        chosen = sorted({i * len(inputs) // TIMED for i in range(TIMED)})
        samples = []
        for i in chosen:  # as samples: reading the file is no part of a codec's time
            samples.append(Path(folder) / f"{i}{kind.handed}")
            kind.save(samples[-1], kind.read(inputs[i].path))
        for contender in timed:
            rows = [store.rows[label(contender), contender.version, inputs[i].crc] for i in chosen]
            made = [(store.folder / row["file"], row) for row in rows]
            try:
                by_label[label(contender)].update(time_codec(contender, samples, made))
            except ValueError as error:
                left_out.append(f"speed of {label(contender)}: {error}")
            bar.finish(label(contender))


def _notes(
    kind: Kind, data: Path, inputs: Sequence[Input], points: Sequence[Row], left_out: Sequence[str], timing: bool
) -> list[str]:
    notes = [
        f"{len(inputs)} {kind.item}s of {data.resolve().name}; {kind.rate.title} counts whole files, headers included; "
        "every file was decoded in a fresh process",
        kind.about,
    ]
    if any("@" in point["name"] for point in points):
        notes.append("A@B is codec A, file by file at its largest file that is no larger than B's, or its smallest")
    for metric in kind.metrics:
        counts = {point.get(f"{metric.key}_n") for point in points} - {None, 0, len(inputs)}
        notes += [f"{metric.title} is of {n} of the {kind.item}s: the others have none" for n in counts]
    if timing:
        notes.append(
            f"speeds: warm, median of {RUNS} runs, geometric mean over up to {TIMED} {kind.item}s, {os.cpu_count()} "
            "cores, of which a codec uses as many as its column of threads says; start: a fresh process to its first "
            f"coded {kind.item}; peak: memory of a process that encodes and decodes"
        )
        if any("encode_cpu_s" in point for point in points):
            notes.append(
                "what is slow encoded once, where its file was made: alone, if it uses many threads, else beside "
                f"others on a core of its own; its start is to its first decoded {kind.item}"
            )
    versions = dict.fromkeys(f"{p['name']}: {p['version']}" for p in points if "@" not in p["name"])
    notes.append("; ".join(versions))
    return notes + [f"left out: {line}" for line in left_out]


def _print(
    kind: Kind, title: str, points: Sequence[Row], compared: Sequence[Row], gained: Sequence[Row], notes: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(width=None if sys.stdout.isatty() else 150, markup=False, emoji=False)

    def right(titles: Sequence[str]) -> list[Column]:
        return [Column(title, no_wrap=True, justify="right") for title in titles]

    for columns in ((kind.rate, *kind.sizes, *kind.metrics), kind.costs):
        figures = [column for column in columns if any(point.get(column.key) is not None for point in points)]
        if figures:
            table = Table(Column("codec", no_wrap=True), *right([figure.title for figure in figures]), title=title)
            for point in points:
                table.add_row(point["model"], *(results.show(kind, figure.key, point) for figure in figures))
            console.print(table)
    if gained:
        there = [metric for metric in kind.metrics if any(row.get(metric.key) is not None for row in gained)]
        titles = ["against", "their bytes", *(metric.title for metric in there)]
        table = Table(Column("codec", no_wrap=True), *right(titles), title="gain at equal bytes")
        for row in gained:
            gains = [results.show_gain(kind, metric.key, row) for metric in there]
            table.add_row(row["model"], row["baseline"], results.show_percent(row["bytes_percent"]), *gains)
        console.print(table)
    if compared:
        title = f"bytes against {compared[0]['anchor']} at equal quality"
        table = Table(*(Column(name, no_wrap=True) for name in ("codec", "metric", "bytes")), "method", "", title=title)
        for row in compared:
            percent = results.show_percent(row["percent"])
            table.add_row(row["name"], kind.metric(row["metric"]).title, percent, row["method"], row["note"])
        console.print(table)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=not sys.stdout.isatty())


def _write(
    out: Path, kind: Kind, title: str, data: str, rows: list[Row], points: list[Row], compared: list[Row],
    gained: list[Row], notes: list[str], shown: list[Shown],
) -> None:  # fmt: skip
    """Everything that people and programs read; what an earlier run wrote here is replaced."""

    def write(name: str, content: str | bytes) -> None:
        files.write(out / name, content.encode() if isinstance(content, str) else content, force=True)

    write("points.csv", results.to_csv(rows))
    write("codecs.csv", results.to_csv(points))
    write("compared.csv", results.to_csv(compared, results.COMPARISON))
    if gained:
        write("gained.csv", results.to_csv(gained))
    for name, text in kind.exports(results.curves(kind, points), data).items():
        write(name, text)
    for metric in kind.compared:
        if any(point.get(metric) is not None for point in points):
            for format in ("png", "svg"):
                write(f"rd_{metric}.{format}", plots.rate_distortion(kind, points, metric, title, format))
    write("report.html", report.page(kind, title, points, compared, notes, shown, gained))


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
