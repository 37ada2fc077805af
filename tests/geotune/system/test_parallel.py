"""A map over processes: order, errors, one process where that is enough, and its source taken as it goes."""

from __future__ import annotations

import itertools
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
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


def slow(folder: Path, item: int) -> int:
    (folder / str(item)).touch()
    time.sleep(0.1)
    return item


def slow_until(ask: threading.Timer, folder: Path) -> partial[int]:
    ask.start()
    return partial(slow, folder)


def test_work_that_nobody_wants_any_more_ends_with_the_item(tmp_path: Path) -> None:
    ask = threading.Timer(1.0, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), parallel_map(2, 1200, chunk=300) as run:
        next(run(slow_until(ask, tmp_path), range(1200)))
    assert len(list(tmp_path.iterdir())) < 300, "no chunk was finished"


PARENT = """
import os, sys, time
from geotune.system.parallel import parallel_map
if __name__ == "__main__":
    with parallel_map(2, 10_000, chunk=1) as run:
        for _ in run(abs, range(100)):
            pass
        print(*(p.pid for p in __import__("multiprocessing").active_children()), flush=True)
        os.kill(os.getpid(), 9)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    done = subprocess.run([sys.executable, tmp_path / "parent.py"], capture_output=True, check=False, timeout=120)
    pids = [int(pid) for pid in done.stdout.split()]
    assert (done.returncode, len(pids)) == (-signal.SIGKILL, 2), done.stderr
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
