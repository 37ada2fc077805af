"""The second pass of reading coordinates: from the tokens of a text to the coordinates that it states.

A regular expression over the string of token kinds finds fields ("lat: 48.85") and pairs ("48.85 N, 2.35 E").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from geotune.tasks.coordinate_tokens import MINUS, tokenize


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
    """The numbers have no stated order, contradict their hemisphere, form a range, or run together."""


_ANGLE_PART = re.compile(r"\d++(?:\.\d++)?+(?:(?-i:e)[-+]?\d++)?+|\.\d++")
_GAP = r"[fqj:()\[\]{\n]{0,12}"  # tokens between a name and its value
_VALUE = r"9(?:c9(?!c9))?"  # a number, possibly with a decimal comma
_SUFFIX = r"(?:[({]?[NE][)}]?)?"
_HEADING_COMMA = r"[q,c/;ajf()]{1,5}"
_HEADING = rf"(?:[PQ]|A{_HEADING_COMMA}[OL]|[OL]{_HEADING_COMMA}A)"
_COMMA = r"(?:q?[,c;/][\nqj]{0,3}|(?=9))"  # tokens between the numbers of a bare pair
_LINK = r"[,c;/aqj()\[\]{}f\nAOL.]{0,8}"  # tokens between the halves of a pair with hemispheres
_TRAIL = r"[,;/aqj\n]{1,4}"


def _after(kind: str) -> str:
    """Return the pattern of a number with a hemisphere of `kind` after it."""
    return rf"{_VALUE}[({{]?{kind}[)}}]?"


def _before(kind: str) -> str:
    """Return the pattern of a number with a hemisphere of `kind` before it."""
    return rf"{kind}[):qj}}]{{0,3}}{_VALUE}"


def _hemispheres(first: str, second: str) -> str:
    """Return the pattern of two numbers, each with a hemisphere of the given kind before or after it."""
    return "|".join(
        (
            _after(first) + _LINK + _after(second),
            # "West 34 N 118 W": if a hemisphere follows the last number, the first hemisphere is a stray word.
            _before(first) + _LINK + _before(second) + r"(?![({]?[NE])",
            _before(first) + _LINK + _after(second),
            _after(first) + _LINK + _before(second),
        )
    )


_STATEMENT = re.compile(
    rf"""
      (?P<headed> {_HEADING}{_GAP} 9{_SUFFIX}[,c;/aqj)\]\n]{{1,4}}9{_SUFFIX} (?![,c;/]?9) )
    | (?P<labelled> 9{_SUFFIX}[,c;/aqj]{{1,4}}9{_SUFFIX}[)\]}}qj]{{0,3}}[(\[]{_HEADING}[)\]] )
    | (?P<heading> {_HEADING}{_GAP}(?=9) )
    | (?P<trailed> 9[qf]?A{_TRAIL}9[qf]?[OL](?!{_GAP}9) | 9[qf]?[OL]{_TRAIL}9[qf]?A(?!{_GAP}9) )
    | (?P<named> [NE]?(?:[AO]{_GAP}|L[q:j(]{{0,6}})(?:{_before("[NE]")}|{_VALUE}{_SUFFIX}) )
    | (?P<void> [AO]{_GAP}[zx] | Lq?:q?[zx] | [AOL]q?:q{{0,2}}(?=[,}}]|\Z) )
    | (?P<hemispheres> {_hemispheres("N", "E")}|{_hemispheres("E", "N")} )
    | (?P<bare> 9{_COMMA}9 (?!q?[,c;/][\nqj]{{0,3}}9|-?9|u|[({{]?[NE]) )
    | (?P<half> 9(?=[({{]?[NE]) )
    | (?P<list> 9(?={_COMMA}9) )
    """,
    re.VERBOSE,
)
_WITH_COMMA = re.compile(_VALUE)
_WITHOUT_COMMA = re.compile("9")
_HEMISPHERE_BEHIND = re.compile("[({]?[NE]")
_IN_LIST = re.compile(r"9(?:q?[,c;/][\nqj]{0,3}|-)?\Z")


class _AxisReading(NamedTuple):
    """A latitude or longitude as read: its value, or the reason why it has none."""

    value: float
    reason: CoordinateError | None = None


@dataclass(frozen=True, slots=True)
class NamedField:
    """A latitude or longitude given under its name, by tokens [first, end)."""

    axis: str  # N (latitude) or E (longitude)
    reading: _AxisReading
    explicit: bool  # whether a colon or similar separates name and value, so that it is not mentioned in passing
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """Both coordinates as a text states them, not yet checked, or the reason why they cannot be read."""

    lat: float = math.nan
    lon: float = math.nan
    reason: CoordinateError | None = None
    bare: bool = False  # two numbers whose order is not stated
    explicit: bool = False  # named, with a colon or similar between name and value
    braces: int = 0  # number of the outermost {...} around it; 0 if there is none


def _reason(lat: _AxisReading, lon: _AxisReading) -> CoordinateError | None:
    """Return why two readings give no coordinates, or None if they do."""
    reasons = {lat.reason, lon.reason}
    if len(reasons) == 1:
        return lat.reason
    for reason in (CoordinateError.not_a_number, CoordinateError.out_of_range, CoordinateError.ambiguous):
        if reason in reasons:
            return reason
    return CoordinateError.incomplete


class StatementReader:
    """Finds the fields and statements of one text."""

    def __init__(self, text: str) -> None:
        self.tokens, self.kinds = tokenize(text)
        self.braces: list[int] = []
        depth = count = 0
        for kind in self.kinds:
            if kind == "{":
                depth, count = depth + 1, count + (depth == 0)
            self.braces.append(count if depth else 0)
            if kind == "}":
                depth = max(0, depth - 1)

    def events(self) -> Iterator[NamedField | Statement | CoordinateError]:
        """Iterate over fields and statements in order; a bare reason applies if the text holds neither of them."""
        for match in _STATEMENT.finditer(self.kinds):
            first, end = match.span()
            span = match[0]
            match match.lastgroup:
                case "headed":
                    yield self._pair(first, end, lat_first=span[0] in "AP")
                case "labelled" | "trailed":
                    yield self._pair(first, end, lat_first=span.rstrip(")]")[-1] in "OLP")
                case "hemispheres":
                    yield self._with_hemispheres(first, end)
                case "named":
                    yield from self._named(first, end)
                case "void":
                    yield self._void(first, end)
                case "bare":
                    if self._stands_out(first, end):
                        yield self._pair(first, end, lat_first=True, bare=True)
                case "half":
                    yield CoordinateError.incomplete
                case "heading":
                    yield CoordinateError.ambiguous
                case _:
                    if self._precise(first):
                        yield CoordinateError.ambiguous

    def fields_apart(self, first: NamedField, second: NamedField) -> tuple[bool, int]:
        """Return how far apart two fields are: whether a brace separates them, then the number of characters."""
        between = self.kinds[first.end : second.first]
        distance = self.tokens[second.first].start - self.tokens[first.end - 1].end
        return ("{" in between or "}" in between), distance

    def both(self, first: NamedField, second: NamedField) -> Statement:
        """Combine two fields of different axes into a statement."""
        lat, lon = (first, second) if first.axis == "N" else (second, first)
        return self._statement(second.first, lat.reading, lon.reading, explicit=first.explicit and second.explicit)

    def _statement(
        self, first: int, lat: _AxisReading, lon: _AxisReading, *, bare: bool = False, explicit: bool = False
    ) -> Statement:
        reason = _reason(lat, lon)
        return Statement(lat.value, lon.value, reason, bare, explicit, self.braces[first])

    def _reading(self, first: int, end: int, hemisphere: int | None, axis: str) -> _AxisReading:
        """Read the number in tokens [first, end); `hemisphere` is the index of its hemisphere's token, if any."""
        text = self.tokens[first].text
        digits = _ANGLE_PART.findall(text)
        if end - first == 3:  # decimal comma
            digits += _ANGLE_PART.findall(self.tokens[end - 1].text)
            if len(digits) != 2 or not "".join(digits).isdecimal():
                return _AxisReading(math.nan, CoordinateError.ambiguous)
            digits = [".".join(digits)]
        parts = [float(part) for part in digits]
        if any(part >= 60 for part in parts[1:]):
            return _AxisReading(math.nan, CoordinateError.out_of_range)
        size = sum(part / 60**i for i, part in enumerate(parts))
        negative = text[0] in MINUS
        if hemisphere is None:
            return _AxisReading(-size if negative else size)
        south_or_west = self.tokens[hemisphere].text[0] in "SsWw"
        if self.kinds[hemisphere] != axis or (negative and not south_or_west):
            return _AxisReading(math.nan, CoordinateError.ambiguous)
        return _AxisReading(-size if south_or_west else size)

    def _numbers(self, first: int, end: int, *, decimal_comma: bool) -> list[tuple[int, int]]:
        """Return the spans of the numbers in tokens [first, end); a number with a decimal comma takes three tokens."""
        pattern = _WITH_COMMA if decimal_comma else _WITHOUT_COMMA
        return [match.span() for match in pattern.finditer(self.kinds, first, end)]

    def _pair(self, first: int, end: int, *, lat_first: bool, bare: bool = False) -> Statement:
        """Read two numbers whose order is known or assumed."""
        axes = "NE" if lat_first else "EN"
        readings = []
        for span, axis in zip(self._numbers(first, end, decimal_comma=False), axes, strict=True):
            marked = _HEMISPHERE_BEHIND.match(self.kinds, span[1])
            readings.append(self._reading(*span, marked.end() - 1 if marked else None, axis))
        lat, lon = readings if lat_first else reversed(readings)
        return self._statement(first, lat, lon, bare=bare, explicit=":" in self.kinds[first:end])

    def _with_hemispheres(self, first: int, end: int) -> Statement:
        """Read two numbers with a hemisphere each."""
        numbers = self._numbers(first, end, decimal_comma=True)
        if len(numbers) < 2:  # "N48,2E": the comma stands between two numbers
            numbers = self._numbers(first, end, decimal_comma=False)
        hemispheres = [i for i in range(first, end) if self.kinds[i] in "NE"]
        pairs = zip(numbers, hemispheres, strict=True)
        read = {self.kinds[mark]: self._reading(*span, mark, self.kinds[mark]) for span, mark in pairs}
        return self._statement(first, read["N"], read["E"])

    def _named(self, first: int, end: int) -> Iterator[NamedField]:
        """Read a number under a name; nothing if a unit follows, because then it is no coordinate."""
        name = first if self.kinds[first] in "AOL" else first + 1
        axis = "N" if self.kinds[name] == "A" else "E"
        (span,) = self._numbers(name, end, decimal_comma=True)
        if self.kinds[end : end + 1] == "u":  # "the road is long: 5 km"
            return
        marks = [i for i in range(name, end) if self.kinds[i] in "NE"]
        if not marks and self.kinds[first] == axis:  # "south latitude 33.86"
            marks = [first]
        reading = self._reading(*span, marks[0] if marks else None, axis)
        following = self.kinds[end : end + 2]
        tight = following == ":9" and self.tokens[end].start == self.tokens[end - 1].end
        if following[:1] == "9" or following == "-9" or tight or (following == "f9" and self.tokens[end].text == "to"):
            reading = _AxisReading(math.nan, CoordinateError.ambiguous)  # "40 to 42", "48 51 24", "48:51"
        yield NamedField(axis, reading, ":" in self.kinds[name:end], first, end)

    def _void(self, first: int, end: int) -> NamedField:
        """Read a name without a number: it has null, NaN, or nothing."""
        reason = CoordinateError.not_a_number if self.kinds[end - 1] == "x" else CoordinateError.missing
        axis = "N" if self.kinds[first] == "A" else "E"
        return NamedField(axis, _AxisReading(math.nan, reason), ":" in self.kinds[first:end], first, end)

    def _precise(self, i: int) -> bool:
        """Return whether a number has a fraction or a degree mark, unlike a count or a year."""
        return not self.tokens[i].text.lstrip("+" + MINUS).isdecimal()

    def _stands_out(self, first: int, end: int) -> bool:
        """Return whether two numbers are set apart as a pair, or both look like coordinates."""
        if _IN_LIST.search(self.kinds, max(0, first - 8), first):
            return False
        if self._precise(first) and self._precise(end - 1):
            return True
        if "," not in self.kinds[first:end] and ";" not in self.kinds[first:end] and "c" not in self.kinds[first:end]:
            return False
        before = self.kinds[max(0, first - 4) : first]
        after = self.kinds[end : end + 4]
        bracketed = before.rstrip("qj\n")[-1:] in ("(", "[", "{") and after.lstrip("qj\n")[:1] in (")", "]", "}")
        alone = before.rstrip("qj")[-1:] in ("", "\n", ":") and after.lstrip("qj.")[:1] in ("", "\n")
        return bracketed or alone
