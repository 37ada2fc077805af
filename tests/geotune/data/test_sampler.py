"""The sampler is a pure function of seed, epoch and position, and the same update however it is split."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.data.paths import Paths
from geotune.data.row_plan import RowPlan
from geotune.data.sampler import UpdateSampler, task_tolerance
from geotune.data.stream import Stream, epoch_order, items_at, spread_evenly
from geotune.data.tree_plan import TreePlan
from geotune.encoding.prefix_tree import tree_tokens
from geotune.errors import ConfigError


def plan_of(size: int, batch_size: int = 2, accumulate: int = 1, ranks: int = 1, seed: int = 0) -> RowPlan:
    lengths = np.random.default_rng(size).integers(5, 200, size).tolist()
    return RowPlan(lengths, [length % 7 + 1 for length in lengths], batch_size, accumulate, ranks, seed)


@given(size=st.integers(1, 60), seed=st.integers(0, 5), epochs=st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_every_epoch_visits_every_sample_once(size: int, seed: int, epochs: int) -> None:
    seen = items_at(size, seed, 0, size * epochs)
    for epoch in range(epochs):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))
    assert seen == [int(i) for epoch in range(epochs) for i in epoch_order(size, seed, epoch)]


def test_seeds_and_epochs_differ() -> None:
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@given(kinds=st.lists(st.integers(0, 6), min_size=1, max_size=120), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=150)
def test_every_kind_comes_up_evenly(kinds: list[int], seed: int) -> None:
    """After any number of items each kind has come up as often as its share says, within the bound that is stated."""
    held, shuffle = np.array(kinds), np.random.default_rng(seed).permutation(len(kinds))
    order = spread_evenly(shuffle, held)
    assert sorted(order) == list(range(len(kinds)))
    counts = Counter(kinds)
    distinct = len(set(counts.values()))
    for kind, count in counts.items():
        assert [i for i in order if held[i] == kind] == [i for i in shuffle if held[i] == kind]
        seen = np.cumsum(held[order] == kind)
        share = np.arange(1, len(kinds) + 1) * count / len(kinds)
        assert (np.abs(seen - share) < 1 + distinct / 2 * count / len(kinds)).all()


def test_items_of_one_kind_stay_shuffled() -> None:
    order = epoch_order(200, 0, 0)
    assert spread_evenly(order, np.zeros(200, int)).tolist() == order.tolist()
    # Also where each is of a kind of its own.
    assert spread_evenly(order, np.arange(200)).tolist() == order.tolist()


def test_rare_kinds_do_not_stand_together() -> None:
    kinds = np.array([0] * 900 + list(range(1, 101)))
    order = spread_evenly(epoch_order(1000, 0, 0), kinds)
    at = np.flatnonzero(kinds[order] > 0)
    assert np.diff(at).max() <= 12


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


def test_resumed_sampler_goes_on_where_it_stopped() -> None:
    plan = plan_of(13, 2, 2, 1)
    whole = list(UpdateSampler(plan, accumulate=plan.accumulate, rank=0, start=0, stop=9))
    rest = UpdateSampler(plan, accumulate=plan.accumulate, rank=0, start=4, stop=9)
    assert len(whole) == 18
    assert len(rest) == 10
    assert list(rest) == whole[8:]


def test_micro_batches_hold_samples_of_like_length() -> None:
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


def test_ranks_work_on_like_lengths_at_the_same_time() -> None:
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


def tree_plan(
    places: int = 9, *, questions: int = 6, batch_size: int = 4, accumulate: int = 1, ranks: int = 1, **limits: Any
) -> TreePlan:
    """Places of a few questions: a shared root and a view of their own, two maps, and each question's own text."""
    rng = np.random.default_rng(places)
    sizes, images, paths, names = [10], [False], [], []
    for place in range(places):
        view = len(sizes)
        sizes += [20, 30, 30]
        images += [True] * 3
        for number in range(int(rng.integers(1, questions + 1))):
            sizes.append(int(rng.integers(5, 12)))
            images.append(False)
            paths.append((0, view, view + 1 + number % 2, len(sizes) - 1))
            names.append(f"place {place}")
    targets = [1 + index % 5 for index in range(len(paths))]
    settings_ = {"seed": 0, "group_size": 4} | limits
    return TreePlan(
        paths,
        np.array(sizes),
        np.array(images),
        targets,
        names,
        batch_size=batch_size,
        accumulate=accumulate,
        ranks=ranks,
        **settings_,
    )


LIMITS = st.sampled_from([{}, {"max_tokens": 120}, {"max_images": 3}, {"max_tokens": 200, "max_images": 4}])
SPLITS = st.sampled_from([(8, 1, 1), (2, 2, 2), (4, 1, 2), (1, 2, 1)])


