from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.intervals import clustered_interval, student_quantile, wilson_interval


@pytest.mark.parametrize(("degrees", "table"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (30, 2.0423)])
def test_student_quantile_matches_tables(degrees: int, table: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(table, abs=0.004)


def test_wilson_interval_by_hand() -> None:
    # 8 of 10 at z = 1.96: the textbook's (0.490, 0.943).
    assert wilson_interval(0.8, 10, 1.96) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_one_answer_a_place_is_the_plain_interval() -> None:
    scores = [1.0] * 60 + [0.0] * 40
    low, high = clustered_interval(scores, range(100))
    # The cluster-robust variance carries G / (G - 1).
    assert (low, high) == pytest.approx(wilson_interval(0.6, 99, student_quantile(0.975, 99)), abs=1e-12)


def test_copies_of_an_answer_add_nothing() -> None:
    """Twelve questions per place that share one outcome are as informative as one question per place."""
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    once = clustered_interval(scores, range(8))
    assert clustered_interval(np.repeat(scores, 12), np.repeat(range(8), 12).tolist()) == pytest.approx(once)


def test_never_narrower_than_independent_answers() -> None:
    """Always answering N on four headings is right exactly once per place, so places do not vary at all."""
    scores = [1.0, 0.0, 0.0, 0.0] * 25
    clusters = [place for place in range(25) for _ in range(4)]
    independent = wilson_interval(0.25, 100, student_quantile(0.975, 24))
    assert clustered_interval(scores, clusters) == pytest.approx(independent)


def test_all_right_is_not_certain() -> None:
    low, high = clustered_interval([1.0] * 40, [place for place in range(10) for _ in range(4)])
    assert high == 1.0
    assert 0.6 < low < 0.75
    assert clustered_interval([1.0] * 4, ["one"] * 4) == (0.0, 1.0)


def test_strata_weigh_the_same_whatever_their_size() -> None:
    scores = [1.0] * 30 + [0.0] * 10
    tasks = ["a"] * 30 + ["b"] * 10
    low, high = clustered_interval(scores, range(40), tasks)
    assert low < 0.5 < high  # the mean of 100% and 0%, not 75%
    assert 0.5 - low == pytest.approx(high - 0.5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_holds_the_mean_and_ignores_order(rows: list[tuple[int, int, float]], random: object) -> None:
    clusters, tasks, scores = zip(*rows, strict=True)
    low, high = clustered_interval(scores, clusters, tasks)
    means = [np.mean([s for _, t, s in rows if t == task]) for task in set(tasks)]
    assert 0 <= low <= np.mean(means) + 1e-12
    assert np.mean(means) - 1e-12 <= high <= 1
    random.shuffle(rows)  # type: ignore[attr-defined]
    clusters, tasks, scores = zip(*rows, strict=True)
    assert clustered_interval(scores, clusters, tasks) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("share", [0.25, 0.9])
def test_covers_the_truth_on_simulated_places(share: float) -> None:
    """With 40 places of 8 correlated questions, 95% intervals contain the truth about 95% of the time.

    Intervals that treat the questions as independent do not.
    """
    rng = np.random.default_rng(0)
    correlation, places, questions, trials = 0.3, 40, 8, 300
    concentration = (1 - correlation) / correlation
    clusters = np.repeat(np.arange(places), questions).tolist()
    covered = naive = 0
    for _ in range(trials):
        rates = rng.beta(share * concentration, (1 - share) * concentration, places)
        scores = (rng.random((places, questions)) < rates[:, None]).astype(float).ravel()
        low, high = clustered_interval(scores, clusters)
        covered += low <= share <= high
        low, high = clustered_interval(scores, range(len(scores)))
        naive += low <= share <= high
    assert 0.9 <= covered / trials <= 0.99
    assert naive / trials < 0.85


def test_refuses_lists_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="clusters"):
        clustered_interval([1.0, 0.0], ["a"])
    with pytest.raises(ValueError, match="clusters"):
        clustered_interval([], [])
