from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_kernels_run_where_nothing_can_be_cached(tmp_path: Path) -> None:
    """A user without a home, and a package that belongs to another."""
    script = (
        "import numba.core.caching as c; c._CacheLocator.ensure_cache_path = "
        "lambda self: (_ for _ in ()).throw(OSError());"
        "import torch; from codomain.kernels.wpt import wpt; print(wpt(torch.ones(1, 1, 8, 8), 1).shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "torch.Size([1, 4, 4, 4])\n", done.stderr
