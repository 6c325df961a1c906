"""Sweep: every contender on every signal, as real files that fresh processes encode and decode.

    signal --process 1: compress--> file --process 2: decompress--> samples --metrics--> one row

Rows are appended to ``points.jsonl`` batch by batch, so a run that was interrupted goes on where it was. Contenders
and slices of the signals run in parallel, single-threaded, each with one signal in memory. Before them come those that
are slow and use many threads, one at a time; after them those that are matched in bytes with what was made till then.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean, mean
from threading import Lock
from typing import Any, NamedTuple

from codomain.codecs.contenders import KINDS, Contender, Matched, label
from codomain.codecs.kind import Kind, Row

BATCH = 12  # signals of one pair of processes: their samples lie on disk until measured
DECODED = ".decoded-"  # how the folders of these begin
TIMED = 3  # signals whose coding is timed


class Input(NamedTuple):
    """A signal that is coded.

    Attributes:
        path: of the file.
        name: its path within the folder, by which people know it.
        crc: of name and bytes, by which a run knows it.
    """

    path: Path
    name: str
    crc: str


def read_folder(folder: Path, kind: Kind) -> tuple[list[Input], list[str]]:
    """Return the signals of one kind in a folder, and a line for each that cannot be read.

    Raises:
        ValueError: if there is nothing.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder of {kind.files}; {'found a file' if folder.exists() else 'no such folder'}"
        )
    inputs, failures = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in kind.suffixes):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        try:
            kind.read(path)
        except (ValueError, OSError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())}")
        else:
            inputs.append(Input(path, name, f"{zlib.crc32(path.read_bytes(), zlib.crc32(name.encode())):08x}"))
    if not inputs:
        raise ValueError(
            f"{folder}: none of the {kind.files} can be read: {failures[0]}"
            if failures
            else f"{folder}: no {kind.files}"
        )
    return inputs, failures