@given(places=st.integers(4, 25), split=SPLITS, limits=LIMITS, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_every_epoch_of_trees_visits_every_sample(
    places: int, split: tuple[int, int, int], limits: dict[str, int], seed: int
) -> None:
    """Counts drift apart by what is left of an epoch, which opens the next, and by nothing else."""
    batch_size, accumulate, ranks = split
    plan = tree_plan(places, batch_size=batch_size, accumulate=accumulate, ranks=ranks, seed=seed, **limits)
    seen: Counter[int] = Counter(range(len(plan.paths)))
    for epoch in range(1, 4):
        for number in range(plan.updates_for(epoch - 1) if epoch > 1 else 0, plan.updates_for(epoch)):
            chosen = plan.update(number)
            seen.update(chosen)
            assert limits or len(chosen) == plan.update_size
            micro = [m for rank in range(ranks) for m in plan.micro_batches(number, rank)]
            assert len(micro) == accumulate * ranks
            assert all(m.indices for m in micro)
            assert sorted(index for m in micro for index in m.indices) == sorted(chosen)
            assert {m.update_targets for m in micro} == {sum(plan.targets[i] for i in chosen)}
            for m in micro:
                tokens, images = plan.cost(m.indices)
                assert tokens <= limits.get("max_tokens", np.inf)
                assert images <= limits.get("max_images", np.inf)
        counts = [times - 1 for times in seen.values()]
        assert epoch * len(plan.paths) <= sum(counts) < epoch * len(plan.paths) + plan.update_size
        if len(plan.paths) > plan.update_size:
            assert max(counts) - min(counts) <= 2


def test_tree_updates_do_not_depend_on_how_they_are_split() -> None:
    whole = tree_plan(30, batch_size=8)
    for batch_size, accumulate, ranks in ((2, 4, 1), (4, 1, 2), (2, 2, 2)):
        parts = tree_plan(30, batch_size=batch_size, accumulate=accumulate, ranks=ranks)
        for number in range(12):
            assert parts.update(number) == whole.update(number)


def test_a_tree_plan_is_a_function_of_seed_and_position() -> None:
    assert [tree_plan().update(n) for n in (17, 3)] == [tree_plan().update(n) for n in range(18)][17:2:-14]
    assert tree_plan(seed=1).update(0) != tree_plan(seed=0).update(0)


def test_trees_of_one_moment_are_alike() -> None:
    plan = tree_plan(200, batch_size=120, ranks=2)
    for number in range(3):
        loads = [plan.cost(plan.micro_batches(number, rank)[0].indices)[0] for rank in range(2)]
        assert max(loads) < 1.1 * min(loads)


def test_larger_groups_share_more() -> None:
    factors = [tree_plan(20, batch_size=12, group_size=size).duplication_factor for size in (1, 2, 6)]
    assert 1 < factors[0] < factors[1] < factors[2]


def test_tree_plans_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="max_tokens=30"):
        tree_plan(max_tokens=30)


def test_fewer_samples_than_an_update_takes() -> None:
    plan = tree_plan(2, accumulate=50)
    assert len(plan.update(0)) == plan.update_size
    assert all(m.indices for m in plan.micro_batches(0, 0))


@given(chosen=st.lists(st.integers(0, 29), min_size=1, max_size=12), places=st.integers(8, 20))
@settings(deadline=None, max_examples=40)
def test_the_cost_of_a_tree_is_that_of_its_slow_twin(chosen: list[int], places: int) -> None:
    plan = tree_plan(places, questions=8)
    chosen = [index % len(plan.paths) for index in chosen]
    tokens, images = plan.cost(chosen)
    assert tokens == tree_tokens([plan.paths[index] for index in chosen], plan.sizes)
    shown = {segment for index in chosen for segment in plan.paths[index] if plan.is_image[segment]}
    assert images == len(shown)


ASKED = (0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4)
"""Tasks of a place's twelve questions."""


