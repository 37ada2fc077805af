from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_builders.questions.draw import balanced_choice, draw_others, generator, spread_labels


@given(groups=st.lists(st.integers(0, 6), max_size=60), n_labels=st.integers(1, 5), seed=st.integers(0, 99))
def test_labels_are_spread(groups: list[int], n_labels: int, seed: int) -> None:
    labels = spread_labels(groups, n_labels, generator(seed))
    assert len(labels) == len(groups)
    counts = [labels.count(label) for label in range(n_labels)]
    assert max(counts) - min(counts) <= 1
    for group in set(groups):
        held = Counter(label for label, other in zip(labels, groups, strict=True) if other == group)
        assert max(held.values()) <= -(-groups.count(group) // n_labels) + 1


def test_labels_of_whole_groups_are_a_permutation() -> None:
    labels = spread_labels([place for place in range(50) for _ in range(4)], 4, generator(0))
    orders = [tuple(labels[4 * place : 4 * place + 4]) for place in range(50)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(set(orders)) > 10


@given(n_maps=st.integers(1, 12), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_others_are_distinct_and_used_evenly(n_maps: int, count: int, seed: int) -> None:
    own = [item % n_maps for item in range(5 * n_maps)]
    drawn = draw_others(own, count, n_maps, lambda mine: np.flatnonzero(np.arange(n_maps) != mine), generator(seed))
    used = [0] * n_maps
    for mine, others in zip(own, drawn, strict=True):
        if n_maps - 1 < count:
            assert others is None
            continue
        assert others is not None
        assert len(set(others)) == count
        assert mine not in others
        for other in others:
            used[other] += 1
    assert max(used) - min(used) <= 2


def test_generators_differ_by_purpose() -> None:
    first, again, other = (int(generator(1, name).integers(0, 2**30)) for name in ("a", "a", "b"))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("n", "seed", "chosen"),
    [
        (10, 0, [3, 5, 9, 17, 25, 26, 27, 32, 33, 34]),
        (10, 1, [5, 10, 13, 19, 26, 28, 30, 31, 32, 34]),
        (25, 2, [*range(2, 7), 10, 12, 13, 14, 17, 19, *range(21, 25), 26, 27, 30, 31, 33, *range(35, 40)]),
    ],
)
def test_a_seed_always_chooses_the_same_items(n: int, seed: int, chosen: list[int]) -> None:
    """Datasets that are built again must hold the same questions."""
    answers = ["NNESNWE"[item % 7] for item in range(40)]
    places = [f"p{item * item % 11}" for item in range(40)]
    assert balanced_choice(answers, places, n, generator(seed, "choose")) == chosen


@given(
    items=st.lists(st.tuples(st.sampled_from("NESW"), st.integers(0, 6)), max_size=60),
    n=st.integers(0, 70),
    seed=st.integers(0, 99),
)
def test_choices_are_even_over_answers_and_spread_over_places(items: list[tuple[str, int]], n: int, seed: int) -> None:
    answers, places = [answer for answer, _ in items], [place for _, place in items]
    chosen = balanced_choice(answers, places, n, generator(seed))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(n, len(items))
    taken, available = Counter(answers[item] for item in chosen), Counter(answers)
    for answer in available:
        assert taken[answer] == available[answer] or taken[answer] >= max(taken.values(), default=0) - 1
    used, held = Counter(items[item] for item in chosen), Counter(items)
    for answer, place in held:
        most = max(count for (other, _), count in used.items() if other == answer) if taken[answer] else 0
        assert used[answer, place] == held[answer, place] or used[answer, place] >= most - 1
