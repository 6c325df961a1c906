"""Compare: the same network on latents and on pixels, or samples, of the same signals, some seeds each.

    data --> OUT/data/MODEL/*.cdm, OUT/data/jpeg-90/*.jpg --> OUT/runs/ARM-SEED --> table.csv, table.md, scores.png

Every run is `codomain train` in a fresh process. A comparison that was interrupted goes on: finished runs are kept, the
others are done again; seed by seed, so that there is a table early. Scores are those of the last validation, so nothing
is chosen on the validation files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import yaml
from codomain.codecs import files, media, sound
from codomain.codecs.codec import Codec
from codomain.codecs.load import load
from codomain.codecs.plots import COLOURS
from codomain.codecs.progress import progress
from codomain.tasks.labelled import Labelled
from codomain.tasks.pixels import JPEG, read_picture, to_jpeg
from jsonargparse import ArgumentParser
from lightning import LightningDataModule, LightningModule

COLUMNS = {
    "arm": "input", "score": "", "spread": "+-", "seeds": "seeds", "n_bytes": "bytes each", "values": "values",
    "tokens": "tokens", "epoch_s": "s an epoch", "input_s": "read a second", "minutes": "minutes",
    "peak_mib": "peak MiB",
}  # fmt: skip

SUFFIXES = {"image": set(media.FORMATS), "sound": set(sound.FORMATS)}
LOOK = 0.2  # seconds between two looks at the memory of a run


@dataclass(frozen=True)
class Arm:
    """An input.

    Attributes:
        name: of it.
        config: of `codomain train`.
        model: whose files of the data it reads; None: JPEG of pictures, or the data as they are.
        settings: of its runs alone, in which "{data}" stands for the data as they are.
    """

    name: str
    config: Path
    model: str | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        title: of the comparison.
        arms, seeds: every arm is trained with every seed.
        metric: that counts, a column of the run's metrics.
        unit: what it is called, with its unit.
        factor: from the metric to that unit.
        jpeg: quality of the pictures that arms without a model read; None: all such arms read the data as they are.
    """

    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    metric: str = "val/accuracy"
    unit: str = "accuracy %"
    factor: float = 100.0
    jpeg: int | None = 90


def read_plan(path: Path) -> Plan:
    """Return the plan in a YAML file; configs are found from where it lies.

    Raises:
        ValueError: if it is none.
    """
    try:
        settings = yaml.safe_load(path.read_text())
        arms = [
            Arm(a["name"], path.parent / a["config"], a.get("model"), tuple(a.get("settings", ())))
            for a in settings.pop("arms")
        ]
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        plan = Plan(arms=tuple(arms), **options)
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no plan of a comparison: {' '.join(str(error).split())}") from None
    for arm in plan.arms:
        if not arm.config.is_file():
            raise ValueError(f"{path}: {arm.name}: {arm.config} does not exist")
    return plan


def compare(plan: Plan, source: Path, out: Path, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run what is missing; write ``table.csv``, ``table.md`` and ``scores.png``; return a row for each arm.

    Args:
        plan: of `read_plan`.
        source: the data: what ``--data`` of `codomain train` is, of the signals themselves.
        out: folder of the comparison, new or to go on with.
        overrides: further settings of every run, ``--trainer.max_epochs=20 ...``.

    Raises:
        ValueError: for data that cannot be read, runs of other settings in ``out``, a run that fails.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: expected a folder, the data")
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{out} lies in {source}, the data: choose another --out")
    if source.resolve().is_relative_to((out / "data").resolve()):
        raise ValueError(f"{source}, the data, lies where {out} keeps files: choose another --out")
    own = [[*(word.replace("{data}", str(source.resolve())) for word in arm.settings), *overrides] for arm in plan.arms]
    for arm, words in zip(plan.arms, own, strict=True):
        _parse(arm, source, words)
    _claim(out, source)
    folders = [prepare(source, out / "data", arm.model, plan.jpeg) for arm in plan.arms]
    inputs = [measure_input(*given, plan.jpeg or JPEG) for given in zip(plan.arms, folders, own, strict=True)]
    runs: list[list[dict[str, Any]]] = [[] for _ in plan.arms]
    rows: list[dict[str, Any]] = []
    with progress(len(plan.seeds) * len(plan.arms), plan.title) as bar:
        for seed in plan.seeds:
            for i, arm in enumerate(plan.arms):
                bar.begin(f"{arm.name}, seed {seed}")
                runs[i].append(_run(arm, seed, folders[i], out / "runs", own[i]))
                bar.finish()
            rows = [_row(arm, runs[i], plan) | inputs[i] for i, arm in enumerate(plan.arms)]
            _write(out, plan, [{key: row.get(key) for key in COLUMNS} for row in rows])
    return rows


def _claim(out: Path, source: Path) -> None:
    """Keep in ``out`` what the data are: names and sizes of the files.

    Raises:
        ValueError: if it is of others.
    """
    found = hashlib.sha256()
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(source).as_posix()} {path.stat().st_size}\n".encode())
    kept, digest = out / "data.sha256", found.hexdigest()
    if not kept.exists():
        files.write(kept, f"{digest}\n".encode(), False)
    elif kept.read_text().strip() != digest:
        raise ValueError(
            f"{out} compares other data than {source} holds now: choose another --out, or remove {kept.name}, data and "
            "runs from it"
        )


