"""Bench: our speed beside that of the peers that are installed, interleaved in one run.

Each row is one operation of one contender: median time of the rounds, spread, rate, ratio to ours, peak memory; and
of ours the floor, below which this machine cannot do the work (`codecs/machine.py`), and the share of it reached.
What is measured stands in `bench_wpt`, `bench_vq`, `bench_rans` and `bench_codec`. A contender whose output differs
from ours where it should not is refused a time. Peers come with the extra `bench`; the ones that are missing are named
and left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from codomain.codecs import files
from codomain.codecs.machine import floor_seconds, peak_mib, seconds_of
from torch import Tensor

SUBJECTS = ("wpt", "vq", "rans", "codec")
ROUNDS = 7
SLOW_S = 20.0  # a contender that takes longer than this is run once
PAUSE_S = 0.02  # OpenMP threads of the library before spin for some milliseconds after their work


class Contender(NamedTuple):
    """One operation of one library; the first of an operation is ours."""

    operation: str
    library: str
    run: Callable[[], Any]
    amount: float  # in the unit
    unit: str
    moved: float = 0  # bytes and floating-point operations that nothing can do the work without; of ours
    flop: float = 0
    device: str = "cpu"


def bench(
    subject: str, as_json: bool = False, plot: Path | None = None, force: bool = False, roofline: bool = False
) -> list[dict[str, Any]]:
    """Measure a subject of `SUBJECTS`; print a table, or one JSON object per row.

    Args:
        subject: what to measure.
        as_json: print no table.
        plot: PNG file to draw the rates into.
        force: replace that file where it exists.
        roofline: measure nothing; print what `codecs/roofline.py` predicts for the Triton kernels.

    Raises:
        ValueError: if outputs differ, if the plot exists, or if there is no prediction.
    """
    if plot is not None:
        if roofline:
            raise ValueError("--plot draws what is measured: expected no --roofline")
        if plot.suffix.lower() != ".png":
            raise ValueError(f"{plot}: expected a name that ends in .png")
        files.refuse_overwrite(plot, force)  # before minutes of measurements
    if roofline:
        from codomain.codecs.roofline import predict

        rows = predict(subject)
        title, columns = f"{subject} in Triton: predicted, not measured, for an H100 SXM", PREDICTED
    else:
        contenders: Callable[[], Iterator[Contender]] = import_module(f"codomain.codecs.bench_{subject}").contenders
        with torch.inference_mode():
            rows = [row for group in _grouped(contenders()) for row in _measure(group)]
        title, columns = (
            f"{subject}, {torch.get_num_threads()} threads, median of {ROUNDS} interleaved rounds",
            MEASURED,
        )
    if plot is not None:
        from codomain.codecs.plots import rates

        files.write(plot, rates(rows, title), force)
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        _print_table(title, columns, rows)
    return rows


Columns = dict[str, Callable[[dict[str, Any]], str]]
MEASURED: Columns = {
    "operation": lambda row: row["operation"],
    "library": lambda row: row["library"],
    "ms": lambda row: f"{row['ms']:.2f}",
    "spread": lambda row: f"{row['spread']:.0%}",
    "rate": lambda row: f"{row['rate']:.3g} {row['unit']}",
    "ours is faster by": lambda row: f"{row['ratio']:.2f}x" if row["ratio"] != 1 else "",
    "peak MiB": lambda row: f"{row['peak_mib']:.1f}" if "peak_mib" in row else "",
    "floor ms": lambda row: f"{row['floor_ms']:.3g}" if "floor_ms" in row else "",
    "reached": lambda row: f"{row['share']:.1%}" if "share" in row else "",
}
PREDICTED: Columns = {
    "operation": lambda row: row["operation"],
    "predicted ms": lambda row: f"predicted {row['predicted_ms']:.3g}",
    "bound by": lambda row: row["bound"],
    "memory, ms": lambda row: f"{row['memory_ms']:.3g}",
    "arithmetic, ms": lambda row: f"{row['arithmetic_ms']:.3g}",
    "latency, ms": lambda row: f"{row['latency_ms']:.3g}",
    "registers": lambda row: str(row["registers"]),
    "spilled B": lambda row: str(row["spilled"]),
    "shared B": lambda row: str(row["shared"]),
    "blocks/SM": lambda row: str(row["blocks"]),
    "occupancy": lambda row: f"{row['occupancy']:.0%}",
    "waves": lambda row: f"{row['waves']:.3g}",
}


def agree(library: str, theirs: Tensor, ours: Tensor) -> None:
    """Raise ValueError if outputs differ by more than float32 arithmetic of another order makes them."""
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-5):
        raise ValueError(f"{library} and codomain give different results: no times are shown")


def devices() -> Iterator[tuple[str, str]]:
    """Yield what there is to run on, and what to add to an operation's name there."""
    yield "cpu", ""
    if torch.cuda.is_available():
        yield "cuda", f", {torch.cuda.get_device_name()}"


def _grouped(contenders: Iterable[Contender]) -> list[list[Contender]]:
    groups: dict[str, list[Contender]] = {}
    for contender in contenders:
        groups.setdefault(contender.operation, []).append(contender)
    return list(groups.values())


def _measure(group: list[Contender]) -> list[dict[str, Any]]:
    times: list[list[float]] = []
    peaks = []
    for contender in group:
        first = seconds_of(contender.run, contender.device)
        times.append([first] if first > SLOW_S else [])
        peaks.append(None if first > SLOW_S else peak_mib(contender.run, contender.device))
    for _ in range(ROUNDS):
        for contender, taken in zip(group, times, strict=True):
            if taken and taken[0] > SLOW_S:
                continue
            time.sleep(PAUSE_S)
            taken.append(seconds_of(contender.run, contender.device))
    middle = [median(taken) for taken in times]
    rows = []
    for c, taken, m, peak in zip(group, times, middle, peaks, strict=True):
        row = {
            "operation": c.operation, "library": c.library, "ms": 1e3 * m,
            "spread": (max(taken) - min(taken)) / m, "rate": c.amount / m, "unit": f"{c.unit}/s",
            "ratio": m / middle[0], "threads": torch.get_num_threads(),
        }  # fmt: skip
        if peak is not None:
            row["peak_mib"] = round(peak, 1)
        if c.moved or c.flop:
            floor = floor_seconds(c.moved, c.flop, c.device)
            row |= {"floor_ms": 1e3 * floor, "share": floor / m}
        rows.append(row)
    return rows


def _print_table(title: str, columns: Columns, rows: list[dict[str, Any]]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(show(row) for show in columns.values()))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
