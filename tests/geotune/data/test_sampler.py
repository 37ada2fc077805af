"""The sampler continues where it stopped; updates of either plan keep the data's mix of tasks and datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geotune.data.row_plan import RowPlan
from geotune.data.sampler import UpdateSampler, task_tolerance
from geotune.data.stream import Stream
from geotune.data.tree_plan import TreePlan


def test_resumed_sampler_goes_on_where_it_stopped() -> None:
    lengths = np.random.default_rng(13).integers(5, 200, 13).tolist()
    plan = RowPlan(lengths, [length % 7 + 1 for length in lengths], 2, 2, 1, 0)
    whole = list(UpdateSampler(plan, rank=0, start=0, stop=9))
    rest = UpdateSampler(plan, rank=0, start=4, stop=9)
    assert len(whole) == 18
    assert len(rest) == 10
    assert list(rest) == whole[8:]


ASKED = (0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4)
"""Tasks of a place's twelve questions."""


def task_plan(places: int, *, tree: bool, batch_size: int, **more: Any) -> RowPlan | TreePlan:
    """Places with the same questions; in a tree, three groups of four questions that share an image."""
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
    """Separate samples: within two; trees: within one group of four, because compositions have no task in common."""
    plan = task_plan(200, tree=tree, batch_size=batch_size)
    share = np.array([1, 1, 4, 4, 2]) / 12
    seen = np.zeros(5)
    for number in range(plan.updates_for(2)):
        counts = np.bincount(plan.tasks[plan.update(number)], minlength=5)
        seen += counts
        assert (np.abs(counts - batch_size * share) < (4 if tree else 2)).all()
        assert (np.abs(seen - batch_size * (number + 1) * share) < (4 if tree else 2)).all()
    assert task_tolerance(plan) < (2 if tree else 1) / batch_size


def test_a_plain_shuffle_would_mix_tasks_unevenly() -> None:
    plan = task_plan(200, tree=True, batch_size=48)
    assert isinstance(plan, TreePlan)
    plan.stream = Stream(plan.stream.sizes, (1.0,), 0)
    assert task_tolerance(plan) > 6 / 48


def test_a_mix_keeps_each_datasets_tasks() -> None:
    plan = task_plan(40, tree=False, batch_size=48, mix=((240, 1.0), (240, 0.5)))
    for number in range(plan.updates_for(2)):
        chosen = np.array(plan.update(number))
        assert abs(int((chosen < 240).sum()) - 32) <= 1
        counts = np.bincount(plan.tasks[chosen], minlength=5)
        assert (np.abs(counts - 48 * np.array([1, 1, 4, 4, 2]) / 12) <= 2).all()
    assert task_tolerance(plan) <= 2 / 48


def test_trees_of_each_dataset_come_up_evenly() -> None:
    """Groups of the same tasks are told apart by their dataset."""
    plan = task_plan(80, tree=True, batch_size=48, mix=((480, 1.0), (480, 0.5)))
    for number in range(plan.updates_for(2)):
        assert abs(int((np.array(plan.update(number)) < 480).sum()) - 32) <= 4
