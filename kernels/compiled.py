"""Compiled: numba's compiler as every CPU kernel uses it, and the threads that kernels run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile without the interpreter's lock, and keep the result on disk where there is a place for it."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        settings = {"nogil": True, "error_model": "numpy", **options}
        try:
            done: Callable[..., Any] = njit(cache=True, **settings)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            done = njit(**settings)(function)
        return done

    return decorate


def run_threads(kernel: Callable[..., None], cuts: Sequence[int], *arguments: object) -> None:
    """Call ``kernel(first, last, *arguments)`` between each two cuts, the first here and every other in a thread.

    What one of them raises is raised here: its part of the result would hold garbage.
    """
    with ThreadPoolExecutor(max(1, len(cuts) - 2)) as pool:
        others = [pool.submit(kernel, first, last, *arguments) for first, last in pairwise(cuts[1:])]
        kernel(cuts[0], cuts[1], *arguments)
        for other in others:
            other.result()


def even_cuts(n: int, parts: int) -> list[int]:
    """Cut [0, n) into parts of about the same length."""
    return [n * i // parts for i in range(parts + 1)]
