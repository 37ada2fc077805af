"""A map over processes: order, errors, one process where that is enough, and its source taken as it goes."""

from __future__ import annotations

import itertools
import operator
import os
from functools import partial

import pytest

from geotune.system.parallel import AHEAD, FEWEST_PER_PROCESS, parallel_map, usable_cores


def test_the_order_is_kept_whatever_the_workers() -> None:
    items = list(range(3 * FEWEST_PER_PROCESS))
    for workers in (1, 2):
        with parallel_map(workers, len(items)) as run:
            assert list(run(operator.neg, items)) == [-item for item in items]


def test_little_work_stays_in_this_process() -> None:
    with parallel_map(8, FEWEST_PER_PROCESS) as run:
        assert set(run(lambda _: os.getpid(), range(3))) == {os.getpid()}


def test_an_error_of_a_worker_reaches_the_caller() -> None:
    with parallel_map(2, 100) as run, pytest.raises(ZeroDivisionError):
        list(run(partial(operator.truediv, 1), range(100)))


def test_an_endless_source_is_taken_in_small_steps() -> None:
    taken = itertools.count()
    with parallel_map(2, 10**9, chunk=3) as run:
        results = run(operator.neg, (next(taken) for _ in itertools.repeat(None)))
        assert list(itertools.islice(results, 5)) == [0, -1, -2, -3, -4]
    assert next(taken) <= (AHEAD * 2 + 2) * 3


def test_this_machine_has_cores() -> None:
    assert usable_cores() >= 1
