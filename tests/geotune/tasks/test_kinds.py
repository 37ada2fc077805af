"""Kinds of texts: a generated notation of a place is read to that place or refused, and other texts are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.coordinates import Coordinates, parse_coordinates
from tests.geotune.tasks.cell_kinds import BAR
from tests.geotune.tasks.kinds import KINDS, STATED, Verdict, judge, near

EXAMPLES = 200
"""Texts that are generated for each kind."""
kinds = pytest.mark.parametrize("kind", KINDS)
thorough = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)


@kinds
@thorough
@given(data=st.data())
def test_no_text_is_read_as_another_place(kind: str, data: st.DataObject) -> None:
    case = data.draw(KINDS[kind])
    verdict, found = judge(kind, case)
    assert verdict is not Verdict.wrong, f"{case.text!r} is read as {found}; it states {case.place}"
    if BAR not in case.text:  # a prompt that asks for no order
        found = parse_coordinates(case.text)
        assert not isinstance(found, Coordinates) or near(found, case.place), f"{case.text!r} is read as {found}"


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len(KINDS) > 60
    assert STATED.keys() < KINDS.keys()
