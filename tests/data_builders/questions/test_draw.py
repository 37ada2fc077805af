from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_builders.questions.draw import draw_others, generator, spread_labels


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
    drawn = draw_others(own, count, n_maps, lambda mine: np.arange(n_maps) != mine, generator(seed))
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
