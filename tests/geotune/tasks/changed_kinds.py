"""Kinds of texts that state one place in a usual notation, with a change that must not give another place."""

# ruff: noqa: RUF001
from __future__ import annotations

import re

from hypothesis import strategies as st

from tests.geotune.tasks.notations import Case, degrees_and_minutes, drawn_random, places
from tests.geotune.tasks.stating_kinds import LETTERS, MARKED, NAMED, PAIRS, WORDS, loud, quoted

PLAIN: tuple[st.SearchStrategy[Case], ...] = (
    places(PAIRS, decimals=2),
    places(NAMED, decimals=2),
    places(LETTERS, decimals=2),
)
SPELT: tuple[st.SearchStrategy[Case], ...] = (
    *PLAIN,
    places(WORDS, extra=loud, decimals=2),
    places(MARKED, degrees_and_minutes, (2, 3), extra=quoted),
)
ADDED = "abcfgkmxXqK%$€£#_^~*\\|?!@&=()[]{}<>`;/.½²×0"
"""Characters that are added beside or inside a number. None of them states a sign, a hemisphere or a minute."""
INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u202a\u202c"
SPACES = ("\u00a0", "\u2009", "\u202f", "\u3000", "\t", "  ", "\n")
DIGITS = ("０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "⁰¹²³⁴⁵⁶⁷⁸⁹")
"""Digits of full width, of Arabic and Devanagari, bold ones, and raised ones."""
_BESIDE_DIGIT = re.compile(r"(?<=[0-9])|(?=[0-9])")


@st.composite
def with_one_more(draw: st.DrawFn) -> Case:
    """Draw a place, and add a character beside or inside one of its numbers."""
    case = draw(st.one_of(PLAIN))
    digits = drawn_random(draw)
    added = draw(st.sampled_from(ADDED))
    spots = [spot.start() for spot in _BESIDE_DIGIT.finditer(case.text)]
    if added == "0":  # before a number, at its very end, or as a number of its own
        return Case(case.text + digits.choice((" 0", "\n0", ".0", " 0.0")), case.form, case.place)
    spot = digits.choice(spots)
    return Case(case.text[:spot] + added + case.text[spot:], case.form, case.place)


@st.composite
def in_other_case(draw: st.DrawFn) -> Case:
    """Draw a place in capitals, in small letters, or as a title."""
    case = draw(st.one_of(SPELT))
    change = draw(st.sampled_from([str.upper, str.lower, str.title, str.swapcase]))
    return Case(change(case.text), case.form, case.place)


@st.composite
def in_other_digits(draw: st.DrawFn) -> Case:
    """Draw a place, and write its numbers in the digits of another script."""
    case = draw(st.one_of(SPELT))
    table = str.maketrans("0123456789", draw(st.sampled_from(DIGITS)))
    return Case(case.text.translate(table), case.form, case.place)


@st.composite
def with_other_spaces(draw: st.DrawFn) -> Case:
    """Draw a place, and replace all of its spaces."""
    case = draw(st.one_of(SPELT))
    return Case(case.text.replace(" ", draw(st.sampled_from(SPACES))), case.form, case.place)


@st.composite
def with_invisible(draw: st.DrawFn) -> Case:
    """Draw a place, and add characters that nobody sees: where a number begins or ends, or anywhere."""
    case = draw(st.one_of(SPELT))
    digits = drawn_random(draw)
    mark = draw(st.sampled_from(INVISIBLE))
    if draw(st.booleans()):
        text = re.sub(r"(?<![\d.])(?=\d)", mark, case.text)
    else:
        spot = digits.randrange(len(case.text) + 1)
        text = case.text[:spot] + mark + case.text[spot:]
    return Case(text, case.form, case.place)


@st.composite
def cut_off(draw: st.DrawFn) -> Case:
    """Draw a JSON object that breaks off inside its second number."""
    case = draw(
        places(
            ('{"latitude": @lat, "longitude": @lon', '{"lon": @lon, "lat": @lat', '[{"lat": @lat, "lng": @lon'),
            decimals=3,
        )
    )
    fraction = len(case.text) - case.text.rindex(".")
    return Case(case.text[: -drawn_random(draw).randint(1, fraction)], case.form, case.place)


CHANGED: dict[str, st.SearchStrategy[Case]] = {
    "one character more": with_one_more(),
    "capitals and small letters": in_other_case(),
    "digits of other scripts": in_other_digits(),
    "other spaces": with_other_spaces(),
    "invisible characters": with_invisible(),
    "JSON that breaks off in a number": cut_off(),
}
