"""Updates of samples that are read by themselves, a row each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geotune.data.sampler import MicroBatch
from geotune.data.stream import Stream


@dataclass(frozen=True)
class RowPlan:
    """How a stream of samples is cut into updates, micro-batches and ranks.

    Update u takes the next batch_size x accumulate x ranks samples of the shuffled stream, whichever way that product
    is split; tasks, and datasets, are spread evenly over an epoch (`spread`). Within the update they are sorted
    by length, so that micro-batches hold samples of like length and the ranks' micro-batches of one moment are alike:
    little padding, little waiting, and the same gradient.
    """

    lengths: Sequence[int] | np.ndarray
    """Tokens of each sample."""
    targets: Sequence[int] | np.ndarray
    """Supervised tokens of each sample."""
    batch_size: int
    accumulate: int
    ranks: int
    seed: int
    mix: tuple[tuple[int, float], ...] = ()
    """Of several datasets, one behind the other: how many samples each has, and its weight."""
    tasks: np.ndarray | None = None
    """Number of each sample's task; None: all are of one."""

    @cached_property
    def stream(self) -> Stream:
        """The order in which samples are visited: those of each task, and dataset, evenly."""
        sizes, weights = zip(*(self.mix or [(len(self.lengths), 1.0)]), strict=True)
        part = np.repeat(np.arange(len(sizes)), sizes)
        kinds = part if self.tasks is None else part * (int(self.tasks.max()) + 1) + self.tasks
        return Stream(sizes, weights, self.seed, kinds)

    @property
    def update_size(self) -> int:
        """Samples per update."""
        return self.batch_size * self.accumulate * self.ranks

    def update(self, number: int) -> list[int]:
        """Samples of update `number`, longest first."""
        size = self.update_size
        chosen = self.stream.items(number * size, (number + 1) * size)
        return sorted(chosen, key=lambda index: (-self.lengths[index], index))

    def updates_for(self, epochs: float) -> int:
        """Updates that `epochs` passes over the data take, at least one."""
        stream = self.stream
        samples = sum(size * weight for size, weight in zip(stream.sizes, stream.weights, strict=True))
        return max(1, math.ceil(epochs * samples / self.update_size))

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order."""
        chosen = self.update(number)
        total = int(sum(self.targets[index] for index in chosen))
        parts = []
        for turn in range(self.accumulate):
            start = (turn * self.ranks + rank) * self.batch_size
            parts.append(MicroBatch(tuple(chosen[start : start + self.batch_size]), number, total))
        return parts
