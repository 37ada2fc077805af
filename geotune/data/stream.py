"""In which order a run visits what it trains on: a shuffle of each epoch in which every kind comes up evenly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which epoch `epoch` visits `size` items, by the seed alone."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def items_at(size: int, seed: int, start: int, stop: int) -> list[int]:
    """Items at positions `start` to `stop` of the endless stream of epochs, one after the other."""
    return [int(epoch_order(size, seed, position // size)[position % size]) for position in range(start, stop)]


def spread(order: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """`order` (items,), a shuffle, with each kind evenly over it; among themselves those of a kind keep their order.

    `kinds` says the kind of every item. The j-th of the n items of a kind goes to the moment (j + p) / n of the epoch,
    p between 0 and 1, so that at any moment each kind has come up as often as its share says, give or take less than
    one item. Counted in items rather than moments: by less than 1 + share x d / 2, d being how many different n there
    are. Kinds of the same n have different p, so that those of few items do not stand together.
    """
    _, first, kind, counts = np.unique(kinds[order], return_index=True, return_inverse=True, return_counts=True)
    by_kind = np.argsort(kind, kind="stable")
    number = np.empty(len(order), np.int64)
    number[by_kind] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    _, like, likes = np.unique(counts, return_inverse=True, return_counts=True)
    by_count = np.lexsort((first, like))
    turn = np.empty(len(counts), np.int64)
    turn[by_count] = np.arange(len(counts)) - np.repeat(np.cumsum(likes) - likes, likes)
    moment = (number + ((turn + 0.5) / likes[like])[kind]) / counts[kind]
    return order[np.argsort(moment, kind="stable")]


@dataclass(frozen=True, eq=False)
class Stream:
    """The endless stream of epochs over items that come from several datasets, by position.

    An epoch visits every item of a dataset of weight 1 once, of weight 2 twice. Of one of weight 0.25 it visits a
    quarter, the next epoch the next quarter of that dataset's own shuffled order.
    """

    sizes: tuple[int, ...]
    """Items of each dataset."""
    weights: tuple[float, ...]
    seed: int
    kinds: np.ndarray | None = None
    """Of every item; each kind is spread over the epoch. None: all are of one."""

    def before(self, epoch: int) -> int:
        """Items in the epochs before `epoch`."""
        return sum(self.seen(part, epoch) for part in range(len(self.sizes)))

    def epoch(self, number: int) -> np.ndarray:
        """What epoch `number` visits, in order."""
        return _epoch_of(self, number)

    def items(self, start: int, stop: int) -> list[int]:
        """What stands at positions `start` to `stop`."""
        found: list[int] = []
        each = sum(size * weight for size, weight in zip(self.sizes, self.weights, strict=True))
        epoch = max(0, int((start - len(self.sizes)) / each))  # each dataset rounds by less than one item
        while self.before(epoch + 1) <= start:
            epoch += 1
        while start < stop:
            offset = self.before(epoch)
            found += self.epoch(epoch)[start - offset : stop - offset].tolist()
            epoch += 1
            start = self.before(epoch)
        return found

    def seen(self, part: int, epoch: int) -> int:
        """Items of a dataset in the epochs before `epoch`."""
        return round(epoch * self.weights[part] * self.sizes[part])


@lru_cache(maxsize=4)
def _epoch_of(stream: Stream, epoch: int) -> np.ndarray:
    order = epoch_order(stream.sizes[0], stream.seed, epoch) if stream.weights == (1.0,) else _mixed(stream, epoch)
    return order if stream.kinds is None else spread(order, stream.kinds)


def _mixed(stream: Stream, epoch: int) -> np.ndarray:
    chosen: list[int] = []
    first = 0
    for part, size in enumerate(stream.sizes):
        # Each dataset has an order of its own, which does not depend on what stands beside it.
        own = np.random.default_rng([stream.seed, 1, part]).integers(2**31)
        at = items_at(size, int(own), stream.seen(part, epoch), stream.seen(part, epoch + 1))
        chosen += [first + item for item in at]
        first += size
    return np.random.default_rng([stream.seed, epoch]).permutation(chosen)
