"""A map over processes that keeps the order and takes items from its source only when a process is free for them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

FEWEST_PER_PROCESS = 32
"""Smallest number of items for which starting a process is worthwhile."""
CHUNK = 8
"""Number of items that are sent to a process together."""
AHEAD = 4
"""Number of chunks per process that are in progress or wait for the caller."""

ParallelMap = Callable[..., Iterator[Any]]


def usable_cores() -> int:
    """Return the number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def parallel_map(
    workers: int | None, total: int, *, fewest: int = FEWEST_PER_PROCESS, chunk: int = CHUNK
) -> Iterator[ParallelMap]:
    """Provide a `map` over `total` items that keeps the order and runs in `workers` processes, or in this process.

    workers: largest number of processes; None means one per usable core. fewest: smallest number of items per process;
    below two processes everything runs in this process. chunk: number of items that are sent to a process together.
    """
    count = min(workers or usable_cores(), total // fewest)
    if count < 2:
        yield map
        return
    # Not fork: the caller may run threads (torch), which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of a terminal, but only this process handles it.
    executor = ProcessPoolExecutor(
        count, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield partial(_map, executor, AHEAD * count, chunk)
    finally:
        executor.shutdown(cancel_futures=True)


def _map(
    executor: ProcessPoolExecutor, ahead: int, chunk: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """Map in chunks of items, of which at most `ahead` are submitted at a time."""
    source = iter(items)
    chunks = iter(lambda: list(itertools.islice(source, chunk)), [])
    waiting: deque[Future[list[Any]]] = deque()
    for part in chunks:
        waiting.append(executor.submit(_each, function, part))
        if len(waiting) >= ahead:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _each(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """Return the results of `function` for the items of one chunk."""
    return [function(item) for item in items]
