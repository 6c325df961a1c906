"""Compare: the same network on latents and on pixels of the same pictures, some seeds each, from files of each kind.

    pictures --> OUT/data/MODEL/*.cdm, OUT/data/jpeg/*.jpg --> OUT/runs/ARM-SEED --> table.csv, table.md, accuracy.png

Every run is `codomain train` in a fresh process. A comparison that was interrupted goes on: finished runs are kept, the
others are done again. Accuracy is that of the last epoch, so nothing is chosen on the validation files.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
import yaml
from codomain.codecs import files
from codomain.codecs.load import load
from codomain.codecs.plots import COLOURS
from codomain.codecs.progress import progress
from codomain.tasks.labelled import Labelled, spaced
from codomain.tasks.photographs import SUFFIXES
from codomain.tasks.pixels import Pixels, read_picture
from PIL import Image

COLUMNS = {
    "arm": "input", "accuracy": "accuracy %", "spread": "+-", "seeds": "seeds", "n_bytes": "bytes a picture",
    "values": "values", "tokens": "tokens", "epoch_s": "s an epoch", "input_s": "pictures/s read",
    "peak_mib": "peak MiB",
}  # fmt: skip
SIZED = 64  # pictures that the bytes of shrunk ones are measured on


@dataclass(frozen=True)
class Arm:
    """An input: a config of `codomain train`, and the model whose files it reads; without one, JPEG."""

    name: str
    config: Path
    model: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is compared: arms times seeds; JPEG's quality for the baselines."""

    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    jpeg: int = 90


def read_plan(path: Path) -> Plan:
    """Return the plan in a YAML file; configs are found from where it lies.

    Raises:
        ValueError: if it is none.
    """
    settings = yaml.safe_load(path.read_text())
    try:
        arms = [Arm(a["name"], path.parent / a["config"], a.get("model")) for a in settings.pop("arms")]
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        plan = Plan(arms=tuple(arms), **options)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no plan of a comparison: {error}") from None
    for arm in plan.arms:
        if not arm.config.is_file():
            raise ValueError(f"{path}: {arm.name}: {arm.config} does not exist")
    return plan


def compare(plan: Plan, pictures: Path, out: Path, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run what is missing; write ``table.csv``, ``table.md`` and ``accuracy.png``; return a row for each arm.

    Args:
        plan: of `read_plan`.
        pictures: a folder with a folder for each class.
        out: folder of the comparison, new or to go on with.
        overrides: further settings of every run, ``--trainer.max_epochs=20 ...``.

    Raises:
        ValueError: for pictures that cannot be read, runs of other settings in ``out``, a run that fails.
    """
    rows = []
    for arm in plan.arms:
        folder = prepare(pictures, out / "data", arm.model, plan.jpeg)
        runs = []
        with progress(len(plan.seeds), shown=True) as bar:
            for seed in plan.seeds:
                bar.begin(f"{arm.name}, seed {seed}")
                runs.append(_run(arm, seed, folder, out / "runs", overrides))
                bar.finish()
        accuracies = [100 * run["accuracy"] for run in runs]
        rows.append(
            {
                "arm": arm.name,
                "accuracy": round(mean(accuracies), 2),
                "spread": round(stdev(accuracies), 2) if len(runs) > 1 else None,
                "seeds": len(runs),
                **_input(arm, folder, plan.jpeg, overrides),
                "epoch_s": round(median(run["epoch_s"] for run in runs), 2),
                "peak_mib": round(max(run["peak_mib"] for run in runs)),
            }
        )
        _write(out, plan.title, [{key: row[key] for key in COLUMNS} for row in rows])
    return rows


def prepare(pictures: Path, out: Path, model: str | None, jpeg: int = 90) -> Path:
    """Return the folder of the pictures' files of a model, or as JPEG; those that lie there are kept.

    Raises:
        ValueError: without pictures.
    """
    sources = sorted(p for p in pictures.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not sources:
        raise ValueError(f"{pictures}: found no pictures ({' '.join(sorted(SUFFIXES))})")
    folder, codec = out / (model or f"jpeg-{jpeg}"), load(model) if model else None
    pairs = [(s, (folder / s.relative_to(pictures)).with_suffix(".cdm" if model else ".jpg")) for s in sources]
    lacking = [(source, target) for source, target in pairs if not target.exists()]
    with progress(len(lacking), shown=bool(lacking)) as bar:
        for source, target in lacking:
            bar.begin(target.name)
            data = source.read_bytes()
            coded = files.encode_picture(data, codec)[0] if codec else _jpeg(read_picture(data), jpeg)
            files.write(target, coded, False)
            bar.finish()
    return folder


def _jpeg(picture: torch.Tensor, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _run(arm: Arm, seed: int, data: Path, runs: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return what a run gave: of ``result.json``, or by training."""
    folder = runs / f"{arm.name.replace(' ', '-')}-{seed}"
    kept, settings = folder / "result.json", {"config": arm.config.read_text(), "overrides": list(overrides)}
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        if found["settings"] != settings:
            raise ValueError(f"{folder} is a run of other settings: choose another --out")
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = ["train", "--config", str(arm.config), "--data", str(data), "--run", str(folder), *overrides]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "codomain.codecs.cli", *words, f"--seed_everything={seed}"], stdout=log, stderr=log
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = (folder / "log.txt").read_text().strip().splitlines() or ["no word of why"]
        raise ValueError(f"{folder}: training failed: {lines[-1]}")
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    found = {
        "accuracy": [float(row["val/accuracy"]) for row in rows if row.get("val/accuracy")][-1],
        "epoch_s": median(float(row["train/epoch_s"]) for row in rows if row.get("train/epoch_s")),
        "peak_mib": usage.ru_maxrss / 1024,
        "settings": settings,
    }
    files.write(kept, json.dumps(found).encode(), False)
    return found


