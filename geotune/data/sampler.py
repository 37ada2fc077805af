"""Which samples make up which update: a pure function of seed, epoch and position."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from geotune.data.prefix_tree import tree_tokens
from geotune.errors import ConfigError


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


class UpdatePlan(Protocol):
    """What a run needs to know of how its samples are dealt out."""

    @property
    def update_size(self) -> int:
        """Samples per update, at most."""

    def update(self, number: int) -> list[int]:
        """Samples of update `number`."""

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order: `accumulate` micro-batches."""

    def updates_for(self, epochs: float) -> int:
        """Updates that `epochs` passes over the data take, at least one."""


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

    def updates_for(self, epochs: float) -> int:
        """Updates that `epochs` passes over the data take, at least one."""
        return max(1, math.ceil(epochs * len(self.lengths) / self.update_size))

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order."""
        chosen = self.update(number)
        total = int(sum(self.targets[index] for index in chosen))
        parts = []
        for turn in range(self.accumulate):
            start = (turn * self.ranks + rank) * self.batch_size
            parts.append(MicroBatch(tuple(chosen[start : start + self.batch_size]), number, total))
        return parts


Piece = tuple[int, ...]
"""Samples that share a beginning, side by side."""


@dataclass
class TreePlan:
    """How samples that share their beginnings are cut into updates, micro-batches and ranks.

    The questions of a place, sorted by what they share, are cut into groups; an epoch visits the groups in a shuffled
    order. An update takes the next batch_size x accumulate x ranks samples of it, fewer where a micro-batch would
    exceed `max_tokens` or `max_images`, and deals its groups out so that the micro-batches' trees are of like size.
    What is left of an epoch and too little for an update opens the next.

    Raises ConfigError for a sample that exceeds `max_tokens` or `max_images` by itself.
    """

    paths: Sequence[Sequence[int]]
    """Each sample as numbers of its segments."""
    sizes: np.ndarray
    """Tokens of each segment."""
    pictures: np.ndarray
    """Whether a segment is a picture."""
    targets: Sequence[int]
    """Supervised tokens of each sample."""
    places: Sequence[str]
    """What each sample is grouped by."""
    batch_size: int
    accumulate: int
    ranks: int
    seed: int
    group_size: int
    """Questions of a place that stay together, at most."""
    max_tokens: int | None = None
    """Tokens of a micro-batch's tree, at most; what groups share among each other is counted twice."""
    max_images: int | None = None
    """Pictures of a micro-batch's tree, at most."""
    _carried: list[Piece] = field(default_factory=list, init=False, repr=False)
    """What was too little for a last update and opens the next epoch."""
    _epochs: list[list[list[Piece]]] = field(default_factory=list, init=False, repr=False)
    """Of each epoch so far, the updates, as one piece per micro-batch."""

    def __post_init__(self) -> None:
        for index in range(len(self.paths)):
            tokens, images = self.cost((index,))
            if tokens > (self.max_tokens or math.inf) or images > (self.max_images or math.inf):
                raise ConfigError(
                    f"data.max_tokens={self.max_tokens}, data.max_images={self.max_images}: a sample has {tokens} "
                    f"tokens and {images} pictures; raise them, or lower data.max_length"
                )

    @property
    def bins(self) -> int:
        """Micro-batches per update."""
        return self.accumulate * self.ranks

    @property
    def update_size(self) -> int:
        """Samples per update, at most."""
        return self.batch_size * self.bins

    @property
    def groups(self) -> list[Piece]:
        """The questions of each place in groups, in the order of the data."""
        by_place: dict[str, list[int]] = {}
        for index, place in enumerate(self.places):
            by_place.setdefault(place, []).append(index)
        groups: list[Piece] = []
        for indices in by_place.values():
            ordered = sorted(indices, key=lambda index: (tuple(self.paths[index]), index))
            groups += [tuple(ordered[at : at + self.group_size]) for at in range(0, len(ordered), self.group_size)]
        return groups

    def update(self, number: int) -> list[int]:
        """Samples of update `number`, in the order of the data."""
        return sorted(index for piece in self._update(number) for index in piece)

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order."""
        pieces = self._update(number)
        total = int(sum(self.targets[index] for piece in pieces for index in piece))
        return [MicroBatch(pieces[turn * self.ranks + rank], number, total) for turn in range(self.accumulate)]

    def updates_for(self, epochs: float) -> int:
        """Updates that `epochs` passes over the data take, at least one."""
        seen = number = 0
        while seen < epochs * len(self.paths):
            seen += len(self.update(number))
            number += 1
        return max(1, number)

    @property
    def duplication(self) -> float:
        """Tokens of the first epoch's samples one by one, over those of their trees."""
        alone = sum(int(self.sizes[list(path)].sum()) for path in self.paths)
        shared = sum(self.cost(piece)[0] for update in self._epoch(0) for piece in update)
        return alone / shared

    def _update(self, number: int) -> list[Piece]:
        epoch = 0
        while number >= len(self._epoch(epoch)):
            number -= len(self._epoch(epoch))
            epoch += 1
        return self._epoch(epoch)[number]

    def _epoch(self, epoch: int) -> list[list[Piece]]:
        while len(self._epochs) <= epoch:
            self._epochs.append(self._deal_epoch(len(self._epochs)))
        return self._epochs[epoch]

    def _deal_epoch(self, epoch: int) -> list[list[Piece]]:
        groups = self.groups
        waiting = [groups[i] for i in reversed(epoch_order(len(groups), self.seed, epoch))] + self._carried
        left = sum(map(len, waiting))
        updates: list[list[Piece]] = []
        while left >= self.update_size:
            chosen: list[Piece] = []
            room = self.update_size
            while waiting and room:
                group = waiting.pop()
                count = min(len(group), room)
                while count and not self._fits([*chosen, group[:count]]):
                    count //= 2
                if count:
                    chosen.append(group[:count])
                if group[count:]:
                    waiting.append(group[count:])
                if not count:
                    break
                room -= count
            left -= sum(map(len, chosen))
            updates.append(self._deal(chosen))
        self._carried = waiting
        return updates

    def _fits(self, pieces: Sequence[Piece]) -> bool:
        if self.max_tokens is None and self.max_images is None:
            return True
        costs = [self.cost(piece) for piece in self._deal(pieces)]
        most = (self.max_tokens or math.inf, self.max_images or math.inf)
        return all(tokens <= most[0] and images <= most[1] for tokens, images in costs)

    def _deal(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces in as many micro-batches of like size: the largest first, each to the least loaded."""
        parts = list(pieces)
        while len(parts) < self.bins and max(map(len, parts)) > 1:  # every micro-batch needs a sample
            largest = max(parts, key=len)
            parts.remove(largest)
            parts += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
        loads = [0] * self.bins
        dealt: list[Piece] = [()] * self.bins
        for tokens, part in sorted(((self.cost(part)[0], part) for part in parts), reverse=True):
            least = loads.index(min(loads))
            dealt[least] += part
            loads[least] += tokens
        return dealt

    def cost(self, piece: Piece) -> tuple[int, int]:
        """Tokens and pictures of the tree of `piece`, samples by index."""
        paths = [self.paths[index] for index in piece]
        images = {segment for path in paths for segment in path if self.pictures[segment]}
        return tree_tokens(paths, self.sizes), len(images)


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
