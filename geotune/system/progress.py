"""How far long work has come: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger(__name__)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Shows progress and the time left; yields what to call with the number of steps just done, 1 unless it is given.

    Where nobody watches (no terminal), work of more than half a minute leaves a line every half minute.
    """
    if not sys.stderr.isatty():
        yield _Lines(title, total).advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps=1: progress.advance(task, steps)


class _Lines:
    """Progress as lines of the log."""

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.started = self.told = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.told < SECONDS_BETWEEN_LINES:
            return
        self.told = now
        rate = self.done / (now - self.started)
        left = duration((self.total - self.done) / rate)
        log.info("%s: %s of %s, %.1f/s, %s left", self.title, f"{self.done:,}", f"{self.total:,}", rate, left)


def duration(seconds: float) -> str:
    """A number of seconds as people say it: 40 s, 3 min, 2 h 05 min."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
