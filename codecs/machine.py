"""Machine: what a call takes of this machine, and the least time in which this machine could do its work.

    floor = max(time of a copy that moves as many bytes, operations / rate of a matrix product)

Both are measured here, on the device that the call runs on, so that a share of the floor compares like with like:
a copy whose bytes fit a cache is as fast as that cache.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

REPEATS = 20  # of which the fastest counts: a floor is what the machine can do when nothing disturbs it
MATMUL = {"cpu": (torch.float32, 1024), "cuda": (torch.float16, 8192)}  # what of, and the side of both matrices


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """Return how long one call takes, work that it leaves to a GPU included."""
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_mib(run: Callable[[], Any], device: str) -> float | None:
    """Return the most memory, MiB, that a call takes at once, its result included; None where nothing tells.

    The first call of a function also takes what it keeps: call it before.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    resets = Path("/proc/self/clear_refs")
    if not resets.exists():
        return None

    def status(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(key))) / 2**10

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before counts again
    resets.write_text("5")  # the peak begins anew
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def floor_seconds(moved: float, flop: float, device: str) -> float:
    """Return the least time for work that reads and writes ``moved`` bytes and does ``flop`` operations."""
    return max(copy_seconds(max(2, int(moved)), device), flop / matmul_rate(device))


@cache
def copy_seconds(moved: int, device: str) -> float:
    """Return how long a copy takes that reads and writes ``moved`` bytes in all."""
    source = torch.ones(moved // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _least(lambda: target.copy_(source), device)


@cache
def matmul_rate(device: str) -> float:
    """Return operations per second, two for a multiply-add, of a matrix product: float32, on a GPU float16."""
    dtype, n = MATMUL[device]
    a = torch.ones(n, n, dtype=dtype, device=device)
    return 2 * n**3 / _least(lambda: a @ a, device)


def _least(run: Callable[[], Any], device: str) -> float:
    return min(seconds_of(run, device) for _ in range(REPEATS))
