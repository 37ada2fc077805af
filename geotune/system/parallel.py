"""A map over processes that keeps the order and holds little: what comes next is taken when there is room for it."""

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
CHUNK = 8
AHEAD = 4
"""Chunks per process that are under way or wait for the caller."""

ParallelMap = Callable[..., Iterator[Any]]


def usable_cores() -> int:
    """Cores that this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def parallel_map(
    workers: int | None, total: int, *, fewest: int = FEWEST_PER_PROCESS, chunk: int = CHUNK
) -> Iterator[ParallelMap]:
    """A parallel `map` over `total` items that keeps the order; in this process when that is all it takes.

    fewest: items that make another process worth its start. chunk: items that travel together.
    """
    count = min(workers or usable_cores(), total // fewest)
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
        yield partial(_map, executor, AHEAD * count, chunk)
    finally:
        executor.shutdown(cancel_futures=True)


def _map(
    executor: ProcessPoolExecutor, ahead: int, chunk: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """`map` in chunks of items, at most `ahead` of them at a time."""
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
    return [function(item) for item in items]
