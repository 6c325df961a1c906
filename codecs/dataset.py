"""Dataset: encode a data set shard by shard, by the processes of this machine or by a cluster.

A shard is the unit of work: nobody waits for another, who dies loses the shard at hand, and who starts again skips what
is complete. Whichever engine runs it, `work` does one shard.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, NamedTuple

from codomain.codecs.load import load
from codomain.codecs.progress import progress
from codomain.codecs.shard_plan import Plan, Shard, Source, make_plan
from codomain.codecs.shards import Recipe, Row, claim, complete, reason, remove_partials, write_shard

MAX_BLOCKS = 10_000  # of shards that Ray hands out; its own default is for blocks of many rows
_shared: list[Any] = []  # in a process that works: the counter of samples, and the event that ends it


class Settings(NamedTuple):
    """What part of a data set is encoded, and by whom.

    Attributes:
        part: (i, n) for the shards i, i + n, i + 2n ... alone.
        jobs: processes at a time; None for one per core, of this machine or of the cluster.
        engine: "processes" of this machine, or "ray".
        force: replace another data set.
    """

    part: tuple[int, int] = (0, 1)
    jobs: int | None = None
    engine: str = "processes"
    force: bool = False


class Outcome(NamedTuple):
    """What came of it: of each shard its sidecar, or ``shard`` and ``error``; the first ones were complete before."""

    plan: Plan
    rows: list[Row]
    n_before: int


def encode_dataset(
    recipe: Recipe, n_bytes: int, settings: Settings, report: Callable[[Row], None] = lambda row: None
) -> Outcome:
    """Encode a folder to shards; what is complete is not done again.

    Args:
        recipe: from where to where, and how.
        n_bytes: of the input that a shard holds.
        settings: what of it, and by whom.
        report: called with each row as it comes.

    Raises:
        ValueError: for input that is no data set, output that is another one, or settings that there are not.
    """
    codec, source, out = load(recipe.model), recipe.folder, recipe.out
    codec.quality_index(recipe.quality)
    if codec.kind == "video":
        raise ValueError(f"{recipe.model} codes video, one film at a time: expected a model of images or of sound")
    if not source.is_dir():
        raise ValueError(f"{source}: expected a folder of files, or of tar shards")
    if out.is_relative_to(source):
        raise ValueError(f"{out} lies in {source}: expected a folder outside of the data set")
    if settings.jobs is not None and settings.jobs < 1:
        raise ValueError(f"expected at least 1 job; found {settings.jobs}")
    plan = make_plan(source, codec.kind, n_bytes)
    claim(plan, recipe, settings.force)
    first, step = settings.part
    mine = plan.shards[first::step]
    remove_partials(out, mine)
    found = {shard: row for shard in mine if (row := complete(shard, recipe)) is not None}
    rows = list(found.values())
    for row in rows:
        report(row)
    todo = [shard for shard in mine if shard not in found]
    engine = {"processes": _by_processes, "ray": _by_ray}[settings.engine]
    with progress(len(mine), f"codomain: {out.name}", logged=True) as bar:
        bar.items = len(rows)
        with closing(
            engine(todo, recipe, settings.jobs, lambda n: bar.pass_through(float(n), f"{codec.kind}s"))
        ) as made:
            for row in made:
                rows.append(row)
                report(row)
                bar.finish(row["shard"])
    return Outcome(plan, rows, len(found))


def run(recipe: Recipe, n_bytes: int, settings: Settings, as_json: bool) -> int:
    """Encode a data set and say what came of it; return 1 if something is lacking.

    Args and Raises are those of `encode_dataset`; ``as_json`` prints a row for each shard in place of one line.
    """

    def report(row: Row) -> None:
        shard = [(f"shard {row['shard']}", row["error"])] if "error" in row else []
        for name, why in [*row.get("failures", []), *shard]:
            print(f"codomain: {name}: {why}", file=sys.stderr)
        if as_json:
            print(json.dumps(row), flush=True)

    began = time.perf_counter()
    plan, rows, n_before = encode_dataset(recipe, n_bytes, settings, report)
    seconds = time.perf_counter() - began
    made = [row for row in rows if "error" not in row]
    n_samples, n_failed = sum(row["samples"] for row in made), sum(len(row["failures"]) for row in made)
    if not as_json:
        n_new = sum(row.get("samples", 0) for row in rows[n_before:])
        n_in, n_out = (sum(row[key] for row in made) / 1e6 for key in ("bytes_in", "bytes_out"))
        print(
            f"{recipe.out}: {len(made)} of {len(plan.shards)} shards, {n_samples} samples, {n_in:.1f} MB -> "
            f"{n_out:.1f} MB; {n_new} samples in {seconds:.1f} s"
        )
    if plan.unlabelled:
        print(f"codomain: {plan.unlabelled} files lie in no class folder and have no label", file=sys.stderr)
    if n_failed:
        print(f"codomain: {n_failed} of {n_samples + n_failed} samples failed", file=sys.stderr)
    if len(made) < len(rows):
        print(f"codomain: {len(rows) - len(made)} of {len(rows)} shards failed", file=sys.stderr)
    return 1 if n_failed or len(made) < len(rows) else 0


def work(shard: Shard, recipe: Recipe, advance: Callable[[], None] = lambda: None) -> Row:
    """Encode a shard, unless it is complete; return its sidecar, or the shard's name and the error."""
    try:
        return complete(shard, recipe) or write_shard(shard, recipe, advance)
    except (ValueError, OSError) as error:
        return {"shard": shard.name, "error": reason(error)}


