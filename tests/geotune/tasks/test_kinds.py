"""Kinds of texts: a generated notation of a place is read to that place or refused, and other texts are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks.coordinates import Coordinates, parse_coordinates
from tests.geotune.tasks.cell_kinds import BAR
from tests.geotune.tasks.kinds import KINDS, STATED, Verdict, cases_of, judge, near

EXAMPLES = 200
"""Texts that are generated for each kind."""
READ_AT_LEAST = {
    "bare pair": 0.8,
    "named": 0.8,
    "names of other languages": 0.65,
    "hemisphere letters": 0.95,
    "hemisphere beside a sign": 0.6,
    "hemisphere words": 0.95,
    "hemispheres before, in Asia": 0.85,
    "hemisphere fields": 0.8,
    "signs": 0.75,
    "decimal commas": 0.75,
    "degrees and minutes": 0.75,
    "degrees, minutes, seconds": 0.75,
    "ISO 6709": 0.8,
    "coord template": 0.95,
    "stated orders": 0.65,
    "GeoJSON": 0.8,
    "WKT": 0.95,
    "PostGIS": 0.95,
    "KML, GPX and HTML": 0.75,
    "geo URIs": 0.95,
    "links to maps": 0.9,
    "tables": 0.9,
    "CSV": 0.95,
    "alternatives": 0.8,
    "places in passing": 0.85,
    "fields beside an answer": 0.8,
    "tolerances after minutes": 0.85,
    "numbers beside an answer": 0.65,
    "answers stated twice": 0.9,
    "links with minutes": 0.95,
    "thoughts and answers": 0.95,
    "strings and fences": 0.95,
    "LaTeX": 0.75,
    "LaTeX with minutes": 0.95,
    "LaTeX's decimal comma": 0.9,
    "capitals and small letters": 0.65,
    "digits of other scripts": 0.75,
    "other spaces": 0.85,
    "invisible characters": 0.85,
    "cells": 0.95,
    "cells with signs": 0.5,  # a number in brackets is negative in a spreadsheet, and refused
    "cells with minutes": 0.75,
    "cells with decimal commas": 0.9,
}
"""Share of a kind's texts that are read, for the kinds in which most texts are usual. The others may be refused."""
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


@pytest.mark.parametrize("kind", READ_AT_LEAST)
def test_usual_notations_are_read(kind: str) -> None:
    verdicts = [judge(kind, case)[0] for case in cases_of(kind, EXAMPLES, number=0)]
    assert verdicts.count(Verdict.right) >= READ_AT_LEAST[kind] * len(verdicts)


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len(KINDS) > 60
    assert READ_AT_LEAST.keys() < STATED.keys() < KINDS.keys()