def prepare(source: Path, out: Path, model: str | None, jpeg: int | None = 90) -> Path:
    """Return the folder of the data's files of a model, or of pictures as JPEG; those that lie there are kept.

    Raises:
        ValueError: without signals of the model's kind.
    """
    if model is None and jpeg is None:
        return source
    codec = load(model) if model else None
    kind = "image" if codec is None else codec.kind
    if kind not in SUFFIXES:
        raise ValueError(f"{model} codes {kind}; pictures and sound can be compared")
    folder = out / (model or f"jpeg-{jpeg}")
    pairs = files.jobs(source, folder, SUFFIXES[kind], ".cdm" if model else ".jpg")
    lacking = [(a, b) for a, b in pairs if not b.exists()]
    with progress(len(lacking), str(folder.name), shown=bool(lacking)) as bar:
        for path, target in lacking:
            bar.begin(target.name)
            files.write(target, _coded(path, codec, jpeg), False)
            bar.finish()
    return folder


def _coded(path: Path, codec: Codec | None, jpeg: int | None) -> bytes:
    try:
        if codec is None:
            return to_jpeg(read_picture(path.read_bytes()), jpeg or JPEG)
        if codec.kind == "image":
            return files.encode_picture(path.read_bytes(), codec)[0]
        return files.encode_sound(path, codec)[0]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _run(arm: Arm, seed: int, data: Path, runs: Path, words: Sequence[str]) -> dict[str, Any]:
    """Return what a run gave: of ``result.json``, or by training."""
    folder = runs / f"{arm.name.replace(' ', '-')}-{seed}"
    kept = folder / "result.json"
    settings = {"config": arm.config.read_text(), "overrides": list(words), "data": str(data.resolve())}
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        if found.get("settings") != settings:
            raise ValueError(f"{folder} is a run of other settings or data: choose another --out")
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "codomain.codecs.cli", "train", "--config", str(arm.config), "--data", str(data),
             "--run", str(folder), *words, f"--seed_everything={seed}"], stdout=log, stderr=log,
        )  # fmt: skip
        try:
            peak = _peak_of(process)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        lines = (folder / "log.txt").read_text().strip().splitlines() or ["no word of why"]
        raise ValueError(f"{folder}: training failed: {lines[-1]}")
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    epochs = [float(row["train/epoch_s"]) for row in rows if row.get("train/epoch_s")]
    found = {
        "scores": {key: float(row[key]) for row in rows for key in row if key.startswith("val/") and row[key]},
        "epoch_s": median(epochs) if epochs else None,
        "minutes": (time.perf_counter() - began) / 60,
        "peak_mib": peak,
        "settings": settings,
    }
    files.write(kept, json.dumps(found).encode(), False)
    return found


def _peak_of(process: subprocess.Popen[bytes]) -> float | None:
    """Wait for a process; return the most memory that it held, MiB, where /proc tells: what the system says of an ended
    process may be of the one that started it.
    """
    status, peak = Path(f"/proc/{process.pid}/status"), None
    while process.poll() is None:
        with suppress(OSError):
            found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak = float(found[0]) / 1024 if found else peak
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK)
    return peak


