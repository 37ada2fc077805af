"""The progress of a run: its counts, and its clock."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import pytest

from geotune.runs.progress import RunProgress


def test_updates_are_counted_and_skipped_ones_told_apart() -> None:
    progress = RunProgress(Path("run"), 6, step=2, skipped=1)
    assert math.isnan(progress.lr)
    skipped = []
    for norm in (1.0, math.inf, math.nan, 2.0, None):
        progress.count_update(lr=0.5, grad_norm=norm)
        skipped.append((progress.step, progress.skipped, progress.skipped_in_a_row, progress.is_complete))
    assert skipped == [
        (3, 1, 0, False),
        (4, 2, 1, False),
        (5, 3, 2, False),
        (6, 3, 0, True),
        (7, 3, 0, True),
    ]
    assert progress.lr == 0.5
    assert math.isnan(progress.grad_norm), "a strategy that tells no norm"


def test_unreadable_samples_are_kept_once() -> None:
    before = {"a": "too large"}
    progress = RunProgress(Path("run"), 6, unreadable=before)
    progress.note_unreadable({"b": "cut short"})
    progress.note_unreadable({"b": "missing"})
    assert progress.unreadable == {"a": "too large", "b": "missing"}
    assert before == {"a": "too large"}


def test_the_clock_stands_still_in_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = RunProgress(Path("run"), 6)
    began = progress.working_time()
    now[0] += 3
    with progress.pause():
        now[0] += 50
    with contextlib.suppress(OSError), progress.pause():
        now[0] += 7
        raise OSError("full disk")
    now[0] += 2
    assert progress.working_time() - began == 5
