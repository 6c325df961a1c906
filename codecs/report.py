"""Report: one HTML file that needs nothing else: curves, a sortable table, and every signal beside its original.

The page is ``report.html``; its last part, which shows what was coded, is the kind's own. Here the data are gathered.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from codomain.codecs.contenders import KINDS, Contender, Matched, Ours, label, parse
from codomain.codecs.kind import Kind, Row, Shown
from codomain.codecs.matched import match
from codomain.codecs.results import show, show_gain, show_percent
from codomain.codecs.sweep import Input, Store

NEAR = 0.01  # of the bytes: a baseline's file that is this near needs no further search


def gather(
    contenders: Sequence[Contender],
    inputs: Sequence[Input],
    store: Store,
    jobs: int,
    advance: Callable[[str], None],
) -> list[Shown]:
    """Return what the page shows of the kind's number of signals: the original, our models at the middle one of their
    qualities, and, for each of these, every baseline as the run has matched it, else at the quality whose file is
    nearest in bytes. Without a model of ours, the contenders as they are.
    """
    kind = KINDS[contenders[0].kind]
    if len(inputs) > kind.shown:
        inputs = [inputs[i * len(inputs) // kind.shown] for i in range(kind.shown)]
    ours = []
    for name in dict.fromkeys(c.name for c in contenders if isinstance(c, Ours)):
        same = sorted((c for c in contenders if c.name == name), key=lambda c: c.quality or 0)
        ours.append(same[len(same) // 2])
    others = [c for c in contenders if not isinstance(c, Ours)]
    scaled = [c for c in others if c.name in kind.scales]
    matched = [c.baseline for c in others if isinstance(c, Matched)]
    rivals = list(dict.fromkeys([*(c.name for c in scaled), *matched])) if ours else []
    fixed = ours or others
    swept = [c for c in others if ours and c not in scaled and not isinstance(c, Matched)]
    shown = []
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = []
        for source in inputs:
            rows = [store.find(c, source) for c in (*fixed, *swept)]
            files = [(row["model"], store.folder / row["file"]) for row in rows if row is not None]
            known = {label(c): store.find(c, source) for c in scaled}
            sizes = {name: row["n_bytes"] for name, row in known.items() if row is not None}
            there = {(c.baseline, label(c.other)): store.find(c, source) for c in others if isinstance(c, Matched)}
            matches = {key: store.folder / row["file"] for key, row in there.items() if row is not None}
            futures.append(pool.submit(_show, kind.name, source, files, rivals, sizes, matches))
        for future in futures:
            shown.append(future.result())
            advance("pictures")
    return shown


def page(
    kind: Kind,
    title: str,
    points: Sequence[Row],
    compared: Sequence[Row],
    notes: Sequence[str],
    shown: Sequence[Shown],
    gained: Sequence[Row] = (),
) -> str:
    """Return the page.

    Args:
        kind: of the signals.
        title: of the evaluation.
        points: of `results.means`, with speeds where they were measured.
        compared: of `results.compare`.
        notes: lines about how and on what; what was left out.
        shown: of `gather`.
        gained: of `results.differences`.
    """
    columns = {f"{kind.name}s": f"{kind.name}s"} | {
        key: c.title for key, c in kind.columns.items() if any(p.get(key) is not None for p in points)
    }
    drawn = [kind.metric(m) for m in kind.compared if any(p.get(m) is not None for p in points)]
    rate = kind.rate
    data = {
        "rate": {"unit": rate.title, "axis": kind.rate_axis, "digits": rate.digits},
        "metrics": [{"key": m.key, "title": m.axis, "unit": m.unit} for m in drawn],
        "points": [{"model": p["model"], "name": p["name"], "rate": p[rate.key],
                    **{m.key: m.quality(p[m.key]) for m in drawn if p.get(m.key) is not None}} for p in points],
    }  # fmt: skip

    def cell(key: str, row: Row) -> str:
        value = row.get(key)
        text = show(kind, key, row) if key in kind.columns else str(value)
        return f'<td data-value="{html.escape(str(-1 if value is None else value))}">{html.escape(text)}</td>'

    measured = [metric for metric in kind.metrics if any(row.get(metric.key) is not None for row in gained)]
    kept = kind.fitted(shown)
    if len(kept) < len(shown):
        notes = [*notes, f"{len(kept)} of {len(shown)} {kind.item}s are shown below: the page holds no more"]
    body = {
        "title": html.escape(title),
        "items": f"{kind.item}s",
        "notes": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
        "head": _cells("th", ("codec", *columns.values())),
        "rows": "".join(f"<tr>{''.join(cell(c, p) for c in ('model', *columns))}</tr>" for p in points),
        "compared": "".join(
            f"<tr>{_cells('td', (r['name'], r['anchor'], kind.metric(r['metric']).title))}"
            f"<td>{show_percent(r['percent'])}</td>{_cells('td', (r['method'], r.get('note', '')))}</tr>"
            for r in compared
        ),
        "gainedhead": _cells("th", ("codec", "against", "their bytes", *(metric.title for metric in measured))),
        "gained": "".join(
            f"<tr>{_cells('td', (r['model'], r['baseline'], show_percent(r['bytes_percent'])))}"
            f"{_cells('td', [show_gain(kind, metric.key, r) for metric in measured])}</tr>"
            for r in gained
        ),
        "data": _embed(data),
        "shown": "".join(f'<script type="application/json" class="{kind.item}">{_embed(s)}</script>\n' for s in kept),
        "viewer": Path(__file__).with_name(kind.viewer).read_text(),
    }  # fmt: skip
    text = Path(__file__).with_name("report.html").read_text()
    return re.sub(r"<!--(\w+)-->", lambda mark: body[mark[1]], text)  # in one pass: no content is searched


def _show(
    of_kind: str, source: Input, files: list[tuple[str, Path]], rivals: list[str], sizes: dict[str, int],
    matches: dict[tuple[str, str], Path],
) -> Shown:  # fmt: skip
    """Everything of one signal; runs in a process of its own."""
    kind = KINDS[of_kind]
    x = kind.read(source.path)
    versions = [kind.exhibit("original", x, x, None, "")]
    for model, path in files:
        data = path.read_bytes()
        versions.append(kind.exhibit(model, x, parse(model).decompress(data), data, path.suffix))
        for rival in rivals if path.suffix == ".cdm" else []:
            make = partial(kind.baseline, rival)
            if (rival, model) in matches:
                name, coded = f"{rival}@{model}", matches[rival, model].read_bytes()
                codec = make(kind.scales[rival].at(0))
            else:
                known = {float(key.partition(":")[2]): n for key, n in sizes.items() if key.partition(":")[0] == rival}
                quality, coded = match(kind.scales[rival], partial(_compress, make, x), len(data), known, NEAR)
                codec = make(quality)
                name = f"{label(codec)} at the bytes of {model}"
            version = kind.exhibit(name, x, codec.decompress(coded), coded, codec.suffix)
            versions.append(version | {"off": round(100 * (len(coded) / len(data) - 1), 1)})
    return {"name": source.name, **kind.extent(x), "versions": versions}


def _compress(make: Callable[[float], Contender], x: Any, quality: float) -> bytes:
    return make(quality).compress(x)


def _cells(tag: str, texts: Sequence[Any]) -> str:
    return "".join(f"<{tag}>{html.escape(str(text))}</{tag}>" for text in texts)


def _embed(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
