"""The final answer of a text: outside of thoughts and calls of tools, inside answer tags and boxes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.final_answer import final_answer, find_answer

OPEN_THOUGHTS = ["<think>", "<Thinking>", "< thought >", "<reasoning>", '<think step="1">', "[THINK]", "◁think▷"]
CLOSED_THOUGHTS = ["</think>", "</Thinking>", "</ thought >", "</reasoning>", "</think>", "[/THINK]", "◁/think▷"]
OPEN_THOUGHTS += ["<|begin_of_thought|>", "<|channel|>analysis<|message|>"]
CLOSED_THOUGHTS += ["<|end_of_thought|>", "<|end|>"]
THOUGHTS = list(zip(OPEN_THOUGHTS, CLOSED_THOUGHTS, strict=True))
MARKS = [
    ("<answer>", "</answer>"),
    ("<ANSWER>", "</ANSWER>"),
    ("< answer >", "</ answer>"),
    ("<final_answer>", "</final_answer>"),
    ("<SOLUTION>", "</SOLUTION>"),
    ('<answer type="json">', "</answer>"),
    ("<|begin_of_box|>", "<|end_of_box|>"),
    ("\\boxed{", "}"),
    ("<answer>\\boxed{", "}</answer>"),
    ("<|channel|>final<|message|>", "<|return|>"),
]
ENDS = ["<|im_end|>", "</s>", "<|endoftext|>", "<end_of_turn>", "<|eot_id|>\n", "</s></s> \n", "\n"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a <answer> b </answer> c", " b "),
        ("<ANSWER>a</ANSWER> <answer>b", "b"),
        ("<answer>a</answer> <answer></answer>", "a"),
        ("<answer>a</answer> <answer></answer> b", "a"),
        ("<answer></answer> a", " a"),
        ("<answer>...</answer> a", " a"),
        ("a <answer></answer>", ""),
        ("a <answer>", ""),
        ("a <answer> ", ""),
        ("<answer><answer>a</answer></answer>", "a"),
        ("<think>a</think>b", "b"),
        ("<think>a <answer>b</answer></think> c", " c"),
        ("<think>a</think> ", ""),
        ("<think>a</think> <think>b</think> c", " c"),
        ("<think>a <think>b</think> c</think> d", " d"),
        ("a</think>b", "b"),
        ("<answer>a</answer> b</think>c", "c"),
        ("a <think>b", ""),
        ("<answer>a</answer> <think>b", "a"),
        ("<answer>a <think>b", ""),
        ("<answer><think>a</think>b</answer> c", "b"),
        ("</answer> a", " a"),
        ("a</answer> b", "a"),
        ("<answer>a</answer> or <answer>b</answer>", "a" + " " * 9 + " or " + " " * 8 + "b"),
        ("<answer>a</answer>, no: <answer>b</answer>", "b"),
        ("\\boxed{a} or \\boxed{b}", "\\boxed{a} or \\boxed{b}"),
        ("x\ny = \\boxed{a},\nz = \\boxed{b} N.\nw", "y = \\boxed{a},\nz = \\boxed{b} N."),
        ("\\boxed{a}\n\nNo.\n\n\\boxed{b}", "b"),
        ("<answer>a</answer> vs. <answer>b</answer>", "a" + " " * 9 + " vs. " + " " * 8 + "b"),
        ("maybe \\boxed{a}", "maybe \\boxed{a}"),
        ("\\boxed{a}, maybe b", "\\boxed{a}, maybe b"),
        ("I rule out \\boxed{a}.", "I rule out \\boxed{a}."),
        ("It is unlikely to be \\boxed{a}", "It is unlikely to be \\boxed{a}"),
        ("It is not b. So it is \\boxed{a}. Not b.", "a"),
        ("<analysis>a</analysis>b", "b"),
        ("<draft>a</draft>b", "b"),
        ("<|thinking|>a<|/thinking|>b", "b"),
        ("[thinking]a[/thinking]b", "b"),
        ("[REASONING]a <answer>c</answer>[/REASONING]b", "b"),
        ("[Reasoning] a\n[Answer] b", "[Reasoning] a\n[Answer] b"),
        ("<!-- <answer>a</answer> -->b", "\n" + " " * 26 + "b"),
        ("<!-- a -->", ""),
        ("a <!-- b", "a <!-- b"),
        ("a --> b", "a --> b"),
        ("It is not $\\boxed{a}$.", "It is not $\\boxed{a}$."),
        ("\\boxed{37^\\circ} W", "\\boxed{37^\\circ} W"),
        ("\\boxed{\\text{a}}. The sun is in the south.", "\\text{a}"),
        ('\\boxed{{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
        ("\\boxed{} a", " a"),
        ("\\boxed{a", "a"),
        (
            "I write `<answer>` tags, '<think>' and \"</think>\": a",
            "I write `<answer>` tags, '<think>' and \"</think>\": a",
        ),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "b"),
        ("<|channel|>analysis<|message|>a", ""),
        ('<tool_call>{"name": "submit_answer", "arguments": {"a": 1}}</tool_call>', None),
        ('<tool_call>{"name": "answer", "arguments": {"a": 1}}', None),
        ('<tool_call>{"name": "zoom", "arguments": {"a": 1}}</tool_call>', ""),
        ('<tool_call>{"name": "verify_answer", "arguments": {"a": 1}}</tool_call>', ""),
        ('<tool_response>{"name": "answer", "a": 1}</tool_response>', ""),
        ("a<|im_end|>\n<|im_start|>user\nb", "a"),
        ("<|im_start|>a", "<|im_start|>a"),
        ("<think>a<|im_end|>b</think>c", ""),
        ("", ""),
        (" ", ""),
    ],
)
def test_the_table_of_the_module(text: str, answer: str | None) -> None:
    expected = text.removeprefix("<tool_call>").removesuffix("</tool_call>") if answer is None else answer
    assert final_answer(text) == expected


def test_calls_of_tools_leave_what_stands_around_them() -> None:
    assert final_answer('a <tool_call>{"name": "zoom", "at": [1, 2]}</tool_call> b').split() == ["a", "b"]
    assert final_answer('a <tool_call>{"name": "zoom", "at": [1, 2]}').split() == ["a"]
    assert final_answer("<answer>a <tool_call>1</tool_call> b</answer>").split() == ["a", "b"]


WORDS = st.text(alphabet="ab 1.,\n{}[]\"'", max_size=12)
SAID = st.text(alphabet="ab 1.,\n[]:", max_size=12).map(lambda said: f"a{said}b")
DRAFT = st.lists(WORDS | st.sampled_from(["<answer>x</answer>", "\\boxed{x}", '{"a": "x"}', "<tool_call>x"])).map(
    "".join
)


@settings(deadline=None, max_examples=300)
@given(DRAFT, st.sampled_from(THOUGHTS), SAID, st.integers(0, 3), st.sampled_from(["", *ENDS]))
def test_nothing_in_thoughts_is_read(draft: str, tags: tuple[str, str], said: str, times: int, end: str) -> None:
    opening, closing = tags
    thought = f"{opening}{draft}{closing}\n"
    assert final_answer(thought * times + said + end).strip() == said
    assert final_answer(thought * times + thought) == final_answer(thought * times + opening + draft) == ""
    if "channel" not in opening:
        assert final_answer(f"{draft}{closing}\n{said}").strip() == said


@settings(deadline=None, max_examples=300)
@given(SAID, st.sampled_from(MARKS), SAID, SAID, st.sampled_from(["", *ENDS]))
def test_what_answer_tags_hold_is_the_answer(
    before: str, tags: tuple[str, str], said: str, after: str, end: str
) -> None:
    opening, closing = tags
    mark = opening + said + closing
    for text in (mark, f"{before}:\n\n{mark}", f"{mark}\n\nSee {after}", f"<think>{before}</think>\n{mark}"):
        assert final_answer(text + end).strip() == said
    cut_off = opening + said
    assert final_answer(f"{before}:\n\n{cut_off}").strip() == said


HOSTILE = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "\\boxed{",
    "}",
    "\\boxed{a}\n",
    "<tool_call>",
    "</tool_call>",
]
HOSTILE += [
    "<answer>a</answer>,",
    "<|channel|>final<|message|>",
    "<|end|>",
    "<!--",
    "-->",
    "[thinking]",
    "[/analysis]",
    "<think =",
    "`<answer>`",
    "<|im_end|>",
]
HOSTILE += [" ", "a", " or ", "not ", "\n", "</s>", "\\boxed{} ", "`<|im_end|>`", "[THINK]", "<", "\\", "{", "."]


@settings(deadline=None, max_examples=500)
@given(st.text() | st.lists(st.sampled_from(HOSTILE), max_size=12).map("".join))
def test_any_text_has_an_answer_within_it(text: str) -> None:
    answer = find_answer(text)
    assert 0 <= answer.start <= answer.start + len(answer.text) <= len(text)
    assert not answer.text or answer.text.strip()
    inside = text[answer.start : answer.start + len(answer.text)]
    assert all(there in (here, " ", "\n") for here, there in zip(inside, answer.text, strict=True))


@pytest.mark.parametrize(
    "piece", [*HOSTILE, " `<|im_end|>`", "\\boxed{a} ", "<think x", "{\\boxed{", "<answer>a", "<|channel|> a"]
)
def test_long_hostile_texts_take_little_time(piece: str) -> None:
    for text in (piece * (100_000 // len(piece)), " " * 50_000 + piece * (50_000 // len(piece))):
        began = time.process_time()
        find_answer(text)
        assert time.process_time() - began < 2
