"""Progress: a bar with throughput and the time left, on stderr, where someone is watching; lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


class Bar:
    """How far work has come: whole items, parts of one, and what has passed through.

    Args:
        total: items.
        title: of the work.
        rich: the bar to draw on, and its task; None where nobody is watching.
        logged: whether a line is written at every tenth of long work.
    """

    def __init__(self, total: int, title: str = "", rich: tuple[Any, Any] | None = None, logged: bool = False) -> None:
        self.total, self.title, self.rich, self.logged = total, title, rich, logged
        self.began, self.items, self.share = time.perf_counter(), 0, 0.0
        self.amounts: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Say what the next item is."""
        self.share = 0.0
        self._draw(description=name)

    def pass_through(self, amount: float, unit: str, share: float = 0.0) -> None:
        """Count what has passed, and by how much of an item that brings the work on."""
        self.amounts[unit] = self.amounts.get(unit, 0.0) + amount
        self.share = min(1.0, self.share + share)
        seconds = time.perf_counter() - self.began
        self._draw(speed=", ".join(f"{n / seconds:.1f} {unit}/s" for unit, n in self.amounts.items()))

    def tell(self, share: float, text: str) -> None:
        """Say how far the item is, in words of its own."""
        self.share = share
        self._draw(speed=text)

    def count(self, blocks: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
        """Pass the blocks of an item of so many samples on, and count them."""
        for block in blocks:
            yield block
            self.pass_through(block.shape[-1] / 1e6, "Msamples", block.shape[-1] / samples)

    def tally(self, items: Iterable[T], total: int, unit: str) -> Iterator[T]:
        """Pass the parts of an item of so many on, and count them."""
        for item in items:
            yield item
            self.pass_through(1.0, unit, 1 / total)

    def finish(self, name: str = "") -> None:
        """Count an item."""
        self.items, self.share = self.items + 1, 0.0
        self._draw(**({"description": name} if name else {}))
        tenths = self.items * 10 // self.total > (self.items - 1) * 10 // self.total
        if self.rich is None and self.logged and self.total >= 50 and tenths:
            left = (time.perf_counter() - self.began) * (self.total - self.items) / self.items
            print(f"{self.title}: {self.items} of {self.total}, about {left:.0f} s left", file=sys.stderr, flush=True)

    def _draw(self, **fields: Any) -> None:
        if self.rich is not None:
            bar, task = self.rich
            bar.update(task, completed=self.items + self.share, **fields)


@contextmanager
def progress(total: int, title: str = "", shown: bool = True, logged: bool = False) -> Iterator[Bar]:
    """Give a bar for ``total`` items.

    Args:
        total: items.
        title: stands before the bar.
        shown: False where the work is too short for a bar.
        logged: write lines where nobody is watching.
    """
    if not shown or not sys.stderr.isatty():
        yield Bar(total, title, None, logged)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rich = Progress(
        TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn(),
        TextColumn("{task.description}"), console=Console(stderr=True),
    )  # fmt: skip
    with rich:
        yield Bar(total, title, (rich, rich.add_task("", total=total, speed="")))
