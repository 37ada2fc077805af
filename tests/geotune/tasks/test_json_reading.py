"""The reader of careless JSON: which nodes it finds, and that hostile text neither breaks nor stalls it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.json_nodes import JsonNode, Scalar, Status
from geotune.tasks.json_reading import plain_punctuation, read_objects

WANTED = frozenset({"direction"})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


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


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=4), st.integers(0, 2))
def test_valid_json_is_read_as_json_reads_it(content: dict[str, object], indent: int) -> None:
    content = {**content, "direction": "N"}
    text = json.dumps(content, ensure_ascii=bool(indent % 2), indent=indent or None)
    node = read_objects(text, WANTED).nodes[0]
    assert (node.start, node.end, node.status) == (0, len(text), Status.CLOSED)
    assert len(list(node.members())) == len(content)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="{}[]:,=\"'\\ \nab<`/1") | st.text())
def test_any_text_gives_nodes_within_it(text: str) -> None:
    for node in read_objects(text, frozenset({"a", "b"})).nodes:
        assert 0 <= node.start < node.end <= len(text)
        for member in node.members():
            if isinstance(member.value, Scalar | JsonNode):
                assert node.start < member.value.start <= member.value.end <= node.end
    assert len(plain_punctuation(text)) == len(text)


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
    began = time.process_time()
    read_objects(text, WANTED).final_objects(("direction",))
    # well under a second when linear; minutes when quadratic
    assert time.process_time() - began < 8