def _score(run: dict[str, Any], arm: Arm, metric: str) -> float:
    if metric not in run["scores"]:
        raise ValueError(f"{arm.name}: a run has no {metric}; it has {', '.join(run['scores']) or 'no scores'}")
    return float(run["scores"][metric])


def _row(arm: Arm, runs: Sequence[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    scores = [plan.factor * _score(run, arm, plan.metric) for run in runs]
    epochs = [run["epoch_s"] for run in runs if run["epoch_s"] is not None]
    peaks = [run["peak_mib"] for run in runs if run["peak_mib"] is not None]
    return {
        "arm": arm.name,
        "score": round(mean(scores), 2),
        "spread": round(stdev(scores), 2) if len(scores) > 1 else None,
        "seeds": len(scores),
        "epoch_s": round(median(epochs), 2) if epochs else None,
        "minutes": round(median(run["minutes"] for run in runs), 1),
        "peak_mib": round(max(peaks)) if peaks else None,
    }


def measure_input(arm: Arm, folder: Path, words: Sequence[str], jpeg: int = JPEG) -> dict[str, Any]:
    """Return what an arm reads; the speed is of one process, from files to signals without augmentation.

    Raises:
        ValueError: for data that is not of a task's.
    """
    parser, parsed = _parse(arm, folder, words)
    data, patch = parser.instantiate_classes(parsed).data, parsed.model.init_args.patch
    if not hasattr(data, "stored"):
        raise ValueError(f"{arm.config}: {type(data).__name__} is no data of a task that can be compared")
    stored = data.stored(jpeg)
    row = {
        "n_bytes": round(stored.n_bytes),
        "values": prod(stored.shape),
        "tokens": prod(-(-n // patch) for n in stored.shape[1:]),
    }
    if isinstance(data, Labelled):
        data.read(data.train_items[0].read())  # what is compiled or loaded once
        began, read = time.perf_counter(), 0
        for batch in data.train_dataloader():
            data.to_signal(batch.x, batch.quality)
            read += len(batch.x)
        row["input_s"] = round(read / (time.perf_counter() - began), 1)
    return row


def _parse(arm: Arm, folder: Path, words: Sequence[str]) -> tuple[ArgumentParser, Any]:
    """Return what makes data and task of an arm, and its settings.

    Raises:
        ValueError: for settings that they do not have.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    parser.add_subclass_arguments(LightningModule, "model")
    try:
        settings = yaml.safe_load(arm.config.read_text())
        parts = {part: {"init_args": {}} | settings[part] for part in ("data", "model")}
        for word in words:
            name, equals, value = word.removeprefix("--").partition("=")
            part, _, key = name.partition(".")
            if part in parts:
                if not equals:
                    raise ValueError(f"expected settings such as --{part}.name=3; found {word}")
                parts[part]["init_args"][key] = yaml.safe_load(value)
        parts["data"]["init_args"] |= {"root": str(folder), "workers": 0}
        return parser, parser.parse_object(parts)
    except KeyError as error:
        raise ValueError(f"{arm.config}: no {error.args[0]}: expected the config of a task") from None
    except (TypeError, AttributeError, yaml.YAMLError, ArgumentError) as error:
        raise ValueError(f"{arm.config}: {' '.join(str(error).split())}") from None


def _write(out: Path, plan: Plan, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    shown = [key for key in COLUMNS if any(row[key] is not None for row in rows)]
    lines = [[COLUMNS[key] or plan.unit for key in shown], ["---"] * len(shown)]
    lines += [["" if row[key] is None else str(row[key]) for key in shown] for row in rows]
    page = f"# {plan.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    files.write(out / "table.csv", text.getvalue().encode(), True)
    files.write(out / "table.md", page.encode(), True)
    files.write(out / "scores.png", _plot(plan, rows), True)


def _plot(plan: Plan, rows: list[dict[str, Any]]) -> bytes:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.6), layout="constrained")
    for colour, row in zip(COLOURS * len(rows), rows, strict=False):
        spread = row["spread"] or 0
        axes.errorbar(row["n_bytes"], row["score"], spread, fmt="o", capsize=4, color=colour, label=row["arm"])
    axes.set(xscale="log", xlabel="bytes of a signal, whole files", ylabel=plan.unit, title=plan.title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()