class Store:
    """What is known of a run, on disk: one row a line, and the coded files.

    Args:
        folder: of the run; made if it does not exist.

    Raises:
        ValueError: if the folder holds anything but a run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.lock = folder, folder / "points.jsonl", Lock()
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not self.path.exists())):
            raise ValueError(
                f"{folder} is not empty and holds no evaluation: expected a new folder, or one to continue"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self.rows: dict[tuple[str, str, str], Row] = {}
        text = self.path.read_text()
        if not text.endswith("\n") and text:  # a run that was cut off while it wrote
            self.path.write_text(text[: text.rfind("\n") + 1])
        for i, line in enumerate(self.path.read_text().splitlines()):
            try:
                row = json.loads(line)
                self.rows[row["model"], row["version"], row["crc"]] = row
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{self.path}: line {i + 1} is no row of an evaluation") from None
        for left in folder.glob(f"{DECODED}*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)

    def find(self, contender: Contender, source: Input) -> Row | None:
        """Return the row of one signal, if it is known and its file lies there whole; of one that is matched, if it is
        matched with the file that the other has now.
        """
        row = self.rows.get((label(contender), contender.version, source.crc))
        if row is None:
            return None
        if isinstance(contender, Matched):
            other = self.find(contender.other, source)
            if other is not None and row.get("at_most") != other["n_bytes"]:
                return None
        file = self.folder / row["file"]
        return row if file.exists() and file.stat().st_size == row["n_bytes"] else None

    def add(self, row: Row) -> None:
        """Keep a row."""
        with self.lock:
            self.rows[row["model"], row["version"], row["crc"]] = row
            with self.path.open("a") as stream:
                stream.write(json.dumps(row) + "\n")


def sweep(
    contenders: Sequence[Contender], inputs: Sequence[Input], store: Store, jobs: int, advance: Callable[[str], None]
) -> list[str]:
    """Fill ``store``; return a line for every signal that a contender could not code.

    Args:
        contenders: what is tested.
        inputs: of their kind.
        store: what is known already is not done again.
        jobs: processes at a time.
        advance: called with a contender's label for every signal that is done.
    """
    alone = [c for c in contenders if c.slow and c.threads > 1]
    matched = [c for c in contenders if isinstance(c, Matched)]
    others = [c for c in contenders if c not in alone and c not in matched]
    failures: list[str] = []
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_single_thread) as meters:
        for group, at_a_time in ((alone, 1), (others, jobs), (matched, jobs)):
            work: list[tuple[Contender, list[Input]]] = []
            for contender in group:
                todo = [source for source in inputs if store.find(contender, source) is None]
                if isinstance(contender, Matched) and contender.other in contenders:
                    lacking = [source for source in todo if store.find(contender.other, source) is None]
                    todo = [source for source in todo if source not in lacking]
                    missing = f"{label(contender.other)} has no file that it could be matched with"
                    failures += [f"{label(contender)}: {source.name}: {missing}" for source in lacking]
                for _ in range(len(inputs) - len(todo)):
                    advance(label(contender))
                size = 1 if contender.slow else max(1, min(BATCH, -(-len(todo) // jobs)))
                work += [(contender, todo[i : i + size]) for i in range(0, len(todo), size)]
            with ThreadPoolExecutor(at_a_time) as pool:
                threads = None if group is alone else 1
                try:
                    done = [pool.submit(_code, c, batch, store, meters, advance, threads) for c, batch in work]
                    failures += [line for future in done for line in future.result()]
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return sorted(failures)


def measure(kind: str, source: Path, decoded: Path) -> Row:
    """Return the metrics of one decoded signal; runs in a process of its own."""
    return KINDS[kind].measure(KINDS[kind].load(source), KINDS[kind].load(decoded))


def time_codec(contender: Contender, samples: Sequence[Path], made: Sequence[tuple[Path, Row]] = ()) -> Row:
    """Return the speeds of a contender, alone on the machine and warm; and what a fresh process costs.

    Args:
        contender: what is timed.
        samples: signals.
        made: of each signal the file and the row that the sweep made: a slow contender was timed then.

    Keys: the kind's speeds (geometric mean over signals of the median of several runs), ``threads``, ``start_s`` (a
    fresh process, to its first coded signal; of slow ones decoded), ``peak_mb`` (memory of that process, and of those
    that encoded); of slow ones ``encode_cpu_s`` (mean over signals).
    """
    began = time.time()
    files = [path for path, _ in made] if contender.slow else samples
    *reports, last = _process("time", contender, list(zip(samples, files, strict=True)), threads=None)
    good = [i for i, report in enumerate(reports) if "error" not in report]
    if not good:
        raise ValueError(f"{label(contender)}: {reports[0]['error']}")
    encode, decode = KINDS[contender.kind].speeds
    found: Row = {}
    if contender.slow:
        rows = [made[i][1] for i in good]
        for i, row in zip(good, rows, strict=True):
            reports[i]["encode_s"] = row["encode_s"]
        found["encode_cpu_s"] = round(mean(row["encode_cpu_s"] for row in rows), 3)
        last["peak_mb"] = max(last["peak_mb"], *(row["encode_peak_mb"] for row in rows))
    return found | {
        encode.key: round(geometric_mean(reports[i]["amount"] / reports[i]["encode_s"] for i in good), 3),
        decode.key: round(geometric_mean(reports[i]["amount"] / reports[i]["decode_s"] for i in good), 3),
        "threads": reports[good[0]]["threads"],
        "start_s": round(reports[good[0]]["first_done_at"] - began, 2),
        "peak_mb": last["peak_mb"],
    }


def _code(
    contender: Contender, batch: list[Input], store: Store, meters: ProcessPoolExecutor, advance: Callable[[str], None],
    threads: int | None,
) -> list[str]:  # fmt: skip
    """Code one slice of the signals; return the failures."""
    failures: list[str] = []
    name, kind = label(contender), KINDS[contender.kind]
    coded = [Path("coded") / name.replace(":", "_") / f"{p.path.stem}_{p.crc}{contender.suffix}" for p in batch]
    (store.folder / coded[0]).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.folder, prefix=DECODED) as folder:
        ends = (kind.handed, f"_hat{kind.handed}")
        samples, decoded = ([Path(folder) / f"{i}{end}" for i in range(len(batch))] for end in ends)
        for source, path in zip(batch, samples, strict=True):  # once: a process that runs a baseline needs no torch
            kind.save(path, kind.read(source.path))
        files = [store.folder / path for path in coded]
        pairs: list[tuple[Any, ...]] = list(zip(samples, files, strict=True))
        extra: list[Row] = [{} for _ in batch]
        if isinstance(contender, Matched):
            known = [store.find(contender.other, source) for source in batch]
            extra = [{"at_most": None if row is None else row["n_bytes"]} for row in known]
            pairs = [(*pair, row["at_most"]) for pair, row in zip(pairs, extra, strict=True)]
        written = _process("encode", contender, pairs, threads)
        whole = [i for i, report in enumerate(written[:-1]) if "error" not in report]
        read = _process("decode", contender, [(files[i], decoded[i]) for i in whole]) if whole else [{}]
        reports = dict(zip(whole, read[:-1], strict=True))
        pending: dict[int, Future[Row]] = {
            i: meters.submit(measure, kind.name, samples[i], decoded[i]) for i in whole if "error" not in reports[i]
        }
        for i, source in enumerate(batch):
            try:
                for report in (written[i], reports.get(i, {})):
                    if "error" in report:
                        raise ValueError(report["error"])
                measured = pending[i].result()
            except ValueError as error:
                failures.append(f"{name}: {source.name}: {error}")
            else:
                n_bytes = written[i]["n_bytes"]
                if contender.slow:
                    extra[i] = {key: written[i][key] for key in ("encode_s", "encode_cpu_s")}
                    extra[i]["encode_peak_mb"] = written[-1]["peak_mb"]
                latents = {} if kind.latents is None else {kind.latents.key: contender.latents_per_position}
                store.add(
                    {"model": name, "name": contender.name, "quality": contender.quality, kind.name: source.name,
                     "n_bytes": n_bytes, kind.rate.key: round(kind.rate_of(n_bytes, measured), 6),
                     **kind.sizes_of(files[i].read_bytes()), **measured, **extra[i], "version": contender.version,
                     **latents, "crc": source.crc, "file": str(coded[i])}
                )  # fmt: skip
            advance(name)
    return failures


def _process(
    job: str, contender: Contender, pairs: Sequence[tuple[Any, ...]], threads: int | None = 1
) -> list[dict[str, Any]]:
    """Run one job of `contenders` in a fresh process; return a line for each pair, and the process's own.

    A process that died failed at all its pairs.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "codomain.codecs.contenders", job, label(contender)],
        input=json.dumps([[str(a), str(b), *rest] for a, b, *rest in pairs]), capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != len(pairs) + 1:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        died = f"its process ended with exit code {done.returncode}: {last[0]}"
        return [{"error": died}] * len(pairs) + [{}]
    return [json.loads(line) for line in lines]


def _single_thread() -> None:
    import torch

    torch.set_num_threads(1)
