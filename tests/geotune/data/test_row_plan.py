"""Updates of separate samples: the same update however it is split, in micro-batches of similar lengths."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.data.row_plan import RowPlan
from geotune.data.stream import items_at


def plan_of(size: int, batch_size: int = 2, accumulate: int = 1, ranks: int = 1, seed: int = 0) -> RowPlan:
    lengths = np.random.default_rng(size).integers(5, 200, size).tolist()
    return RowPlan(lengths, [length % 7 + 1 for length in lengths], batch_size, accumulate, ranks, seed)


@given(
    size=st.integers(1, 40),
    start=st.integers(0, 10),
    more=st.integers(0, 6),
    split=st.sampled_from([(8, 1, 1), (2, 4, 1), (4, 1, 2), (2, 2, 2), (1, 8, 1), (1, 2, 4)]),
)
@settings(deadline=None, max_examples=40)
def test_updates_do_not_depend_on_how_they_are_split(
    size: int, start: int, more: int, split: tuple[int, int, int]
) -> None:
    whole, parts = plan_of(size, 8), plan_of(size, *split)
    batch_size, accumulate, ranks = split
    for update in range(start, start + more):
        micro = [m for rank in range(ranks) for m in parts.micro_batches(update, rank)]
        assert len(micro) == accumulate * ranks
        assert all(len(m.indices) == batch_size for m in micro)
        together = Counter(index for m in micro for index in m.indices)
        assert together == Counter(whole.update(update))
        total = sum(whole.targets[index] for index in whole.update(update))
        assert {m.update_targets for m in micro} == {total}


def test_micro_batches_hold_samples_of_similar_lengths() -> None:
    plan = plan_of(4000, 8, 8, 2)
    sorted_padding = random_padding = tokens = 0
    for update in range(10):
        for rank in range(2):
            for micro in plan.micro_batches(update, rank):
                lengths = [plan.lengths[index] for index in micro.indices]
                sorted_padding += max(lengths) * len(lengths) - sum(lengths)
                tokens += sum(lengths)
        shuffled = items_at(4000, 0, update * 128, (update + 1) * 128)
        for start in range(0, 128, 8):
            lengths = [plan.lengths[index] for index in shuffled[start : start + 8]]
            random_padding += max(lengths) * 8 - sum(lengths)
    assert sorted_padding < 0.1 * tokens
    assert random_padding > 0.5 * tokens


def test_ranks_run_similar_lengths_at_the_same_time() -> None:
    plan = plan_of(4000, 4, 4, 2)
    for first, second in zip(plan.micro_batches(0, 0), plan.micro_batches(0, 1), strict=True):
        shortest = min(plan.lengths[index] for index in first.indices)
        assert shortest >= max(plan.lengths[index] for index in second.indices)
        assert first.indices != second.indices
    assert plan.update_size == 32


@pytest.mark.parametrize("size", [1, 3])
def test_fewer_samples_than_an_update(size: int) -> None:
    plan = plan_of(size, 4, 2)
    assert len(plan.update(0)) == 8
    assert set(plan.update(0)) == set(range(size))


def test_datasets_without_tasks_come_up_evenly() -> None:
    ones = np.ones(480, int)
    plan = RowPlan(ones, ones, 48, 1, 1, 0, mix=((240, 1.0), (240, 0.5)))
    assert all(abs(int((np.array(plan.update(n)) < 240).sum()) - 32) <= 1 for n in range(15))
