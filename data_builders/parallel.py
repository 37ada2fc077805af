"""Long work of builders: a map over processes that keeps the order, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from geotune import progress
from geotune.parallel import CHUNK, FEWEST_PER_PROCESS, ParallelMap, parallel_map, usable_cores

__all__ = ["CHUNK", "FEWEST_PER_PROCESS", "ParallelMap", "parallel_map", "progress_bar", "usable_cores"]


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows progress and the time left, as `geotune.progress` does; yields what to call after each step."""
    with progress.progress_bar(title, total) as advance:
        yield lambda: advance(1)
