"""The reader of careless JSON: what it finds, what it decides, and that hostile text neither breaks nor stalls it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.final_answer import answer_span, without_open_thought
from geotune.tasks.json_nodes import JsonNode, Scalar, Status
from geotune.tasks.json_reading import plain_punctuation, read_objects

WANTED = frozenset({"direction"})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def values(text: str, key: str = "direction") -> list[str]:
    """The strings under `key` in the object that gives the final answer."""
    reading = read_objects(text, frozenset({key}))
    final = reading.final_objects((key,)) or []
    members = [member for node in final for member in node.members() if member.key == key]
    return [reading.string(member.value) for member in members if isinstance(member.value, Scalar)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"direction": "N"}', ["N"]),
        ("{'direction': 'N'}", ["N"]),
        ("{direction: N}", ["N"]),
        ("{'direction': 'it's N'}", ["it's N"]),
        ('{"direction": "the "N" side"}', ['the "N" side']),
        ('{"note": "say "go", or not", "direction": "N"}', ["N"]),
        ('{"direction": "N",}', ["N"]),
        ('{"direction": "N" "x": 1}', ['N" "x']),  # ends broken: whoever reads it looks at what follows
        ('{"direction": "N"\n "x": 1}', ["N"]),
        ('```json\n{"direction": "N"\n```', ["N"]),
        ('{"direction": "N", "direction": "S"}', ["N", "S"]),
        ('{"Direction ": "N"}', ["N"]),
        ('{"direction": "a\\"b\\u00e9\\n"}', ['a"b\u00e9']),
        ('{"direction": "\\ud800"}', ["?"]),
        ("{'direction': 'it\\'s \"N\"'}", ['it\'s "N"']),
        ('{"a": {"direction": "N"}}', ["N"]),
        ('{"direction": "S", "a": {"direction": "N"}}', ["S"]),
        ('{"a": "{\'direction\': \'S\'}", "direction": "N"}', ["N"]),
        ('{"direction": "S"} no, {"direction": "N"}', ["N"]),
        ('{"direction": "S", "a": \n{"direction": "N"}', ["N"]),
        ('{"direction": "S"}, {"direction": "N"}', ["N"]),
        ('[{"direction": "S"}, {"direction": "N"}]', ["S", "N"]),
        ('{it is } {"direction": "N"}', ["N"]),
        ('{"heading": "N"}', []),
        ("no JSON", []),
    ],
)
def test_final_object(text: str, expected: list[str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"a": 1}', Status.CLOSED),
        ('{"a": [1, 2,]}', Status.CLOSED),
        ('{"a": 1', Status.CUT),
        ('{"a": true', Status.CUT),
        ('{"a": 1\n```', Status.CUT),
        ('{"a": "1', Status.CUT),
        ('{"a', Status.CUT),
        ("{", Status.CUT),
        ('{"a": 1 or 2: 3}', Status.BROKEN),
        ("{{}}", Status.BROKEN),
        ("{[]}", Status.BROKEN),
        ('{"a": [1 {}]}', Status.BROKEN),
    ],
)
def test_how_an_object_ends(text: str, status: Status) -> None:
    assert read_objects(text, frozenset()).nodes[0].status is status


def test_a_value_that_breaks_off_is_incomplete() -> None:
    for text in (
        '{"direction": ',
        '{"direction": "top',
        '{"direction": top',
        '{"direction": }',
        '{"a": {"direction": "x',
    ):
        reading = read_objects(text, WANTED)
        assert reading.final_objects(("direction",)) == []
        assert reading.nodes[0].incomplete


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=4), st.integers(0, 2))
def test_valid_json_is_read_as_json_reads_it(content: dict[str, object], indent: int) -> None:
    content = {**content, "direction": "N"}
    text = json.dumps(content, ensure_ascii=bool(indent % 2), indent=indent or None)
    node = read_objects(text, WANTED).nodes[0]
    assert (node.start, node.end, node.status) == (0, len(text), Status.CLOSED)
    assert len(list(node.members())) == len(content)


@settings(deadline=None, max_examples=150)
@given(st.text())
def test_strings_survive(content: str) -> None:
    expected = content.encode("utf-8", "replace").decode().strip()
    for ascii_only in (True, False):
        assert values(json.dumps({"direction": content}, ensure_ascii=ascii_only)) == [expected]


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="{}[]:,=\"'\\ \nab<`/1") | st.text())
def test_any_text_gives_nodes_within_it(text: str) -> None:
    for node in read_objects(text, frozenset({"a", "b"})).nodes:
        assert 0 <= node.start < node.end <= len(text)
        for member in node.members():
            if isinstance(member.value, Scalar | JsonNode):
                assert node.start < member.value.start <= member.value.end <= node.end
    start, end = answer_span(text)
    assert 0 <= start <= end <= len(text)
    assert len(plain_punctuation(text)) == len(text)
    assert text.startswith(without_open_thought(text))


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
def test_where_the_answer_stands(text: str, answer: str) -> None:
    start, end = answer_span(text)
    assert text[start:end] == answer


def test_a_thought_without_an_end_is_no_answer() -> None:
    assert without_open_thought("a <think> b") == "a "
    assert without_open_thought("<think>a</think> b <think> c") == "<think>a</think> b "
    assert without_open_thought("<think>a</think> b") == "<think>a</think> b"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 30_000,
        '{"' * 15_000,
        '{"direction":' * 10_000,
        '{"direction":' * 8_000 + '"N"' + "}" * 8_000,
        '{"' * 8_000 + '": ' + '1,"direction":' * 8_000 + '"N"}',
        '{"' * 10_000 + '":' + " " * 10_000,
        '["' * 10_000 + '"' + " " * 10_000,
        ("'" + " " * 20) * 5_000,
        "\\" * 60_000,
    ],
    ids=lambda text: text[:16],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    began = time.perf_counter()
    read_objects(text, WANTED).final_objects(("direction",))
    # well under a second when linear; minutes when quadratic
    assert time.perf_counter() - began < 8
