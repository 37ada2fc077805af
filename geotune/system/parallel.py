"""A map over processes that keeps the order and takes items from its source only when a process is free for them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
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
    stop = context.Event()
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(stop,))
    try:
        yield partial(_map, executor, AHEAD * count, chunk)
    except BaseException:
        stop.set()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


_stop: Event | None = None
"""In a worker process: set once the results are no longer wanted."""


def _begin(stop: Event) -> None:
    """Prepare a worker process, which leaves signals to its parent and ends with it, even if that is killed."""
    global _stop
    _stop = stop
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all its processes
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(multiprocessing.parent_process(),), daemon=True).start()


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


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
    """Return the results of `function` for the items of one chunk, or of its first ones once nobody wants them."""
    return [function(item) for item in itertools.takewhile(lambda _: _stop is None or not _stop.is_set(), items)]
