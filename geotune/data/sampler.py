"""Which samples each rank trains on, in which update and micro-batch.

An update is one step of the optimizer. It consists of `accumulate` micro-batches on each rank; a micro-batch is what
one rank runs forward and backward at a time. A plan (`RowPlan` or `TreePlan`) says which samples these hold, as a pure
function of the seed and the update's number. So every rank finds its share without communication, and a resumed run
continues exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

FIRST_UPDATES = 100
"""Number of updates that the figures of a plan are measured on: the savings of the prefix tree, the mix of tasks."""


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward and backward pass on one rank."""

    indices: tuple[int, ...]
    """Indices of the samples in the dataset."""
    update: int
    """Number of the update that the micro-batch belongs to, counted from 0."""
    update_targets: int
    """Supervised tokens of the whole update, summed over its micro-batches on all ranks."""


class UpdatePlan(Protocol):
    """Assigns samples to updates, micro-batches and ranks."""

    @property
    def tasks(self) -> np.ndarray | None:
        """Number of each sample's task: (samples,); None if all samples have the same task."""

    @property
    def accumulate(self) -> int:
        """Number of micro-batches per update and rank."""

    @property
    def mix(self) -> tuple[tuple[int, float], ...]:
        """Number of samples and weight of each dataset, in the order of the samples; empty for a single dataset."""

    @property
    def update_size(self) -> int:
        """Number of samples per update; with limits on a micro-batch, the largest number."""

    def update(self, number: int) -> list[int]:
        """Return the samples of update `number` on all ranks."""

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """Return the `accumulate` micro-batches of `rank` in update `number`, in order."""

    def tokens(self, samples: Sequence[int]) -> int:
        """Return the tokens of a micro-batch of samples, given by index, with the padding that it needs."""

    def updates_for(self, epochs: float) -> int:
        """Return the number of updates that `epochs` passes over the data take, at least one."""


def task_tolerance(plan: UpdatePlan) -> float:
    """Return the largest difference between a task's share of an update and its share of the data, between 0 and 1.

    The first `FIRST_UPDATES` updates of the first epoch are measured. A task's share of the data counts each dataset by
    its weight.
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
    """Yields the micro-batches of one rank from update `start` up to, but not including, update `stop`."""

    def __init__(self, plan: UpdatePlan, *, rank: int, start: int, stop: int) -> None:
        self.plan = plan
        self.rank = rank
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.plan.accumulate

    def __iter__(self) -> Iterator[MicroBatch]:
        for number in range(self.start, self.stop):
            yield from self.plan.micro_batches(number, self.rank)
