"""Which samples make up which update: a pure function of seed, epoch and position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class MicroBatch:
    """One rank's samples of one forward and backward pass."""

    indices: tuple[int, ...]
    update: int
    """Which update it belongs to, from 0."""
    update_targets: int
    """Supervised tokens of the whole update, over all of its micro-batches and ranks."""


@lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which epoch `epoch` visits `size` samples."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def samples_at(size: int, seed: int, start: int, stop: int) -> list[int]:
    """Samples at positions `start` to `stop` of the endless stream of epochs, one after the other."""
    return [int(epoch_order(size, seed, position // size)[position % size]) for position in range(start, stop)]


@dataclass(frozen=True)
class Plan:
    """How a stream of samples is cut into updates, micro-batches and ranks.

    Update u takes the next batch_size x accumulate x ranks samples of the shuffled stream, whichever way that product
    is split. Within the update they are sorted by length, so that micro-batches hold samples of like length and the
    ranks' micro-batches of one moment are alike: little padding, little waiting, and the same gradient.
    """

    lengths: Sequence[int]
    """Tokens of each sample."""
    targets: Sequence[int]
    """Supervised tokens of each sample."""
    batch_size: int
    accumulate: int
    ranks: int
    seed: int

    @property
    def update_size(self) -> int:
        """Samples per update."""
        return self.batch_size * self.accumulate * self.ranks

    def update(self, number: int) -> list[int]:
        """Samples of update `number`, longest first."""
        size = self.update_size
        chosen = samples_at(len(self.lengths), self.seed, number * size, (number + 1) * size)
        return sorted(chosen, key=lambda index: (-self.lengths[index], index))

    def update_targets(self, number: int) -> int:
        """Supervised tokens of update `number`."""
        return int(sum(self.targets[index] for index in self.update(number)))

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order."""
        chosen = self.update(number)
        total = int(sum(self.targets[index] for index in chosen))
        parts = []
        for turn in range(self.accumulate):
            start = (turn * self.ranks + rank) * self.batch_size
            parts.append(MicroBatch(tuple(chosen[start : start + self.batch_size]), number, total))
        return parts


class UpdateSampler(Sampler[MicroBatch]):
    """The micro-batches of one rank from update `start` up to `stop`."""

    def __init__(self, plan: Plan, *, rank: int, start: int, stop: int) -> None:
        self.plan = plan
        self.rank = rank
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.plan.accumulate

    def __iter__(self) -> Iterator[MicroBatch]:
        for number in range(self.start, self.stop):
            yield from self.plan.micro_batches(number, self.rank)
