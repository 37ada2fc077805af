"""The position of the final answer: after the thoughts and inside the answer tag."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.final_answer import answer_span, without_open_thought


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a <answer> b </answer> c", " b "),
        ("<ANSWER>a</ANSWER> <answer>b", "b"),
        ("<answer>a</answer> <answer></answer>", "a"),
        ("<think>a</think>b", "b"),
        ("<think>a <answer>b</answer></think> c", " c"),
        ("<think>a</think> ", "<think>a</think> "),
        ("</answer> a", "</answer> a"),
        ("", ""),
    ],
)
def test_span_of_the_answer(text: str, answer: str) -> None:
    start, end = answer_span(text)
    assert text[start:end] == answer


def test_an_open_thought_is_cut_off() -> None:
    assert without_open_thought("a <think> b") == "a "
    assert without_open_thought("<think>a</think> b <think> c") == "<think>a</think> b "
    assert without_open_thought("<think>a</think> b") == "<think>a</think> b"


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="{}[]:,=\"'\\ \nab<`/1") | st.text() | st.text(alphabet="<>/ answerthink"))
def test_any_text_has_a_span_within_it(text: str) -> None:
    start, end = answer_span(text)
    assert 0 <= start <= end <= len(text)
    assert text.startswith(without_open_thought(text))