def _by_processes(
    shards: Sequence[Shard], recipe: Recipe, jobs: int | None, advance: Callable[[int], None]
) -> Generator[Row, None, None]:
    """Run shards in processes of this machine, each on one thread."""
    if not shards:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = min(jobs or cores, len(shards))
    context = get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    todo, counted = iter(shards), 0
    with ProcessPoolExecutor(jobs, context, initializer=_enter, initargs=(counter, stop)) as pool:
        waiting: set[Future[Row]] = set()
        try:
            while waiting := waiting | {pool.submit(_work, s, recipe) for s in islice(todo, 2 * jobs - len(waiting))}:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                n = counter.value
                advance(n - counted)
                counted = n
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise ValueError("a process was killed; is there too little memory? The same command goes on") from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _enter(*shared: Any) -> None:
    """Set a process up to work: on one thread, until it is told to stop or the one that started it has gone."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which says how to end
    _shared[:] = shared
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(shard: Shard, recipe: Recipe) -> Row:
    counter, stop = _shared

    def advance() -> None:
        with counter.get_lock():
            counter.value += 1
        if stop.is_set():
            raise ValueError("interrupted")

    return work(shard, recipe, advance)


def _by_ray(
    shards: Sequence[Shard], recipe: Recipe, jobs: int | None, advance: Callable[[int], None]
) -> Generator[Row, None, None]:
    """Run shards on the Ray cluster that there is, or else on one of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(f"--engine ray needs Ray, pip install 'codomain[scale]': {error}") from None
    if not shards:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the bar is ours
    ray.data.DataContext.get_current().enable_progress_bars = False
    jobs = max(1, min(jobs or int(ray.cluster_resources().get("CPU", 1)), len(shards)))
    items = [{"shard": json.dumps([shard.name, shard.sources])} for shard in shards]
    made = ray.data.from_items(items, override_num_blocks=min(len(shards), MAX_BLOCKS)).map(
        _Worker, fn_constructor_args=(recipe,), num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, initial_size=jobs, max_size=jobs),
    )  # fmt: skip
    names = {shard.name: shard for shard in shards}
    for item in made.iter_rows():
        row: Row = json.loads(item["row"])
        if "error" not in row and complete(names[row["shard"]], recipe) is None:
            row = {"shard": row["shard"], "error": f"a node wrote it, and it is not here: is {recipe.out} shared?"}
        advance(row.get("samples", 0))
        yield row


class _Worker:
    """What Ray starts on each core."""

    def __init__(self, recipe: Recipe) -> None:
        import torch

        torch.set_num_threads(1)
        self.recipe = recipe

    def __call__(self, item: dict[str, str]) -> dict[str, str]:
        name, sources = json.loads(item["shard"])
        shard = Shard(name, tuple(Source(*source) for source in sources))
        return {"row": json.dumps(work(shard, self.recipe))}
