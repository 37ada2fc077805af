"""The balanced choice of items: even over answers, spread over places, ties by the given order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.data.balance import choose_balanced


@pytest.mark.parametrize(
    ("uses_per_answer", "chosen"),
    [
        # N takes item 0 at place a. Counted over all answers, E then avoids place a; counted within E, it does not.
        (False, [0, 3, 4]),
        (True, [0, 1, 4]),
    ],
)
def test_uses_of_a_place_count_over_all_answers_or_within_each(uses_per_answer: bool, chosen: list[int]) -> None:
    answers, places = ["N", "E", "N", "E", "N"], ["a", "a", "a", "b", "c"]
    assert chosen == choose_balanced(
        answers, places, 3, answer_order=["N", "E"], tie_order=range(5), uses_per_answer=uses_per_answer
    )


def test_orders_decide_turns_and_ties() -> None:
    answers, places = ["N", "E", "N", "E"], ["a", "b", "c", "d"]
    assert choose_balanced(
        answers, places, 4, answer_order=["E", "N"], tie_order=[3, 2, 1, 0], uses_per_answer=False
    ) == [3, 2, 1, 0]
    assert choose_balanced(
        answers, places, 3, answer_order=["N", "E"], tie_order=[0, 1, 2, 3], uses_per_answer=False
    ) == [0, 1, 2]


def test_nothing_to_choose() -> None:
    for n in (0, 5):
        assert choose_balanced([], [], n, answer_order=[], tie_order=[], uses_per_answer=True) == []
    assert choose_balanced(["N"], ["a"], 0, answer_order=["N"], tie_order=[0], uses_per_answer=True) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("NESW"), st.integers(0, 6)), max_size=60),
    st.integers(0, 70),
    st.booleans(),
    st.data(),
)
def test_even_over_answers_and_spread_over_places(
    items: list[tuple[str, int]], n: int, uses_per_answer: bool, data: st.DataObject
) -> None:
    answers, places = [answer for answer, _ in items], [place for _, place in items]
    answer_order = data.draw(st.permutations(sorted(set(answers))))
    tie_order = data.draw(st.permutations(range(len(items))))
    chosen = choose_balanced(
        answers, places, n, answer_order=answer_order, tie_order=tie_order, uses_per_answer=uses_per_answer
    )
    assert len(chosen) == len(set(chosen)) == min(n, len(items))

    # Even over answers, except where an answer ran out.
    taken, available = Counter(answers[item] for item in chosen), Counter(answers)
    for answer in available:
        assert taken[answer] == available[answer] or taken[answer] >= max(taken.values(), default=0) - 1

    # Each choice takes a least-used place among the items of its answer that were left, first in the order of ties.
    used: Counter[tuple[str, int]] = Counter()
    left = set(range(len(items)))
    for item in chosen:
        rivals = [other for other in left if answers[other] == answers[item]]

        def key(other: int) -> tuple[int, int]:
            scope = answers[other] if uses_per_answer else ""
            return used[scope, places[other]], tie_order.index(other)

        assert min(rivals, key=key) == item
        used[answers[item] if uses_per_answer else "", places[item]] += 1
        left.remove(item)