def task_plan(places: int, *, tree: bool, batch_size: int, **more: Any) -> RowPlan | TreePlan:
    """Places that are all asked the same: in a tree, three groups of four questions that share an image."""
    n = places * len(ASKED)
    tasks = np.tile(ASKED, places)
    ones = np.ones(n, int)
    if not tree:
        return RowPlan(ones, ones, batch_size, 1, 1, 0, tasks=tasks, **more)
    place, question = np.arange(n) // 12, np.arange(n) % 12
    paths = np.stack([place, places + 3 * place + question // 4, 4 * places + np.arange(n)], axis=1)
    sizes = np.ones(int(paths.max()) + 1, int)
    return TreePlan(paths, sizes, sizes > 1, ones, place, batch_size, 1, 1, 0, 4, tasks=tasks, **more)


@pytest.mark.parametrize("batch_size", [20, 48, 50])
@pytest.mark.parametrize("tree", [True, False])
def test_updates_keep_the_mix_of_tasks(tree: bool, batch_size: int) -> None:
    """Within a sample by themselves; in trees within a group of four of each make-up, which meet in no task."""
    plan = task_plan(200, tree=tree, batch_size=batch_size)
    share = np.array([1, 1, 4, 4, 2]) / 12
    seen = np.zeros(5)
    for number in range(plan.updates_for(2)):
        counts = np.bincount(plan.tasks[plan.update(number)], minlength=5)
        seen += counts
        assert (np.abs(counts - batch_size * share) < (4 if tree else 2)).all()
        assert (np.abs(seen - batch_size * (number + 1) * share) < (4 if tree else 2)).all()
    assert task_tolerance(plan) < (2 if tree else 1) / batch_size


def test_without_it_tasks_would_come_up_as_chance_has_it() -> None:
    plan = task_plan(200, tree=True, batch_size=48)
    assert isinstance(plan, TreePlan)
    plan.stream = Stream(plan.stream.sizes, (1.0,), 0)
    assert task_tolerance(plan) > 6 / 48


def test_flat_paths_are_the_paths() -> None:
    lists = [(3, 1), (), (5,), (0, 1, 2)]
    paths = Paths.of(lists)
    assert list(paths) == lists
    assert paths.padded().tolist() == [[3, 1, -1], [-1, -1, -1], [5, -1, -1], [0, 1, 2]]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    weights=st.lists(st.sampled_from([0.25, 0.7, 1.0, 2.0]), min_size=3, max_size=3),
    seed=st.integers(0, 2),
)
@settings(deadline=None, max_examples=40)
def test_a_mix_shows_each_dataset_by_its_weight(sizes: list[int], weights: list[float], seed: int) -> None:
    stream = Stream(tuple(sizes), tuple(weights[: len(sizes)]), seed)
    seen = Counter(item for epoch in range(4) for item in stream.epoch(epoch).tolist())
    first = 0
    for size, weight in zip(stream.sizes, stream.weights, strict=True):
        counts = [seen[item] for item in range(first, first + size)]
        assert sum(counts) == round(4 * weight * size)
        assert max(counts) - min(counts) <= 1  # every item as often as any other
        first += size
    whole = [item for epoch in range(4) for item in stream.epoch(epoch).tolist()]
    assert stream.items(0, len(whole)) == whole
    assert stream.items(len(whole) // 3, len(whole) // 2) == whole[len(whole) // 3 : len(whole) // 2]


def test_a_mix_keeps_each_datasets_tasks() -> None:
    plan = task_plan(40, tree=False, batch_size=48, mix=((240, 1.0), (240, 0.5)))
    for number in range(plan.updates_for(2)):
        chosen = np.array(plan.update(number))
        assert abs(int((chosen < 240).sum()) - 32) <= 1
        counts = np.bincount(plan.tasks[chosen], minlength=5)
        assert (np.abs(counts - 48 * np.array([1, 1, 4, 4, 2]) / 12) <= 2).all()
    assert task_tolerance(plan) <= 2 / 48


def test_datasets_without_tasks_come_up_evenly() -> None:
    ones = np.ones(480, int)
    plan = RowPlan(ones, ones, 48, 1, 1, 0, mix=((240, 1.0), (240, 0.5)))
    assert all(abs(int((np.array(plan.update(n)) < 240).sum()) - 32) <= 1 for n in range(15))


def test_trees_of_each_dataset_come_up_evenly() -> None:
    """Their groups ask the same: only the dataset tells them apart."""
    plan = task_plan(80, tree=True, batch_size=48, mix=((480, 1.0), (480, 0.5)))
    for number in range(plan.updates_for(2)):
        assert abs(int((np.array(plan.update(number)) < 480).sum()) - 32) <= 4


def test_one_dataset_alone_is_visited_as_ever() -> None:
    assert Stream((20,), (1.0,), 3).epoch(2).tolist() == epoch_order(20, 3, 2).tolist()


def test_trees_are_mixed_by_weight() -> None:
    alone = tree_plan(30)
    half = alone.places.index(alone.places[len(alone.paths) // 2])  # a place is of one dataset
    mixed = tree_plan(30, mix=((half, 1.0), (len(alone.paths) - half, 0.25)))
    again = tree_plan(30, mix=((half, 1.0), (len(alone.paths) - half, 0.25)))
    shown = [index for number in range(mixed.updates_for(4)) for index in mixed.update(number)]
    assert shown == [index for number in range(again.updates_for(4)) for index in again.update(number)]
    counts = Counter(index >= half for index in shown)
    assert 0.15 < counts[True] / counts[False] < 0.4
