"""The order in which a run visits its items: every epoch is shuffled, and every stratum comes up evenly within it.

An item is whatever a plan visits as a unit: a sample (`RowPlan`) or a group of samples (`TreePlan`), given by its
index. The order is a pure function of seed and epoch, so a resumed run needs to know its position only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the shuffled order in which `epoch` visits `size` items: (size,)."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def items_at(size: int, seed: int, start: int, stop: int) -> list[int]:
    """Return the items at positions `start` to `stop` of the epochs of `size` items, laid end to end."""
    return [int(epoch_order(size, seed, position // size)[position % size]) for position in range(start, stop)]


def spread_evenly(order: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Rearrange a shuffled epoch so that each stratum is spread evenly over it.

    Items of the same stratum keep their relative order. Of the n items of a stratum, item j is placed at the moment
    (j + p) / n of the epoch, where the phase p lies between 0 and 1. Hence, at any moment of the epoch, the number of
    items of each stratum that were visited differs by less than one from its exact share. Measured after any number of
    items instead, it differs by less than 1 + share x d / 2, where d is the number of distinct n. Strata with the same
    n have different phases, so that small strata do not come up together.

    Args:
        order: A permutation of the items: (items,).
        strata: The stratum of each item, by item: any integers.

    Returns:
        The items in their new order: (items,).
    """
    _, first, stratum, counts = np.unique(strata[order], return_index=True, return_inverse=True, return_counts=True)
    by_stratum = np.argsort(stratum, kind="stable")
    number = np.empty(len(order), np.int64)  # of each item within its stratum
    number[by_stratum] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    _, size_class, class_sizes = np.unique(counts, return_inverse=True, return_counts=True)
    by_size = np.lexsort((first, size_class))
    turn = np.empty(len(counts), np.int64)  # of each stratum among those of its size
    turn[by_size] = np.arange(len(counts)) - np.repeat(np.cumsum(class_sizes) - class_sizes, class_sizes)
    phase = (turn + 0.5) / class_sizes[size_class]
    moment = (number + phase[stratum]) / counts[stratum]
    return order[np.argsort(moment, kind="stable")]


@dataclass(frozen=True, eq=False)
class Stream:
    """The items of one or several datasets in the order in which training visits them, epoch after epoch without end.

    The indices of a later dataset follow those of the datasets before it. An epoch visits each item of a dataset of
    weight 1 once and each item of a dataset of weight 2 twice. Of a dataset of weight 0.25 it visits a quarter; the
    next epoch visits the next quarter of that dataset's own shuffled order.
    """

    sizes: tuple[int, ...]
    """Number of items of each dataset."""
    weights: tuple[float, ...]
    """Weight of each dataset."""
    seed: int
    strata: np.ndarray | None = None
    """Stratum of each item; every stratum is spread evenly over each epoch. None: a plain shuffle."""

    def epoch(self, number: int) -> np.ndarray:
        """Return the items that epoch `number` visits, in order."""
        return _epoch_of(self, number)

    def items(self, start: int, stop: int) -> list[int]:
        """Return the items at positions `start` to `stop` of the stream."""
        found: list[int] = []
        items_per_epoch = sum(size * weight for size, weight in zip(self.sizes, self.weights, strict=True))
        # A lower bound: the number of items that an epoch visits of a dataset is rounded by less than one.
        epoch = max(0, int((start - len(self.sizes)) / items_per_epoch))
        while self.epoch_start(epoch + 1) <= start:
            epoch += 1
        while start < stop:
            offset = self.epoch_start(epoch)
            found += self.epoch(epoch)[start - offset : stop - offset].tolist()
            epoch += 1
            start = self.epoch_start(epoch)
        return found

    def epoch_start(self, epoch: int) -> int:
        """Return the position in the stream at which `epoch` starts."""
        return sum(self.visits_before(dataset, epoch) for dataset in range(len(self.sizes)))

    def visits_before(self, dataset: int, epoch: int) -> int:
        """Return how many items of a dataset the epochs before `epoch` visit."""
        return round(epoch * self.weights[dataset] * self.sizes[dataset])


@lru_cache(maxsize=4)
def _epoch_of(stream: Stream, epoch: int) -> np.ndarray:
    order = epoch_order(stream.sizes[0], stream.seed, epoch) if stream.weights == (1.0,) else _mixed(stream, epoch)
    return order if stream.strata is None else spread_evenly(order, stream.strata)


def _mixed(stream: Stream, epoch: int) -> np.ndarray:
    """Shuffle together the share of each dataset that belongs to `epoch`."""
    chosen: list[int] = []
    offset = 0
    for dataset, size in enumerate(stream.sizes):
        # The order within a dataset depends on the seed and the dataset's number, not on the other datasets.
        own_seed = int(np.random.default_rng([stream.seed, 1, dataset]).integers(2**31))
        start, stop = stream.visits_before(dataset, epoch), stream.visits_before(dataset, epoch + 1)
        chosen += [offset + item for item in items_at(size, own_seed, start, stop)]
        offset += size
    return np.random.default_rng([stream.seed, epoch]).permutation(chosen)
