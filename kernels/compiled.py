"""Compiled: numba's compiler as every CPU kernel uses it."""

from __future__ import annotations

from collections.abc import Callable
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
