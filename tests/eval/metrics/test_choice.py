from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.choice import choice_metrics, count_answers, divergence_from_uniform, normalized_entropy

COMPASS = ("N", "E", "S", "W")


def test_by_hand() -> None:
    gold = ["N", "N", "N", "E", "E", "S", "W", "W"]
    answers = ["N", "N", "E", "E", None, "N", "N", None]
    counts = count_answers(gold, answers, COMPASS)
    assert counts.tolist() == [[2, 1, 0, 0, 0], [0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [1, 0, 0, 0, 1]]
    figures = choice_metrics(counts)
    assert figures.n == 8
    assert figures.accuracy == 3 / 8  # of all questions: the two unparsed answers are wrong
    assert figures.parse_rate == 6 / 8
    assert figures.p_mode == pytest.approx(4 / 6)
    assert figures.a_mode == 3 / 8
    entropy = -(4 / 6 * math.log2(4 / 6) + 2 / 6 * math.log2(2 / 6))
    assert figures.h_norm == pytest.approx(entropy / 2)
    assert figures.d_kl == pytest.approx(2 - entropy)


def test_nothing_parsed() -> None:
    figures = choice_metrics(count_answers(["N", "E"], [None, None], COMPASS))
    assert (figures.accuracy, figures.parse_rate) == (0.0, 0.0)
    assert (figures.h_norm, figures.d_kl, figures.p_mode) == (None, None, None)


def test_always_the_same_and_perfectly_even() -> None:
    same = choice_metrics(count_answers(COMPASS, ["W"] * 4, COMPASS))
    assert (same.h_norm, same.d_kl, same.p_mode, same.accuracy) == (0.0, 2.0, 1.0, 0.25)
    even = choice_metrics(count_answers(COMPASS, COMPASS, COMPASS))
    assert (even.h_norm, even.d_kl, even.p_mode, even.accuracy) == (1.0, 0.0, 0.25, 1.0)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=9).filter(any))
def test_identity_of_entropy_and_divergence(counts: list[int]) -> None:
    shares = np.array(counts) / sum(counts)
    k = len(counts)
    h_norm, d_kl = normalized_entropy(shares), divergence_from_uniform(shares)
    assert d_kl == pytest.approx(math.log2(k) * (1 - h_norm), abs=1e-9)
    assert 0 <= h_norm <= 1
    assert 0 <= d_kl <= math.log2(k) + 1e-9


@given(
    st.lists(st.tuples(st.sampled_from(COMPASS), st.sampled_from([*COMPASS, None])), min_size=1, max_size=30),
    st.integers(0, 30),
)
def test_counts_add_over_processes(rows: list[tuple[str, str | None]], cut: int) -> None:
    def count(part: list[tuple[str, str | None]]) -> np.ndarray:
        return count_answers([gold for gold, _ in part], [answer for _, answer in part], COMPASS)

    whole = count(rows)
    assert whole.sum() == len(rows)
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    assert (sum(count(part) for part in parts) == whole).all()
    figures = choice_metrics(whole)
    assert figures.accuracy == pytest.approx(np.mean([gold == answer for gold, answer in rows]))
    assert figures.accuracy <= figures.parse_rate


def test_refuses_what_is_not_an_option() -> None:
    with pytest.raises(ValueError, match="NE"):
        count_answers(["NE"], ["N"], COMPASS)
    with pytest.raises(ValueError, match="None is not one of N"):
        count_answers([None], ["N"], COMPASS)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="up"):
        count_answers(["N"], ["up"], COMPASS)
    with pytest.raises(ValueError, match="answers to"):
        count_answers(["N"], [], COMPASS)
