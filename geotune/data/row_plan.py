"""The plan of updates for samples that are encoded separately, one row of a padded batch each."""

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
    """Cuts the stream of samples into updates, micro-batches and ranks; an `UpdatePlan`.

    Update u takes the next batch_size x accumulate x ranks samples of the stream, so its samples depend on that product
    alone and not on its factors. Tasks and datasets are spread evenly over each epoch (`spread_evenly`). The samples of
    an update are sorted by length before they are cut into micro-batches. Thus the samples of a micro-batch need little
    padding, and the micro-batches that the ranks run at the same time have similar lengths, so ranks hardly wait for
    each other.
    """

    lengths: Sequence[int] | np.ndarray
    """Tokens of each sample."""
    targets: Sequence[int] | np.ndarray
    """Supervised tokens of each sample."""
    batch_size: int
    """Samples per micro-batch."""
    accumulate: int
    """Micro-batches per update and rank."""
    ranks: int
    seed: int
    mix: tuple[tuple[int, float], ...] = ()
    """Number of samples and weight of each dataset, in the order of the samples; empty for a single dataset."""
    tasks: np.ndarray | None = None
    """Number of each sample's task; None if all samples have the same task."""

    @cached_property
    def stream(self) -> Stream:
        """The order in which samples are visited; each pair of dataset and task is a stratum."""
        sizes, weights = zip(*(self.mix or [(len(self.lengths), 1.0)]), strict=True)
        dataset = np.repeat(np.arange(len(sizes)), sizes)
        strata = dataset if self.tasks is None else dataset * (int(self.tasks.max()) + 1) + self.tasks
        return Stream(sizes, weights, self.seed, strata)

    @property
    def update_size(self) -> int:
        """Number of samples per update."""
        return self.batch_size * self.accumulate * self.ranks

    def update(self, number: int) -> list[int]:
        """Return the samples of update `number` on all ranks, the longest first."""
        size = self.update_size
        chosen = self.stream.items(number * size, (number + 1) * size)
        return sorted(chosen, key=lambda index: (-self.lengths[index], index))

    def tokens(self, samples: Sequence[int]) -> int:
        """Return the tokens of the rows of samples, given by index, with their padding."""
        return len(samples) * max(int(self.lengths[index]) for index in samples)

    def updates_for(self, epochs: float) -> int:
        """Return the number of updates that `epochs` passes over the data take, at least one."""
        stream = self.stream
        samples = sum(size * weight for size, weight in zip(stream.sizes, stream.weights, strict=True))
        return max(1, math.ceil(epochs * samples / self.update_size))

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """Return the `accumulate` micro-batches of `rank` in update `number`, in order."""
        chosen = self.update(number)
        update_targets = int(sum(self.targets[index] for index in chosen))
        micro_batches = []
        for turn in range(self.accumulate):
            start = (turn * self.ranks + rank) * self.batch_size
            indices = tuple(chosen[start : start + self.batch_size])
            micro_batches.append(MicroBatch(indices, number, update_targets))
        return micro_batches
