"""Kinds of texts: a generated notation of a place is read to that place or refused, and other texts are refused."""

from __future__ import annotations

import pytest

from tests.geotune.tasks.kinds import KINDS, STATED, Verdict, cases_of, judge

EXAMPLES = 200
"""Texts that are generated for each kind."""


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_read_as_another_place(kind: str) -> None:
    wrong = [
        (case, found)
        for case in cases_of(kind, EXAMPLES)
        for verdict, found in [judge(kind, case)]
        if verdict is Verdict.wrong
    ]
    assert not wrong


def test_kinds_have_names_of_their_own() -> None:
    assert STATED.keys() < KINDS.keys()
