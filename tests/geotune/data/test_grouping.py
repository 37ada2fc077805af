"""Groups of a place's questions: every question once, whole branches, trees of similar sizes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.data.grouping import BALANCED_AT_ONCE, Grouping
from tests.geotune.references import tree_tokens

PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=60)
SIZES = np.array([50, 7, 300, 20])


def groups_of(paths: list[tuple[int, ...]], size: int, sizes: np.ndarray = SIZES) -> list[list[int]]:
    """The groups of sorted paths."""
    shared = [0, *(_shared(a, b) for a, b in pairwise(paths))]
    tokens = [[int(sizes[list(path[depth:])].sum()) for depth in range(len(path) + 1)] for path in paths]
    return Grouping(shared, tokens, size).groups()


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    same = [x == y for x, y in zip(a, b, strict=False)]
    return next((depth for depth, equal in enumerate(same) if not equal), len(same))


@given(paths=PATHS, size=st.integers(1, 14))
@settings(deadline=None, max_examples=150)
def test_every_question_is_in_one_group(paths: list[tuple[int, ...]], size: int) -> None:
    groups = groups_of(sorted(paths), size)
    assert sorted(at for group in groups for at in group) == list(range(len(paths)))
    assert all(0 < len(group) <= size and group == sorted(group) for group in groups)
    if len(paths) <= size:
        assert len(groups) == 1


def view(number: int, first: int, rng: np.random.Generator) -> tuple[list[tuple[int, ...]], dict[int, int]]:
    """39 questions as GeoX-Bench asks them: paths, and tokens of the segments from `first` on."""
    crops, full = range(first + 1, first + 10), first + 10
    sizes = {first: 324, **dict.fromkeys(crops, 144), full: 324}
    paths: list[tuple[int, ...]] = []

    def ask(*shown: int) -> None:
        question = first + 11 + len(paths)
        sizes[question] = int(rng.integers(70, 120))
        paths.append((0, first, *shown, question))

    for crop in crops:
        for _ in range(3):
            ask(crop)
        others = tuple(first + 100 + 4 * (crop - first) + number for number in range(3))
        sizes |= dict.fromkeys(others, 144)
        ask(*others[:2], crop, others[2]) if crop % 2 else ask(crop, *others)
    others = tuple(first + 200 + number for number in range(3))
    sizes |= dict.fromkeys(others, 324)
    ask(*others, full)
    ask(full)
    ask(full)
    return sorted(paths), sizes


def test_groups_of_a_view_have_similar_sizes_and_share_as_much_as_cuts_every_thirteen() -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        paths, known = view(number, 1, rng)
        sizes = np.zeros(max(known) + 1, int)
        sizes[0] = 34
        for segment, tokens in known.items():
            sizes[segment] = tokens
        groups = groups_of(paths, 13, sizes)
        cost = [tree_tokens([paths[at] for at in group], sizes) for group in groups]
        cut = [tree_tokens(paths[at : at + 13], sizes) for at in range(0, 39, 13)]
        assert [len(group) for group in groups] == [13, 13, 13]
        assert sum(cost) <= sum(cut) + 144, "at most one crop more is read twice"
        whole = {path[2] for path in paths if sum(other[2] == path[2] for other in paths) == 3}
        for crop in whole:
            assert len({number for number, group in enumerate(groups) for at in group if paths[at][2] == crop}) == 1
        assert max(cost) <= 1.05 * min(cost)
        assert max(cut) > 1.15 * min(cut)


def test_views_of_a_place_stay_apart() -> None:
    rng = np.random.default_rng(1)
    paths = [path for number in range(4) for path in view(number, 1 + 2000 * number, rng)[0]]
    groups = groups_of(paths, 13, np.ones(12_000, int))
    assert len(groups) == 12
    assert all(len({paths[at][1] for at in group}) == 1 for group in groups)


def test_a_place_may_have_any_number_of_questions() -> None:
    """Thousands of branches under one image: groups are balanced some at a time, among neighboring branches."""
    paths = [(0, number % 3000 + 4, number) for number in range(30_000)]
    paths.sort()
    sizes = np.ones(30_001, int)
    groups = groups_of(paths, 13, sizes)
    assert len(groups) <= math.ceil(len(paths) / 13 * 1.05)
    assert max(group[-1] - group[0] for group in groups) <= (BALANCED_AT_ONCE + 1) * 13


def test_large_groups_of_many_branches() -> None:
    """The number of branches that are considered for an exchange does not grow with the group."""
    paths = [(0, number, number) for number in range(1, 601)]
    sizes = np.random.default_rng(0).integers(1, 100, 601)
    groups = groups_of(paths, 256, sizes)
    cost = [sum(int(sizes[list(paths[at][1:])].sum()) for at in group) for group in groups]
    assert len(groups) == 3
    assert max(cost) <= 1.01 * min(cost)
