"""Progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0
"""Time between log lines."""

log = logging.getLogger(__name__)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Show the progress of `total` steps and the time left. Yields a function to call with the steps just done (1).

    Without a terminal it writes a log line every half minute.
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
    """Progress as log lines."""

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.started = self.logged = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Count the steps just done, and write a line if the last one is old enough."""
        self.done += steps
        now = time.monotonic()
        if now - self.logged < SECONDS_BETWEEN_LINES:
            return
        self.logged = now
        rate = self.done / (now - self.started)
        left = duration((self.total - self.done) / rate)
        log.info("%s: %s of %s, %.1f/s, %s left", self.title, f"{self.done:,}", f"{self.total:,}", rate, left)


def duration(seconds: float) -> str:
    """Format a number of seconds as 40 s, 3 min or 2 h 05 min."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
