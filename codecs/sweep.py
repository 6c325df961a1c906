"""Sweep: every contender on every picture, as real files that fresh processes encode and decode.

    picture --process 1: compress--> file --process 2: decompress--> samples --metrics--> one row

Rows are appended to ``points.jsonl`` batch by batch, so a run that was interrupted goes on where it was. Contenders
and slices of the pictures run in parallel, single-threaded, each with one picture in memory.
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
from statistics import geometric_mean
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from codomain.codecs import media
from codomain.codecs.contenders import Contender, label, read_picture
from codomain.codecs.metrics import available_metrics, bpp, psnr
from codomain.codecs.results import Row

BATCH = 12  # pictures of one pair of processes: their samples lie on disk until measured
DECODED = ".decoded-"  # how the folders of these begin
TIMED = 3  # pictures whose coding is timed


class Picture(NamedTuple):
    """A picture that is coded.

    Attributes:
        path: of the file.
        name: its path within the folder, by which people know it.
        crc: of name and bytes, by which a run knows it.
    """

    path: Path
    name: str
    crc: str


def read_folder(folder: Path) -> tuple[list[Picture], list[str]]:
    """Return the pictures of a folder, and a line for each that cannot be read.

    Raises:
        ValueError: if there is nothing.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder of images; {'found a file' if folder.exists() else 'no such folder'}"
        )
    pictures, failures = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in media.FORMATS.keys() | media.FOREIGN):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        try:
            read_picture(path)
        except (ValueError, OSError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())}")
        else:
            pictures.append(Picture(path, name, f"{zlib.crc32(path.read_bytes(), zlib.crc32(name.encode())):08x}"))
    if not pictures:
        raise ValueError(f"{folder}: no image can be read: {failures[0]}" if failures else f"{folder}: no images")
    return pictures, failures


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

    def find(self, contender: Contender, picture: Picture) -> Row | None:
        """Return the row of one picture, if it is known and its file lies there whole."""
        row = self.rows.get((label(contender), contender.version, picture.crc))
        if row is None:
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
    contenders: Sequence[Contender],
    pictures: Sequence[Picture],
    store: Store,
    jobs: int,
    advance: Callable[[str], None],
) -> list[str]:
    """Fill ``store``; return a line for every picture that a contender could not code.

    Args:
        contenders: what is tested.
        pictures: files of images.
        store: what is known already is not done again.
        jobs: processes at a time.
        advance: called with a contender's label for every picture that is done.
    """
    work: list[tuple[Contender, list[Picture]]] = []
    for contender in contenders:
        todo = [p for p in pictures if store.find(contender, p) is None]
        for _ in range(len(pictures) - len(todo)):
            advance(label(contender))
        size = max(1, min(BATCH, -(-len(todo) // jobs)))
        work += [(contender, todo[i : i + size]) for i in range(0, len(todo), size)]
    with (
        ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_single_thread) as meters,
        ThreadPoolExecutor(jobs) as pool,
    ):
        try:
            done = [pool.submit(_code, contender, batch, store, meters, advance) for contender, batch in work]
            return sorted(line for future in done for line in future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def measure(source: Path, decoded: Path) -> Row:
    """Return the metrics of one decoded picture, as 8-bit RGB; ``psnr_float`` where the codec did not round.

    A metric that the picture is too small for is None.
    """
    x, raw = read_picture(source), np.load(decoded)
    if raw.shape != x.shape:
        raise ValueError(f"decoded to {raw.shape[1]} x {raw.shape[0]}; the picture is {x.shape[1]} x {x.shape[0]}")
    exact = raw.dtype == np.uint8
    x_hat = raw if exact else raw.clip(0, 255).round().astype(np.uint8)
    row: Row = {"width": x.shape[1], "height": x.shape[0]}
    for key, metric in available_metrics().items():
        try:
            row[key] = round(metric(x, x_hat, 255.0), 6)
        except ValueError:
            row[key] = None
    row["psnr_float"] = None if exact else round(psnr(x, raw, 255.0), 6)
    return row


def time_codec(contender: Contender, pictures: Sequence[Path]) -> Row:
    """Return the speeds of a contender, alone on the machine and warm; and what a fresh process costs.

    Keys: ``encode_mpix_s``, ``decode_mpix_s`` (geometric mean over pictures of the median of several runs),
    ``threads``, ``start_s`` (a fresh process, to its first coded picture), ``peak_mb`` (memory of that process).
    """
    began = time.time()
    *reports, last = _process("time", contender, [(p, p) for p in pictures], threads=None)
    good = [report for report in reports if "error" not in report]
    if not good:
        raise ValueError(f"{label(contender)}: {reports[0]['error']}")
    return {
        "encode_mpix_s": round(geometric_mean(r["pixels"] / 1e6 / r["encode_s"] for r in good), 3),
        "decode_mpix_s": round(geometric_mean(r["pixels"] / 1e6 / r["decode_s"] for r in good), 3),
        "threads": good[0]["threads"],
        "start_s": round(good[0]["first_coded_at"] - began, 2),
        "peak_mb": last["peak_mb"],
    }


def _code(
    contender: Contender,
    batch: list[Picture],
    store: Store,
    meters: ProcessPoolExecutor,
    advance: Callable[[str], None],
) -> list[str]:
    """Code one slice of the pictures; return the failures."""
    failures: list[str] = []
    name = label(contender)
    coded = [Path("coded") / name.replace(":", "_") / f"{p.path.stem}_{p.crc}{contender.suffix}" for p in batch]
    (store.folder / coded[0]).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.folder, prefix=DECODED) as folder:
        samples, decoded = ([Path(folder) / f"{i}{end}.npy" for i in range(len(batch))] for end in ("", "_hat"))
        for picture, path in zip(batch, samples, strict=True):  # once: a process that runs a baseline needs no torch
            np.save(path, read_picture(picture.path))
        files = [store.folder / path for path in coded]
        written = _process("encode", contender, list(zip(samples, files, strict=True)))
        whole = [i for i, report in enumerate(written[:-1]) if "error" not in report]
        read = _process("decode", contender, [(files[i], decoded[i]) for i in whole]) if whole else [{}]
        reports = dict(zip(whole, read[:-1], strict=True))
        pending: dict[int, Future[Row]] = {
            i: meters.submit(measure, samples[i], decoded[i]) for i in whole if "error" not in reports[i]
        }
        for i, picture in enumerate(batch):
            try:
                for report in (written[i], reports.get(i, {})):
                    if "error" in report:
                        raise ValueError(report["error"])
                measured = pending[i].result()
            except ValueError as error:
                failures.append(f"{name}: {picture.name}: {error}")
            else:
                n_bytes = written[i]["n_bytes"]
                store.add(
                    {"model": name, "name": contender.name, "quality": contender.quality, "image": picture.name,
                     "n_bytes": n_bytes, "bpp": round(bpp(n_bytes, measured["width"], measured["height"]), 6),
                     **measured, "version": contender.version,
                     "latents_per_pixel": contender.latents_per_pixel, "crc": picture.crc, "file": str(coded[i])}
                )  # fmt: skip
            advance(name)
    return failures


def _process(
    job: str, contender: Contender, pairs: list[tuple[Path, Path]], threads: int | None = 1
) -> list[dict[str, Any]]:
    """Run one job of `contenders` in a fresh process; return a line for each pair, and the process's own.

    A process that died failed at all its pairs.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "codomain.codecs.contenders", job, label(contender)],
        input=json.dumps([[str(a), str(b)] for a, b in pairs]), capture_output=True, text=True, env=environment,
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
