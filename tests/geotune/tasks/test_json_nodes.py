"""The nodes of a text: the object that gives its final answer, and the strings of its scalars."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.json_nodes import Scalar
from geotune.tasks.json_reading import read_objects


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
        ('{"direction": "N" "x": 1}', ['N" "x']),  # a broken end: the task examines the text that follows
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
        ('{"direction": "S"}, {"direction": "N"}', ["S", "N"]),
        ('{"direction": "S"},\n{"direction": "N"}', ["S", "N"]),
        ('{"direction": "S"}\n{"direction": "N"}', ["N"]),
        ('[{"direction": "S"}, {"direction": "N"}]', ["S", "N"]),
        ('{it is } {"direction": "N"}', ["N"]),
        ('{"heading": "N"}', []),
        ("no JSON", []),
    ],
)
def test_final_object(text: str, expected: list[str]) -> None:
    assert values(text) == expected


def test_a_value_that_breaks_off_is_incomplete() -> None:
    for text in (
        '{"direction": ',
        '{"direction": "top',
        '{"direction": top',
        '{"direction": }',
        '{"a": {"direction": "x',
    ):
        reading = read_objects(text, frozenset({"direction"}))
        assert reading.final_objects(("direction",)) == []
        assert reading.nodes[0].incomplete


@settings(deadline=None, max_examples=150)
@given(st.text())
def test_strings_survive(content: str) -> None:
    expected = content.encode("utf-8", "replace").decode().strip()
    for ascii_only in (True, False):
        assert values(json.dumps({"direction": content}, ensure_ascii=ascii_only)) == [expected]
