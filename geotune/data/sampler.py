"""Which samples make up which update: a pure function of seed, epoch and position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

FIRST_UPDATES = 100
"""Updates that tell what a prefix tree saves, and how even the tasks are."""


@dataclass(frozen=True)
class MicroBatch:
    """One rank's samples of one forward and backward pass."""

    indices: tuple[int, ...]
    update: int
    """Which update it belongs to, from 0."""
    update_targets: int
    """Supervised tokens of the whole update, over all of its micro-batches and ranks."""


class UpdatePlan(Protocol):
    """What a run needs to know of how its samples are dealt out."""

    @property
    def tasks(self) -> np.ndarray | None:
        """Number of each sample's task; None: all are of one."""

    @property
    def mix(self) -> tuple[tuple[int, float], ...]:
        """Of several datasets, one behind the other: how many samples each has, and its weight."""

    @property
    def update_size(self) -> int:
        """Samples per update, at most."""

    def update(self, number: int) -> list[int]:
        """Samples of update `number`."""

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order: `accumulate` micro-batches."""

    def updates_for(self, epochs: float) -> int:
        """Updates that `epochs` passes over the data take, at least one."""


def task_tolerance(plan: UpdatePlan) -> float:
    """By how much a task's share of an update differs from its share of the data, at most, between 0 and 1.

    Measured on the first updates. Datasets count by their weights.
    """
    if plan.tasks is None:
        return 0.0
    tasks = np.asarray(plan.tasks)
    sizes, weights = zip(*(plan.mix or [(len(tasks), 1.0)]), strict=True)
    share = np.bincount(tasks, np.repeat(weights, sizes))
    share = share / share.sum()
    worst = 0.0
    for number in range(min(FIRST_UPDATES, plan.updates_for(1))):
        chosen = tasks[plan.update(number)]
        worst = max(worst, float(np.abs(np.bincount(chosen, minlength=len(share)) / len(chosen) - share).max()))
    return worst


class UpdateSampler(Sampler[MicroBatch]):
    """The micro-batches of one rank from update `start` up to `stop`."""

    def __init__(self, plan: UpdatePlan, *, accumulate: int, rank: int, start: int, stop: int) -> None:
        self.plan = plan
        self.accumulate = accumulate
        self.rank = rank
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[MicroBatch]:
        for number in range(self.start, self.stop):
            yield from self.plan.micro_batches(number, self.rank)
