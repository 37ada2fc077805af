from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.suites.subset import balanced_subset
from geotune.sample import Sample, Turn


def sample(index: int, gold: str, place: str) -> Sample:
    return Sample(id=f"s/{index}", images=(), turns=(Turn("user", "?"),), task="t", answer=gold, place=place)


def grid(places: int, golds: str = "NESW") -> list[Sample]:
    return [sample(p * len(golds) + i, gold, f"p{p}") for p in range(places) for i, gold in enumerate(golds)]


def test_even_over_gold_and_spread_over_places() -> None:
    chosen = balanced_subset(grid(30), 30, seed=0)
    assert sorted(Counter(s.answer for s in chosen).values()) == [7, 7, 8, 8]
    assert set(Counter(s.place for s in chosen).values()) == {1}  # every place once
    twice = balanced_subset(grid(10), 20, seed=0)
    assert set(Counter(s.place for s in twice).values()) == {2}
    assert set(Counter(s.answer for s in twice).values()) == {5}


def test_balances_a_lopsided_dataset() -> None:
    samples = [sample(i, "true" if i % 10 == 0 else "false", f"p{i}") for i in range(200)]
    assert Counter(s.answer for s in balanced_subset(samples, 30, seed=1)) == {"true": 15, "false": 15}
    # 20 true ones are all there are; the rest goes to the others.
    assert Counter(s.answer for s in balanced_subset(samples, 60, seed=1)) == {"true": 20, "false": 40}
    unbalanced = Counter(s.answer for s in balanced_subset(samples, 60, seed=1, balance=False))
    assert unbalanced["true"] < 15


def test_seed_decides_and_all_is_all() -> None:
    samples = grid(30)
    assert balanced_subset(samples, 20, seed=0) != balanced_subset(samples, 20, seed=1)
    assert balanced_subset(samples, 500, seed=0) == sorted(samples, key=lambda s: s.id)
    assert balanced_subset([], 5, seed=0) == []


@pytest.mark.parametrize(
    ("n", "seed", "balance", "chosen"),
    [
        (10, 0, True, [0, 9, 10, 17, 19, 20, 26, 29, 33, 38]),
        (10, 1, True, [0, 3, 12, 15, 16, 17, 20, 23, 31, 33]),
        (10, 0, False, [0, 1, 9, 17, 19, 20, 23, 28, 29, 37]),
        (
            25,
            2,
            True,
            [0, 2, 3, 5, 6, 7, 10, 12, *range(17, 21), 22, 24, 26, 27, *range(30, 39)],
        ),
        (25, 3, False, [0, 2, 3, 4, *range(9, 13), *range(15, 19), 20, 22, 23, 25, 26, 28, *range(30, 34), 35, 36, 38]),
    ],
)
def test_a_seed_always_chooses_the_same_samples(n: int, seed: int, balance: bool, chosen: list[int]) -> None:
    """Figures of two runs are comparable only if both are asked the same questions."""
    samples = [sample(i, "NNESNWE"[i % 7], f"p{i * i % 11}") for i in range(40)]
    subset = balanced_subset(samples, n, seed, balance=balance)
    assert {s.id for s in subset} == {f"s/{i}" for i in chosen}


def test_losing_a_place_changes_little() -> None:
    samples = grid(200)
    before = {s.id for s in balanced_subset(samples, 100, seed=0)}
    after = {s.id for s in balanced_subset([s for s in samples if s.place != "p7"], 100, seed=0)}
    assert len(before & after) >= 90


@given(
    st.lists(st.tuples(st.sampled_from("NESW"), st.integers(0, 6)), max_size=60, unique=False),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_order_of_the_file_does_not_matter(rows: list[tuple[str, int]], n: int, rng: random.Random) -> None:
    samples = [sample(i, gold, f"p{place}") for i, (gold, place) in enumerate(rows)]
    chosen = balanced_subset(samples, n, seed=3)
    assert len(chosen) == min(n, len(samples))
    rng.shuffle(samples)
    assert balanced_subset(samples, n, seed=3) == chosen
    golds, available = Counter(s.answer for s in chosen), Counter(s.answer for s in samples)
    # Even, except where a gold answer ran out.
    for gold in available:
        assert golds[gold] == available[gold] or golds[gold] >= max(golds.values()) - 1
