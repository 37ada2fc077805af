"""Updates of prefix trees: every sample of an epoch once, within the limits, in trees of similar sizes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.data.tree_plan import TreePlan
from geotune.errors import ConfigError
from tests.geotune.references import tree_tokens

LIMITS = st.sampled_from([{}, {"max_tokens": 120}, {"max_images": 3}, {"max_tokens": 200, "max_images": 4}])
SPLITS = st.sampled_from([(8, 1, 1), (2, 2, 2), (4, 1, 2), (1, 2, 1)])


def tree_plan(
    places: int = 9, *, questions: int = 6, batch_size: int = 4, accumulate: int = 1, ranks: int = 1, **limits: Any
) -> TreePlan:
    """Places with a few questions: a root that all share, a view and two maps per place, and a text per question."""
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


@given(places=st.integers(4, 25), split=SPLITS, limits=LIMITS, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_every_epoch_of_trees_visits_every_sample(
    places: int, split: tuple[int, int, int], limits: dict[str, int], seed: int
) -> None:
    """Counts differ only by the samples at the end of an epoch, which open the next epoch."""
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


def test_trees_that_ranks_run_together_have_similar_sizes() -> None:
    plan = tree_plan(200, batch_size=120, ranks=2)
    for number in range(3):
        loads = [plan.cost(plan.micro_batches(number, rank)[0].indices)[0] for rank in range(2)]
        assert max(loads) < 1.1 * min(loads)


def test_larger_groups_share_more() -> None:
    factors = [tree_plan(20, batch_size=12, group_size=size).duplication_factor for size in (1, 2, 6)]
    assert 1 < factors[0] < factors[1] < factors[2]


def test_a_sample_beyond_the_limit_is_an_error() -> None:
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


def test_trees_are_mixed_by_weight() -> None:
    alone = tree_plan(30)
    half = alone.places.index(alone.places[len(alone.paths) // 2])  # a place is of one dataset
    mixed = tree_plan(30, mix=((half, 1.0), (len(alone.paths) - half, 0.25)))
    again = tree_plan(30, mix=((half, 1.0), (len(alone.paths) - half, 0.25)))
    shown = [index for number in range(mixed.updates_for(4)) for index in mixed.update(number)]
    assert shown == [index for number in range(again.updates_for(4)) for index in again.update(number)]
    counts = Counter(index >= half for index in shown)
    assert 0.15 < counts[True] / counts[False] < 0.4
