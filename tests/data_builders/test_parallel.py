"""The parallel map of builders: order, errors, and one process where that is enough."""

from __future__ import annotations

import operator
import os
from functools import partial

import pytest

from data_builders.parallel import FEWEST_PER_PROCESS, parallel_map, progress_bar, usable_cores


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


def test_no_bar_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("work", 2) as advance:
        advance()
    assert capsys.readouterr().err == ""
    assert usable_cores() >= 1
