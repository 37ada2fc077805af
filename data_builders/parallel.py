"""Long work of builders: a map over processes that keeps the order, and a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

FEWEST_PER_PROCESS = 32
CHUNK = 8

ParallelMap = Callable[..., Iterator[Any]]


def usable_cores() -> int:
    """Cores that this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def parallel_map(workers: int | None, total: int) -> Iterator[ParallelMap]:
    """A parallel `map` over `total` items that keeps the order; in this process when that is all it takes."""
    count = min(workers or usable_cores(), total // FEWEST_PER_PROCESS)
    if count < 2:
        yield map
        return
    # Not forked: the caller may hold threads (torch), which a fork does not survive.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of a terminal: this one alone answers.
    executor = ProcessPoolExecutor(
        count, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield partial(executor.map, chunksize=CHUNK)
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, nothing elsewhere; yields what to call after each step."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield partial(progress.advance, task)
