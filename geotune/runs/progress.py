"""The progress of a training run: how far it has come, and what its last update was like."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from geotune.system.files import DiskFullError


class RunProgress:
    """How far a training run has come: one object that its stage and its callbacks share.

    The stage counts the updates (`count_update`), the monitor notes unreadable samples (`note_unreadable`), and what
    holds up training does so within `pause`. Everything else only reads. Apart from the clock, all processes of a run
    have the same values.

    Args:
        run_dir: Folder of the run.
        total: Number of updates of the whole run, which sets the learning-rate schedule.
        step: Number of updates that were attempted before this process started.
        skipped: Number of those that were skipped.
        unreadable: Reason why each sample that was unreadable in them was left out, by its id.
    """

    def __init__(
        self,
        run_dir: Path,
        total: int,
        *,
        step: int = 0,
        skipped: int = 0,
        unreadable: Mapping[str, str] | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.total = total
        self.step = step
        """Number of attempted updates; a skipped one counts."""
        self.skipped = skipped
        """Number of updates that were skipped because their gradient was not finite."""
        self.skipped_in_a_row = 0
        """Number of updates that this process has skipped since the last one that it did not skip."""
        self.unreadable = dict(unreadable or {})
        """Reason why each unreadable sample was left out, by its id."""
        self.lr = math.nan
        """Learning rate of the last update."""
        self.grad_norm = math.nan
        """Global norm of the last update's gradient before clipping."""
        self.problem: DiskFullError | None = None
        """Why this process could not write a file of the run; all processes end together at the end of the update."""
        self._paused = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all updates of the run were attempted."""
        return self.step >= self.total

    def count_update(self, *, lr: float, grad_norm: float | None) -> None:
        """Count an attempted update; it was skipped if its gradient norm is not finite.

        `grad_norm` is None if the update was applied by a strategy that does not tell the norm.
        """
        self.step += 1
        self.lr = lr
        self.grad_norm = math.nan if grad_norm is None else grad_norm
        if grad_norm is None or math.isfinite(grad_norm):
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1

    def note_unreadable(self, samples: Mapping[str, str]) -> None:
        """Add samples that were left out, as reasons by id."""
        self.unreadable.update(samples)

    @contextmanager
    def noting_a_full_disk(self) -> Iterator[None]:
        """Note that the block found the disk full, instead of raising: the other processes would wait for this one."""
        try:
            yield
        except DiskFullError as error:
            self.problem = self.problem or error

    def working_time(self) -> float:
        """Return the seconds on a clock that stands still within `pause`; only differences have a meaning."""
        return time.perf_counter() - self._paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock within the block, which does something other than training."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began
