from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from codomain.kernels.compiled import even_cuts, run_threads


def test_kernels_run_where_nothing_can_be_cached(tmp_path: Path) -> None:
    """A user without a home, and a package that belongs to another."""
    script = (
        "import numba.core.caching as c; c._CacheLocator.ensure_cache_path = "
        "lambda self: (_ for _ in ()).throw(OSError());"
        "import torch; from codomain.kernels.wpt import wpt; print(wpt(torch.ones(1, 1, 8, 8), 1).shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "torch.Size([1, 4, 4, 4])\n", done.stderr


def count(seen: np.ndarray, first: int, last: int) -> None:
    seen[first:last] += 1


def test_every_part_runs_once() -> None:
    for parts in (1, 2, 3, 7):
        seen = np.zeros(23, np.int64)
        run_threads(partial(count, seen), even_cuts(23, parts))
        assert (seen == 1).all()


def test_what_a_thread_raises_is_not_lost() -> None:
    def fail_beyond(first: int, last: int) -> None:
        if first > 0:
            raise MemoryError("rows beyond the first")

    with pytest.raises(MemoryError, match="rows beyond the first"):
        run_threads(fail_beyond, [0, 3, 6, 9])
