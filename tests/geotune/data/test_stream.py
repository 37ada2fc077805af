"""The order of an epoch: every item once, every stratum evenly, every dataset by its weight."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.data.stream import Stream, epoch_order, items_at, spread_evenly


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


@given(strata=st.lists(st.integers(0, 6), min_size=1, max_size=120), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=150)
def test_every_stratum_comes_up_evenly(strata: list[int], seed: int) -> None:
    """After any number of items, each stratum has come up as often as its share says, within the stated bound."""
    held, shuffle = np.array(strata), np.random.default_rng(seed).permutation(len(strata))
    order = spread_evenly(shuffle, held)
    assert sorted(order) == list(range(len(strata)))
    counts = Counter(strata)
    distinct = len(set(counts.values()))
    for stratum, count in counts.items():
        assert [i for i in order if held[i] == stratum] == [i for i in shuffle if held[i] == stratum]
        seen = np.cumsum(held[order] == stratum)
        share = np.arange(1, len(strata) + 1) * count / len(strata)
        assert (np.abs(seen - share) < 1 + distinct / 2 * count / len(strata)).all()


def test_items_of_one_stratum_stay_shuffled() -> None:
    order = epoch_order(200, 0, 0)
    assert spread_evenly(order, np.zeros(200, int)).tolist() == order.tolist()
    # The same holds if each item is a stratum of its own.
    assert spread_evenly(order, np.arange(200)).tolist() == order.tolist()


def test_small_strata_do_not_come_up_together() -> None:
    strata = np.array([0] * 900 + list(range(1, 101)))
    order = spread_evenly(epoch_order(1000, 0, 0), strata)
    at = np.flatnonzero(strata[order] > 0)
    assert np.diff(at).max() <= 12


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


def test_a_single_dataset_is_visited_in_the_plain_order() -> None:
    assert Stream((20,), (1.0,), 3).epoch(2).tolist() == epoch_order(20, 3, 2).tolist()