def _input(arm: Arm, folder: Path, jpeg: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure what an arm reads; the speed is of one process, from files to signals without augmentation."""
    settings = yaml.safe_load(arm.config.read_text())
    given = dict(word.removeprefix("--data.").split("=", 1) for word in overrides if word.startswith("--data."))
    arguments = settings["data"].get("init_args", {}) | {k: yaml.safe_load(v) for k, v in given.items()}
    module, _, name = settings["data"]["class_path"].rpartition(".")
    data = getattr(__import__(module, fromlist=[name]), name)(folder, **arguments | {"cache": False, "workers": 0})
    assert isinstance(data, Labelled)
    items = [*data.train_items, *data.val_items]
    sizes = [item.size for item in items]
    if isinstance(data, Pixels) and data.shrink > 1:  # as files of their own
        sizes = [len(_jpeg(read_picture(item.read(), data.shrink), jpeg)) for item in spaced(items, SIZED)]
    patch = settings["model"]["init_args"]["patch"]
    values, tokens = data.channels, 1
    for n in data.whole:
        values, tokens = values * n, tokens * -(-n // patch)
    data.read(items[0].read())  # what is compiled or loaded once
    began, read = time.perf_counter(), 0
    for batch in data.train_dataloader():
        data.to_signal(batch.x, batch.quality)
        read += len(batch.x)
    speed = read / (time.perf_counter() - began)
    return {"n_bytes": round(mean(sizes)), "values": values, "tokens": tokens, "input_s": round(speed, 1)}


def _write(out: Path, title: str, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    lines = [COLUMNS.values(), ["---"] * len(COLUMNS), *([row[key] for key in COLUMNS] for row in rows)]
    page = f"# {title}\n\n" + "".join(
        f"| {' | '.join('' if v is None else str(v) for v in line)} |\n" for line in lines
    )
    files.write(out / "table.csv", text.getvalue().encode(), True)
    files.write(out / "table.md", page.encode(), True)
    files.write(out / "accuracy.png", _plot(title, rows), True)


def _plot(title: str, rows: list[dict[str, Any]]) -> bytes:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.6), layout="constrained")
    for colour, row in zip(COLOURS * len(rows), rows, strict=False):
        spread = row["spread"] or 0
        axes.errorbar(row["n_bytes"], row["accuracy"], spread, fmt="o", capsize=4, color=colour, label=row["arm"])
    axes.set(xscale="log", xlabel="bytes a picture, whole files", ylabel="validation accuracy, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()
