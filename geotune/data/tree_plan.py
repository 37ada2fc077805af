"""The plan of updates for samples that are encoded as prefix trees, one tree per micro-batch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from geotune.data.paths import Paths
from geotune.data.sample_groups import SampleGroups, SampleSpan
from geotune.data.sampler import FIRST_UPDATES, MicroBatch
from geotune.data.stream import Stream
from geotune.errors import ConfigError


@dataclass
class _Epoch:
    """The micro-batches of an epoch as one flat array of samples, because a run may have millions of samples."""

    samples: np.ndarray
    """The samples of all micro-batches, one micro-batch after the other: int32."""
    ends: np.ndarray
    """Where each micro-batch ends in `samples`: int64 (micro-batches,)."""

    def micro_batch(self, number: int) -> np.ndarray:
        """Return the samples of micro-batch `number`, counted from the start of the epoch."""
        return self.samples[self.ends[number - 1] if number else 0 : self.ends[number]]


@dataclass
class TreePlan:
    """Cuts samples that share images and prompts into updates, micro-batches and ranks; an `UpdatePlan`.

    Groups: the samples of each place are cut into groups of at most `group_size` (`SampleGroups`). This happens once
    and does not depend on the seed.

    Epochs: an epoch visits the groups in a shuffled order (`Stream`). Groups with the same composition (the same
    dataset and the same number of samples of each task) are spread evenly over the epoch, so where places are asked the
    same questions, each update keeps the data's mix of tasks; `task_tolerance` measures how closely.

    Updates: an update takes the next batch_size x accumulate x ranks samples of the epoch. It takes fewer if a
    micro-batch would exceed `max_tokens` or `max_images`. A group that does not fit entirely is split, and its rest
    opens the next update. Samples at the end of an epoch that are too few for an update open the next epoch.

    Micro-batches: the spans of an update are assigned to its micro-batches so that their trees have similar sizes.

    All of this is a pure function of the data, the settings and the seed. What an epoch leaves over depends on the
    epochs before it, so epochs are planned in order, each when it is first needed.

    Raises ConfigError for a sample that exceeds `max_tokens` or `max_images` by itself.
    """

    paths: Sequence[Sequence[int]]
    """The path of each sample: the numbers of its segments."""
    sizes: np.ndarray
    """Tokens of each segment: (segments,)."""
    is_image: np.ndarray
    """Whether each segment is an image: (segments,)."""
    targets: Sequence[int] | np.ndarray
    """Supervised tokens of each sample."""
    places: Sequence[str] | np.ndarray
    """The place of each sample; only samples of the same place are grouped."""
    batch_size: int
    """Samples per micro-batch, on average over an update."""
    accumulate: int
    """Micro-batches per update and rank."""
    ranks: int
    seed: int
    group_size: int
    """Largest number of samples of a place that stay together."""
    max_tokens: int | None = None
    """Largest number of tokens of a micro-batch's tree; None: no limit."""
    max_images: int | None = None
    """Largest number of distinct images of a micro-batch; None: no limit."""
    mix: tuple[tuple[int, float], ...] = ()
    """Number of samples and weight of each dataset, in the order of the samples; empty for a single dataset."""
    tasks: np.ndarray | None = None
    """Number of each sample's task; None if all samples have the same task."""
    _left_over: list[SampleSpan] = field(default_factory=list, init=False, repr=False)
    """The spans that were too few for a last update of the latest epoch, the next one to use at the end."""
    _epochs: list[_Epoch] = field(default_factory=list, init=False, repr=False)
    """The epochs planned so far."""

    def __post_init__(self) -> None:
        paths = self.paths = Paths.of(self.paths)
        self._targets = np.asarray(self.targets)
        self._limits = (self.max_tokens or math.inf, self.max_images or math.inf)
        self._groups = SampleGroups(paths, self.sizes, self.is_image, self.places, self.group_size)
        self.stream = self._make_stream()
        too_large = self._groups.exceeding(*self._limits)
        if too_large:
            tokens, images = self.cost(too_large[:1])
            raise ConfigError(
                f"data.max_tokens={self.max_tokens}, data.max_images={self.max_images}: a sample has {tokens} "
                f"tokens and {images} images; raise these limits, or lower data.max_length"
            )

    def _make_stream(self) -> Stream:
        """Return the order in which groups are visited; each composition of a group is a stratum."""
        groups = self._groups
        sizes = [size for size, _ in self.mix] or [len(groups.order)]
        weights = tuple(weight for _, weight in self.mix) or (1.0,)
        first_samples = groups.order[groups.starts[:-1]]
        dataset = np.searchsorted(np.cumsum(sizes), first_samples, "right")
        groups_per_dataset = np.bincount(dataset, minlength=len(sizes)).tolist()
        return Stream(tuple(groups_per_dataset), weights, self.seed, self._compositions(dataset))

    def _compositions(self, dataset: np.ndarray) -> np.ndarray:
        """Number the groups' compositions: the group's dataset and its number of samples of each task. (groups,)."""
        order = self._groups.order
        tasks = np.zeros(len(order), np.int64) if self.tasks is None else np.asarray(self.tasks)[order]
        counts = np.add.reduceat(tasks[:, None] == np.unique(tasks), self._groups.starts[:-1], dtype=np.int64)
        return np.unique(np.column_stack([dataset, counts]), axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def update_size(self) -> int:
        """Largest number of samples per update; without limits, every update has this number."""
        return self.batch_size * self._micro_batches_per_update

    @property
    def _micro_batches_per_update(self) -> int:
        return self.accumulate * self.ranks

    def update(self, number: int) -> list[int]:
        """Return the samples of update `number` on all ranks, ascending."""
        return sorted(index for samples in self._update(number) for index in samples.tolist())

    def micro_batches(self, number: int, rank: int) -> list[MicroBatch]:
        """Return the `accumulate` micro-batches of `rank` in update `number`, in order."""
        update = self._update(number)
        update_targets = int(sum(self._targets[samples].sum() for samples in update))
        own = (update[turn * self.ranks + rank] for turn in range(self.accumulate))
        return [MicroBatch(tuple(samples.tolist()), number, update_targets) for samples in own]

    def updates_for(self, epochs: float) -> int:
        """Return the number of updates that `epochs` passes over the data take, at least one."""
        samples = sum(size * weight for size, weight in self.mix) if self.mix else len(self.paths)
        wanted = epochs * samples
        seen = updates = epoch = 0
        while seen < wanted:
            ends = self._epoch(epoch).ends[self._micro_batches_per_update - 1 :: self._micro_batches_per_update]
            if seen + (ends[-1] if len(ends) else 0) >= wanted:
                return max(1, updates + int(np.searchsorted(ends, wanted - seen)) + 1)
            seen += int(ends[-1]) if len(ends) else 0
            updates += len(ends)
            epoch += 1
        return max(1, updates)

    @property
    def duplication_factor(self) -> float:
        """Tokens of separate samples per token of the micro-batches' trees, measured on the first epoch.

        At most `FIRST_UPDATES` updates are measured.
        """
        updates = range(min(FIRST_UPDATES, self.updates_for(1)))
        micro_batches = [samples for number in updates for samples in self._update(number)]
        alone = sum(self._groups.tokens_alone(samples) for samples in micro_batches)
        return alone / sum(self.cost(samples)[0] for samples in micro_batches)

    def tokens(self, samples: Sequence[int]) -> int:
        """Return the tokens of the tree of samples, given by index."""
        return self.cost(samples)[0]

    def cost(self, samples: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Return the tokens and the distinct images of the tree of samples, given by index."""
        return self._groups.cost(samples)

    def _update(self, number: int) -> list[np.ndarray]:
        """Return the samples of each micro-batch of update `number`; the ranks alternate."""
        count = self._micro_batches_per_update
        epoch = 0
        while number >= (updates := len(self._epoch(epoch).ends) // count):
            number -= updates
            epoch += 1
        return [self._epoch(epoch).micro_batch(number * count + index) for index in range(count)]

    def _epoch(self, epoch: int) -> _Epoch:
        while len(self._epochs) <= epoch:
            self._epochs.append(self._plan_epoch(len(self._epochs)))
        return self._epochs[epoch]

    def _plan_epoch(self, epoch: int) -> _Epoch:
        """Cut the next epoch into updates and these into micro-batches; keep what is left over."""
        visited = self.stream.epoch(epoch)
        pending = self._left_over
        left = int(np.diff(self._groups.starts)[visited].sum()) + _size(pending)
        groups = iter(visited.tolist())
        samples, ends = array("i"), array("q")
        while left >= self.update_size:
            chosen = self._choose_update(pending, groups)
            left -= _size(chosen)
            for micro_batch in self._split_evenly(chosen):
                for span in micro_batch:
                    samples.extend(self._groups.samples(span))
                ends.append(len(samples))
        self._left_over = [self._groups.span(group) for group in reversed(list(groups))] + pending
        return _Epoch(np.array(samples, np.int32), np.array(ends, np.int64))

    def _choose_update(self, pending: list[SampleSpan], groups: Iterator[int]) -> list[SampleSpan]:
        """Take the spans of the next update: pending ones first, from the end of the list, then whole groups.

        The last span is cut where the update is full or a limit is reached; its rest becomes pending.
        """
        chosen: list[SampleSpan] = []
        room = self.update_size
        while room and (span := self._next_span(pending, groups)):
            start, stop = span
            count = min(stop - start, room)
            while count and not self._keeps_limits([*chosen, (start, start + count)]):
                count //= 2
            if count:
                chosen.append((start, start + count))
            if start + count < stop:
                pending.append((start + count, stop))
            if not count:
                break
            room -= count
        return chosen

    def _next_span(self, pending: list[SampleSpan], groups: Iterator[int]) -> SampleSpan | None:
        if pending:
            return pending.pop()
        group = next(groups, None)
        return None if group is None else self._groups.span(group)

    def _keeps_limits(self, spans: Sequence[SampleSpan]) -> bool:
        """Return whether every micro-batch of an update of these spans keeps `max_tokens` and `max_images`."""
        if self.max_tokens is None and self.max_images is None:
            return True
        return all(self._is_within_limits(micro_batch) for micro_batch in self._split_evenly(spans))

    def _is_within_limits(self, micro_batch: Sequence[SampleSpan]) -> bool:
        upper_bound = np.sum([self._groups.span_cost(span) for span in micro_batch], axis=0)
        if (upper_bound <= self._limits).all():  # cheap to compute, and usually enough
            return True
        return all(np.less_equal(self._groups.cost_of_spans(micro_batch), self._limits))

    def _split_evenly(self, spans: Sequence[SampleSpan]) -> list[list[SampleSpan]]:
        """Distribute spans over the micro-batches of an update so that their trees have similar numbers of tokens.

        Spans are assigned in descending order of tokens, each to the micro-batch with the fewest tokens so far. If
        there are fewer spans than micro-batches, the longest are halved first, so that no micro-batch stays empty.
        """
        count = self._micro_batches_per_update
        parts = list(spans)
        while len(parts) < count and max(stop - start for start, stop in parts) > 1:
            longest = max(parts, key=lambda span: span[1] - span[0])
            parts.remove(longest)
            middle = longest[0] + (longest[1] - longest[0]) // 2
            parts += [(longest[0], middle), (middle, longest[1])]
        tokens = [0] * count
        micro_batches: list[list[SampleSpan]] = [[] for _ in range(count)]
        # Ties in tokens are broken by the samples' indices.
        weighed = ((int(self._groups.span_cost(span)[0]), self._groups.samples(span), span) for span in parts)
        for span_tokens, _, span in sorted(weighed, reverse=True):
            smallest = tokens.index(min(tokens))
            micro_batches[smallest].append(span)
            tokens[smallest] += span_tokens
        return micro_batches


def _size(spans: Sequence[SampleSpan]) -> int:
    """Return the number of samples of spans."""
    return sum(stop - start for start, stop in spans)
