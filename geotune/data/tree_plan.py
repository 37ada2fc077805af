"""Updates of samples that are read as prefix trees."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from geotune.data.grouping import Grouping
from geotune.data.paths import Paths
from geotune.data.sampler import FIRST_UPDATES, MicroBatch
from geotune.data.stream import Stream
from geotune.errors import ConfigError

Run = tuple[int, int]
"""Samples that share a beginning, side by side in `TreePlan.order`: from, up to."""


@dataclass
class _Epoch:
    """The updates of an epoch, as one flat list of samples; 4 bytes per sample, since a run may have millions."""

    samples: np.ndarray
    ends: np.ndarray
    """Where each micro-batch ends."""

    def micro_batch(self, number: int) -> np.ndarray:
        """Samples of a micro-batch, counted over the epoch."""
        return self.samples[self.ends[number - 1] if number else 0 : self.ends[number]]


@dataclass
class TreePlan:
    """How samples that share their beginnings are cut into updates, micro-batches and ranks.

    The questions of a place are cut into groups along the branches of their tree (`Grouping`); an epoch visits the
    groups in a shuffled order in which those of each make-up (so many questions of each task) are spread evenly
    (`spread`). Where places are asked the same, updates so keep the mix of tasks; `task_tolerance` says how well. An
    update takes the next batch_size x accumulate x ranks samples of it, fewer where a micro-batch would exceed
    `max_tokens` or `max_images`, and deals its groups out so that the micro-batches' trees are of like size. What is
    left of an epoch and too little for an update opens the next.

    Raises ConfigError for a sample that exceeds `max_tokens` or `max_images` by itself.
    """

    paths: Sequence[Sequence[int]]
    """Each sample as numbers of its segments."""
    sizes: np.ndarray
    """Tokens of each segment."""
    is_image: np.ndarray
    """Whether a segment is an image."""
    targets: Sequence[int] | np.ndarray
    """Supervised tokens of each sample."""
    places: Sequence[str] | np.ndarray
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
    """Images of a micro-batch's tree, at most."""
    mix: tuple[tuple[int, float], ...] = ()
    """Of several datasets, one behind the other: how many samples each has, and its weight."""
    tasks: np.ndarray | None = None
    """Number of each sample's task; None: all are of one."""
    order: np.ndarray = field(init=False, repr=False)
    """The samples place by place and group by group, those of a group sorted by what they share."""
    _carried: list[Run] = field(default_factory=list, init=False, repr=False)
    """What was too little for a last update and opens the next epoch."""
    _epochs: list[_Epoch] = field(default_factory=list, init=False, repr=False)
    """Every epoch so far."""

    def __post_init__(self) -> None:
        self.paths = Paths.of(self.paths)
        self._targets = np.asarray(self.targets)
        rows = self.paths.padded()
        by_path = np.lexsort(rows.T[::-1]) if rows.shape[1] else np.arange(len(rows))
        self._number_nodes(rows, by_path)
        self._order_by_place(rows, by_path)
        self._lay_out(rows)
        self._refuse_too_large()

    def _number_nodes(self, rows: np.ndarray, by_path: np.ndarray) -> None:
        """Give every node of the tree of all samples a number: those of a sample stand as its segments do in `rows`.

        Two samples share a node where their paths agree up to there. `rows` are the paths, `by_path` sorts them.
        """
        ordered = rows[by_path]
        fresh = np.arange(rows.shape[1]) >= agreeing(ordered)[:, None]
        fresh &= ordered >= 0
        numbers = np.cumsum(fresh, dtype=np.int32).reshape(fresh.shape) - 1
        self._node_sizes = np.asarray(self.sizes)[ordered[fresh]]
        # Where a path goes on as the one before it, it has that one's nodes.
        nodes = np.empty_like(rows)
        nodes[by_path] = np.maximum.accumulate(np.where(fresh, numbers, -1), axis=0)
        self._nodes = nodes

    def _order_by_place(self, rows: np.ndarray, by_path: np.ndarray) -> None:
        """Sort the samples by place, in the order in which places appear, and by path; cut the places into groups."""
        rank = np.empty(len(rows), np.int64)
        rank[by_path] = np.arange(len(rows))
        _, first, place = np.unique(np.asarray(self.places), return_index=True, return_inverse=True)
        order = np.lexsort((rank, first[place]))
        self._cut_places(rows, order, first[place])
        # What each sample adds to the tree of those before it of its group: costs of runs are differences.
        ordered = rows[self.order]
        tokens = self._tokens(ordered)
        images = np.where(ordered >= 0, np.asarray(self.is_image)[ordered], False)
        new = np.arange(rows.shape[1]) >= agreeing(ordered)[:, None]
        self._alone = np.stack([tokens.sum(axis=1), images.sum(axis=1)])
        added = np.stack([(tokens * new).sum(axis=1), (images * new).sum(axis=1)])
        self._added = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(added, axis=1)], axis=1)
        sizes = [size for size, _ in self.mix] or [len(rows)]
        part = np.searchsorted(np.cumsum(sizes), self.order[self._groups[:-1]], "right")
        per_part = np.bincount(part, minlength=len(sizes)).tolist()
        weights = tuple(weight for _, weight in self.mix) or (1.0,)
        self.stream = Stream(tuple(per_part), weights, self.seed, self._kinds(part))

    def _tokens(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of each segment of some paths, 0 behind their ends."""
        return np.where(rows >= 0, np.asarray(self.sizes)[rows], 0)

    def _cut_places(self, rows: np.ndarray, order: np.ndarray, place: np.ndarray) -> None:
        """Set `order` and where each group begins in it. `order` holds the samples by place and path."""
        ends = np.append(np.flatnonzero(np.diff(place[order])) + 1, len(order))
        starts = np.concatenate([[0], ends[:-1]])
        sizes = [np.array([count]) for count in ends - starts]
        for number in np.flatnonzero(ends - starts > self.group_size):
            mine = slice(starts[number], ends[number])
            paths = rows[order[mine]]
            tokens = np.cumsum(self._tokens(paths)[:, ::-1], axis=1)[:, ::-1]
            tokens = np.pad(tokens, ((0, 0), (0, 1))).tolist()
            groups = Grouping(agreeing(paths).tolist(), tokens, self.group_size).groups()
            order[mine] = order[mine][np.concatenate(groups)]
            sizes[number] = np.array([len(group) for group in groups])
        self.order = order
        self._groups = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])

    def _kinds(self, part: np.ndarray) -> np.ndarray:
        """Number of each group's make-up: of which dataset it is, and how many questions of each task it holds."""
        tasks = np.zeros(len(self.order), np.int64) if self.tasks is None else np.asarray(self.tasks)[self.order]
        counts = np.add.reduceat(tasks[:, None] == np.unique(tasks), self._groups[:-1], dtype=np.int64)
        return np.unique(np.column_stack([part, counts]), axis=0, return_inverse=True)[1].reshape(-1)

    def _lay_out(self, rows: np.ndarray) -> None:
        """Nodes and segments in the samples' order, so that a run is one slice of each."""
        ordered, nodes = rows[self.order], self._nodes[self.order]
        present = ordered >= 0
        self._segments, self._nodes = ordered[present], nodes[present]
        self._starts = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        self._position = np.empty(len(rows), np.int64)
        self._position[self.order] = np.arange(len(rows))

    def _refuse_too_large(self) -> None:
        tokens, images = self._alone
        suspects = (tokens > (self.max_tokens or math.inf)) | (images > (self.max_images or math.inf))
        for at in np.sort(self.order[suspects]):
            cost, shown = self.cost((int(at),))
            if cost > (self.max_tokens or math.inf) or shown > (self.max_images or math.inf):
                raise ConfigError(
                    f"data.max_tokens={self.max_tokens}, data.max_images={self.max_images}: a sample has {cost} "
                    f"tokens and {shown} images; raise them, or lower data.max_length"
                )

    @property
    def bins(self) -> int:
        """Micro-batches per update."""
        return self.accumulate * self.ranks

    @property
    def update_size(self) -> int:
        """Samples per update, at most."""
        return self.batch_size * self.bins

    def update(self, number: int) -> list[int]:
        """Samples of update `number`, in the order of the data."""
        return sorted(index for piece in self._update(number) for index in piece.tolist())

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """What `rank` does in update `number`, in order."""
        pieces = self._update(number)
        total = int(sum(self._targets[piece].sum() for piece in pieces))
        mine = (pieces[turn * self.ranks + rank] for turn in range(self.accumulate))
        return [MicroBatch(tuple(piece.tolist()), number, total) for piece in mine]

    def updates_for(self, epochs: float) -> int:
        """Updates that `epochs` passes over the data take, at least one."""
        samples = sum(size * weight for size, weight in self.mix) if self.mix else len(self.paths)
        wanted = epochs * samples
        seen = number = epoch = 0
        while seen < wanted:
            ends = self._epoch(epoch).ends[self.bins - 1 :: self.bins]
            if seen + (ends[-1] if len(ends) else 0) >= wanted:
                return max(1, number + int(np.searchsorted(ends, wanted - seen)) + 1)
            seen += int(ends[-1]) if len(ends) else 0
            number += len(ends)
            epoch += 1
        return max(1, number)

    @property
    def duplication(self) -> float:
        """Tokens of the first epoch's samples one by one, over those of their trees; of its first updates, if many."""
        updates = range(min(FIRST_UPDATES, self.updates_for(1)))
        pieces = [piece for number in updates for piece in self._update(number)]
        alone = sum(int(self._alone[0, self._position[piece]].sum()) for piece in pieces)
        return alone / sum(self.cost(piece)[0] for piece in pieces)

    def _update(self, number: int) -> list[np.ndarray]:
        epoch = 0
        while number >= (updates := len(self._epoch(epoch).ends) // self.bins):
            number -= updates
            epoch += 1
        return [self._epoch(epoch).micro_batch(number * self.bins + part) for part in range(self.bins)]

    def _epoch(self, epoch: int) -> _Epoch:
        while len(self._epochs) <= epoch:
            self._epochs.append(self._deal_epoch(len(self._epochs)))
        return self._epochs[epoch]

    def _deal_epoch(self, epoch: int) -> _Epoch:
        visited = self.stream.epoch(epoch)
        waiting = self._carried
        left = int(np.diff(self._groups)[visited].sum()) + sum(stop - start for start, stop in waiting)
        groups = iter(visited.tolist())
        samples, ends = array("i"), array("q")
        while left >= self.update_size:
            chosen: list[Run] = []
            room = self.update_size
            while room and (run := self._next(waiting, groups)):
                start, stop = run
                count = min(stop - start, room)
                while count and not self._fits([*chosen, (start, start + count)]):
                    count //= 2
                if count:
                    chosen.append((start, start + count))
                if start + count < stop:
                    waiting.append((start + count, stop))
                if not count:
                    break
                room -= count
            left -= sum(stop - start for start, stop in chosen)
            for piece in self._deal(chosen):
                for start, stop in piece:
                    samples.extend(self.order[start:stop].tolist())
                ends.append(len(samples))
        self._carried = [self._group(number) for number in reversed(list(groups))] + waiting
        return _Epoch(np.array(samples, np.int32), np.array(ends, np.int64))

    def _next(self, waiting: list[Run], groups: Iterator[int]) -> Run | None:
        """What comes next: what was left over last, else the next group."""
        if waiting:
            return waiting.pop()
        number = next(groups, None)
        return None if number is None else self._group(number)

    def _group(self, number: int) -> Run:
        return int(self._groups[number]), int(self._groups[number + 1])

    def _fits(self, runs: Sequence[Run]) -> bool:
        if self.max_tokens is None and self.max_images is None:
            return True
        return all(self._within(piece) for piece in self._deal(runs))

    def _within(self, piece: Sequence[Run]) -> bool:
        """Whether the tree of these runs keeps the limits."""
        most = (self.max_tokens or math.inf, self.max_images or math.inf)
        bound = np.sum([self._run_cost(run) for run in piece], axis=0)
        if (bound <= most).all():  # the costs of a tree are at most those of its parts
            return True
        return all(np.less_equal(self._tree_cost(piece), most))

    def _deal(self, runs: Sequence[Run]) -> list[list[Run]]:
        """The runs in as many micro-batches of like size: the largest first, each to the least loaded."""
        parts = list(runs)
        while len(parts) < self.bins and max(b - a for a, b in parts) > 1:  # every micro-batch needs a sample
            largest = max(parts, key=lambda run: run[1] - run[0])
            parts.remove(largest)
            middle = largest[0] + (largest[1] - largest[0]) // 2
            parts += [(largest[0], middle), (middle, largest[1])]
        loads = [0] * self.bins
        dealt: list[list[Run]] = [[] for _ in range(self.bins)]
        weighed = ((int(self._run_cost(run)[0]), self.order[run[0] : run[1]].tolist(), run) for run in parts)
        for tokens, _, run in sorted(weighed, reverse=True):
            least = loads.index(min(loads))
            dealt[least].append(run)
            loads[least] += tokens
        return dealt

    def _run_cost(self, run: Run) -> np.ndarray:
        """Tokens and images of the tree of a run; an image that stands in two branches counts twice."""
        start, stop = run
        return self._alone[:, start] + self._added[:, stop] - self._added[:, start + 1]

    def cost(self, samples: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Tokens and images of the tree of `samples`, by index."""
        return self._tree_cost([(at, at + 1) for at in self._position[np.asarray(samples)].tolist()])

    def _tree_cost(self, runs: Sequence[Run]) -> tuple[int, int]:
        spans = [slice(self._starts[start], self._starts[stop]) for start, stop in runs]
        nodes = np.unique(np.concatenate([self._nodes[span] for span in spans]))
        segments = np.unique(np.concatenate([self._segments[span] for span in spans]))
        return int(self._node_sizes[nodes].sum()), int(np.asarray(self.is_image)[segments].sum())


def agreeing(rows: np.ndarray) -> np.ndarray:
    """Of each row, how many of its first values are those of the row before it."""
    same = np.zeros(rows.shape, bool)
    same[1:] = (rows[1:] == rows[:-1]) & (rows[1:] >= 0)
    return np.logical_and.accumulate(same, axis=1).sum(axis=1)
