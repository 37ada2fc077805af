"""Angles: the notations of one latitude or longitude, as patterns over kinds of tokens, and the value of each.

An angle is a number of degrees; degrees and minutes; or degrees, minutes and seconds. A sign or a hemisphere gives its
direction, and a tolerance may follow. `read_field` reads a text that has to be one angle from end to end.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import NamedTuple

from geotune.tasks.coordinate_reader.text import plain_text
from geotune.tasks.coordinate_reader.tokens import Token, tokenize
from geotune.tasks.coordinate_reader.words import HEMISPHERES


class CoordinateError(StrEnum):
    """Reason why a text gives no coordinates."""

    missing = "missing"
    """The text gives neither coordinate: it states nothing, or null, or "unknown"."""
    incomplete = "incomplete"
    """The text gives only one of the two coordinates."""
    not_a_number = "not_a_number"
    """The text gives NaN or infinity instead of a number."""
    out_of_range = "out_of_range"
    """The latitude is beyond 90, the longitude beyond 180, or minutes or seconds are 60 or more."""
    null_island = "null_island"
    """The coordinates are exactly (0, 0), which is an echoed template, not an answer."""
    ambiguous = "ambiguous"
    """The order or hemisphere is not stated, or contradicts itself; the number is a range, is cut in two or runs into
    others; something that stands beside it and may qualify it is not understood; or several places are given, none of
    them before the others."""


NUMBER = r"(?:d|i(?:ci)?)"
"""A number, possibly with a decimal comma."""
_MARKED = rf"i\u00b0,?(?:i',?{NUMBER}\"?|{NUMBER}')|i:i:{NUMBER}(?!:)"
_LOOSE = rf"i\u00b0?i'?{NUMBER}\"?|i[\u00b0:]?{NUMBER}'?"
_TOLERANCE = rf"(?:\u00b1{NUMBER}[\u00b0'\"u]?)?"
ANGLE = rf"s?(?:{_MARKED}|{NUMBER}\u00b0?){_TOLERANCE}"
"""An angle that is clear by itself."""
LOOSE_ANGLE = rf"s?(?:{_MARKED}|{_LOOSE}|{NUMBER}\u00b0?){_TOLERANCE}"
"""An angle, also without marks of minutes and seconds; only a hemisphere beside it shows that it is one."""


def hemisphere_behind(kind: str) -> str:
    """Return the pattern of a hemisphere of `kind` (N, E, or a class of them) behind an angle."""
    return rf"j?[({{]?{kind}[)}}]?{_TOLERANCE}"


def hemisphere_before(kind: str) -> str:
    """Return the pattern of a hemisphere of `kind` before an angle."""
    return rf"{kind}[):'\"j}}]{{0,3}}"


class AxisReading(NamedTuple):
    """A latitude or longitude as read: its value, or the reason why it has none."""

    value: float
    reason: CoordinateError | None = None


def unreadable(reason: CoordinateError) -> AxisReading:
    """Return the reading of an axis without a value."""
    return AxisReading(math.nan, reason)


_DIRECTION = r"[NE][):'\"j}]{0,3}"
_FIELD = re.compile(
    rf"""
      [fj'"(\[:]{{0,6}} (?:[AOL][fj'":]{{0,4}})?
      (?P<angle>
          {_DIRECTION}{LOOSE_ANGLE}(?:{hemisphere_behind("[NE]")})?
        | {LOOSE_ANGLE}(?:,?{hemisphere_behind("[NE]")}){{1,2}}
        | {ANGLE}
      )
      (?:[AOL]|f)? (?:\([fk]{{1,3}}\))? [f'"j.)\];,]{{0,4}}
    """,
    re.VERBOSE,
)
_HAS_DIGIT = re.compile("[0-9]")
NOT_A_NUMBER = re.compile(r"(?<!\w)(?:nan|inf|infinity)(?!\w)", re.IGNORECASE)
"""A word for a number that is none."""
_PLAIN = re.compile(r"\s*+[-+]?[0-9]++(?:\.[0-9]++)?+\s*+")


def read_field(text: str, axis: str, *, decimal_comma: bool = True) -> AxisReading:
    """Read a text that states one latitude (`axis` N) or longitude (E) and nothing else.

    A text without any digit is missing; a text of which some part is not understood is ambiguous.
    """
    if _PLAIN.fullmatch(text):
        return AxisReading(float(text))
    text = plain_text(text)
    if not _HAS_DIGIT.search(text):
        infinite = NOT_A_NUMBER.search(text) is not None
        return unreadable(CoordinateError.not_a_number if infinite else CoordinateError.missing)
    tokens, kinds = tokenize(text)
    kinds = kinds.replace("b", "s")  # a field is no list: a dash before its number is a sign
    match = _FIELD.fullmatch(kinds)
    names = [kind for kind in kinds if kind in "AOL"]
    if len(names) > 1 or (names and (names[0] == "A") is not (axis == "N")):
        return unreadable(CoordinateError.ambiguous)
    dashes = any(token.text in "-\u2014" and kind == "j" for token, kind in zip(tokens, kinds, strict=True))
    if match is None or dashes or ("c" in kinds and not decimal_comma):
        return unreadable(CoordinateError.ambiguous)
    return read_angle(tokens, kinds, *match.span("angle"), axis)


def read_angle(tokens: list[Token], kinds: str, first: int, end: int, axis: str) -> AxisReading:
    """Read the angle in tokens [first, end), with its hemispheres, as a latitude (`axis` N) or longitude (E)."""
    parts: list[str] = []
    directions: set[tuple[str, bool]] = set()
    signs: list[bool] = []
    at = first
    while at < end:
        kind, word = kinds[at], tokens[at].text.lower()
        if kind == "\u00b1":  # skip the tolerance
            at += 4 if kinds[at + 2 : at + 3] == "c" and kinds[at + 3 : at + 4] == "i" else 2
            continue
        if kind == "c":
            at += 1
            parts[-1] += f".{tokens[at].text}"
        elif kind in "id":
            parts.append(word)
        elif kind == ":" and word != ":" and parts:
            return unreadable(CoordinateError.ambiguous)  # "10=2.3 W"
        elif kind in "NE":
            directions.add((kind, HEMISPHERES[word.rstrip(".")] in "SW"))
        elif kind == "s":
            signs.append(word in ("-", "minus", "negative", "neg"))
        at += 1
    if any(float(part) >= 60 for part in parts[1:]):
        return unreadable(CoordinateError.out_of_range)
    if len(signs) > 1 or len(directions) > 1 or not all(part.isdecimal() for part in parts[:-1]):
        return unreadable(CoordinateError.ambiguous)
    size = sum(float(part) / 60**place for place, part in enumerate(parts))
    if not directions:
        return AxisReading(-size if any(signs) else size)
    ((kind, south_or_west),) = directions
    if kind != axis or (any(signs) and not south_or_west):
        return unreadable(CoordinateError.ambiguous)
    return AxisReading(-size if south_or_west else size)


def read_axis(value: str, ref: str, letter: str) -> AxisReading:
    """Read one axis (`letter` N or E) from its field and, if there is one, the field of its hemisphere."""
    reading = read_field(value, letter)
    if not ref.strip() or reading.reason is not None:
        return reading
    return read_field(f"{value} {ref}", letter)
