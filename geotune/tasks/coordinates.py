"""The project's one reader of coordinates: what a text states, checked, or why it gives none."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from geotune.geo import haversine_km
from geotune.tasks.coordinate_tokens import ESCAPE, MINUS, final_text, tokenize, unescape


class CoordinateError(StrEnum):
    """Why a text gives no coordinates."""

    missing = "missing"
    """Neither coordinate is given: nothing is said, or null, or "unknown"."""
    incomplete = "incomplete"
    """One coordinate of the two is given."""
    not_a_number = "not_a_number"
    """NaN or infinity stands where a number should."""
    out_of_range = "out_of_range"
    """Latitude beyond 90, longitude beyond 180, minutes or seconds of 60 and more."""
    null_island = "null_island"
    """Exactly (0, 0): an echoed template, not an answer."""
    ambiguous = "ambiguous"
    """Numbers without a stated order, a sign that contradicts its hemisphere, a range, numbers that run together."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A place: degrees, WGS84."""

    lat: float
    lon: float


def check_coordinates(lat: float, lon: float) -> Coordinates | CoordinateError:
    """What two numbers are worth as coordinates; never swaps, never wraps."""
    if math.isnan(lat) or math.isnan(lon):
        return CoordinateError.not_a_number
    if abs(lat) > 90 or abs(lon) > 180:
        return CoordinateError.out_of_range
    if lat == 0 and lon == 0:
        return CoordinateError.null_island
    return Coordinates(lat, lon)


def parse_coordinates(text: str, *, pair_order: Literal["lat_lon"] | None = None) -> Coordinates | CoordinateError:
    """The coordinates that a text ends on, or why it gives none. Never raises.

    Read are named fields in any order (lat, latitude, lon, lng, long, longitude; in JSON, nested, fenced or
    single-quoted, and in prose), hemispheres (48.85 N, N 48.85, 48.85 degrees north), degrees-minutes-seconds, and a
    pair under a heading that names its order. The last `<answer>` alone counts; without one, what follows the
    thinking; of several statements there, the last, even if it gives none. A bare pair is (lat, lon) only where the
    prompt asked for that order (`pair_order`).
    """
    final = _final_statement(text)
    if final.reason is not None:
        return final.reason
    if final.bare and pair_order is None:
        return CoordinateError.ambiguous
    return check_coordinates(final.lat, final.lon)


def right_if_swapped(
    answer: str | Coordinates | CoordinateError, gold_lat: float, gold_lon: float, *, within_km: float
) -> bool:
    """Whether an answer is wrong as it stands but within `within_km` of the gold once latitude and longitude swap.

    A diagnostic to sum over many answers; it mends none. In a text, a bare pair is taken as (lat, lon).
    """
    if isinstance(answer, CoordinateError):  # a StrEnum is a str too
        return False
    stated = answer if isinstance(answer, Coordinates) else _final_statement(answer)
    if isinstance(stated, _Statement) and stated.reason is not None:
        return False

    def near(place: Coordinates | CoordinateError) -> bool:
        return isinstance(place, Coordinates) and haversine_km(place.lat, place.lon, gold_lat, gold_lon) <= within_km

    as_stated, swapped = check_coordinates(stated.lat, stated.lon), check_coordinates(stated.lon, stated.lat)
    return near(swapped) and not near(as_stated)


_ANGLE_PART = re.compile(r"\d++(?:\.\d++)?+(?:(?-i:e)[-+]?\d++)?+|\.\d++")
_GAP = r"[fqj:()\[\]{\n]{0,12}"  # between a name and its value
_VALUE = r"9(?:c9(?!c9))?"  # a number, maybe with a decimal comma
_SUFFIX = r"(?:[({]?[NE][)}]?)?"
_HEADING_COMMA = r"[q,c/;ajf()]{1,5}"
_HEADING = rf"(?:[PQ]|A{_HEADING_COMMA}[OL]|[OL]{_HEADING_COMMA}A)"
_COMMA = r"(?:q?[,c;/][\nqj]{0,3}|(?=9))"  # between the numbers of a bare pair
_LINK = r"[,c;/aqj()\[\]{}f\nAOL.]{0,8}"  # between the halves of a pair with hemispheres
_TRAIL = r"[,;/aqj\n]{1,4}"


def _after(kind: str) -> str:
    return rf"{_VALUE}[({{]?{kind}[)}}]?"


def _before(kind: str) -> str:
    return rf"{kind}[):qj}}]{{0,3}}{_VALUE}"


def _hemispheres(one: str, other: str) -> str:
    """Two numbers with a hemisphere each, before or after it."""
    return "|".join(
        (
            _after(one) + _LINK + _after(other),
            # "West 34 N 118 W": a hemisphere behind the last number makes the first one a stray word.
            _before(one) + _LINK + _before(other) + r"(?![({]?[NE])",
            _before(one) + _LINK + _after(other),
            _after(one) + _LINK + _before(other),
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
_RESTATED_DEG = 0.01
"""A bare pair this close to the answer before it only says it again."""


class _Reading(NamedTuple):
    """One coordinate as read: a value, or why there is none."""

    value: float
    reason: CoordinateError | None = None


@dataclass(frozen=True, slots=True)
class _Field:
    """One coordinate under its name."""

    axis: str  # N (latitude) or E (longitude)
    reading: _Reading
    explicit: bool  # with a colon or its kin, not in passing
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _Statement:
    """Both coordinates as stated, unchecked, or why they can't be had."""

    lat: float = math.nan
    lon: float = math.nan
    reason: CoordinateError | None = None
    bare: bool = False  # two numbers without an order
    explicit: bool = False  # named, with a colon or its kin
    braces: int = 0  # which outermost {...} it stands in; 0 outside


def _reason(lat: _Reading, lon: _Reading) -> CoordinateError | None:
    """Why two readings make no statement, or None."""
    reasons = {lat.reason, lon.reason}
    if len(reasons) == 1:
        return lat.reason
    for reason in (CoordinateError.not_a_number, CoordinateError.out_of_range, CoordinateError.ambiguous):
        if reason in reasons:
            return reason
    return CoordinateError.incomplete


class _Reader:
    """The statements of one text, in order."""

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

    def events(self) -> Iterator[_Field | _Statement | CoordinateError]:
        """Fields and statements; a reason by itself is what to say if the text holds neither."""
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

    def fields_apart(self, one: _Field, other: _Field) -> tuple[bool, int]:
        """How far two fields lie apart: whether a brace parts them, then characters."""
        between = self.kinds[one.end : other.first]
        return ("{" in between or "}" in between), self.tokens[other.first].start - self.tokens[one.end - 1].end

    def both(self, one: _Field, other: _Field) -> _Statement:
        """What two fields of different axes say together."""
        lat, lon = (one, other) if one.axis == "N" else (other, one)
        return self._statement(other.first, lat.reading, lon.reading, explicit=one.explicit and other.explicit)

    def _statement(
        self, first: int, lat: _Reading, lon: _Reading, *, bare: bool = False, explicit: bool = False
    ) -> _Statement:
        reason = _reason(lat, lon)
        return _Statement(lat.value, lon.value, reason, bare, explicit, self.braces[first])

    def _reading(self, first: int, end: int, hemisphere: int | None, axis: str) -> _Reading:
        """The number of tokens [first, end) as a coordinate; `hemisphere` is the index of its token, if it has one."""
        text = self.tokens[first].text
        digits = _ANGLE_PART.findall(text)
        if end - first == 3:  # decimal comma
            digits += _ANGLE_PART.findall(self.tokens[end - 1].text)
            if len(digits) != 2 or not "".join(digits).isdecimal():
                return _Reading(math.nan, CoordinateError.ambiguous)
            digits = [".".join(digits)]
        parts = [float(part) for part in digits]
        if any(part >= 60 for part in parts[1:]):
            return _Reading(math.nan, CoordinateError.out_of_range)
        size = sum(part / 60**i for i, part in enumerate(parts))
        negative = text[0] in MINUS
        if hemisphere is None:
            return _Reading(-size if negative else size)
        south_or_west = self.tokens[hemisphere].text[0] in "SsWw"
        if self.kinds[hemisphere] != axis or (negative and not south_or_west):
            return _Reading(math.nan, CoordinateError.ambiguous)
        return _Reading(-size if south_or_west else size)

    def _numbers(self, first: int, end: int, *, decimal_comma: bool) -> list[tuple[int, int]]:
        """Spans of the numbers among tokens [first, end); one with a decimal comma takes three tokens."""
        pattern = _WITH_COMMA if decimal_comma else _WITHOUT_COMMA
        return [match.span() for match in pattern.finditer(self.kinds, first, end)]

    def _pair(self, first: int, end: int, *, lat_first: bool, bare: bool = False) -> _Statement:
        axes = "NE" if lat_first else "EN"
        readings = []
        for span, axis in zip(self._numbers(first, end, decimal_comma=False), axes, strict=True):
            marked = _HEMISPHERE_BEHIND.match(self.kinds, span[1])
            readings.append(self._reading(*span, marked.end() - 1 if marked else None, axis))
        lat, lon = readings if lat_first else reversed(readings)
        return self._statement(first, lat, lon, bare=bare, explicit=":" in self.kinds[first:end])

    def _with_hemispheres(self, first: int, end: int) -> _Statement:
        numbers = self._numbers(first, end, decimal_comma=True)
        if len(numbers) < 2:  # "N48,2E": the comma stands between two numbers
            numbers = self._numbers(first, end, decimal_comma=False)
        hemispheres = [i for i in range(first, end) if self.kinds[i] in "NE"]
        pairs = zip(numbers, hemispheres, strict=True)
        read = {self.kinds[mark]: self._reading(*span, mark, self.kinds[mark]) for span, mark in pairs}
        return self._statement(first, read["N"], read["E"])

    def _named(self, first: int, end: int) -> Iterator[_Field]:
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
            reading = _Reading(math.nan, CoordinateError.ambiguous)  # "40 to 42", "48 51 24", "48:51"
        yield _Field(axis, reading, ":" in self.kinds[name:end], first, end)

    def _void(self, first: int, end: int) -> _Field:
        """A name with no number: null, NaN, or nothing at all."""
        reason = CoordinateError.not_a_number if self.kinds[end - 1] == "x" else CoordinateError.missing
        axis = "N" if self.kinds[first] == "A" else "E"
        return _Field(axis, _Reading(math.nan, reason), ":" in self.kinds[first:end], first, end)

    def _precise(self, i: int) -> bool:
        """Whether a number has a fraction or a degree mark: more than a count or a year."""
        return not self.tokens[i].text.lstrip("+" + MINUS).isdecimal()

    def _stands_out(self, first: int, end: int) -> bool:
        """Whether two numbers are set apart as a pair, or at least look like coordinates."""
        if _IN_LIST.search(self.kinds, max(0, first - 8), first):
            return False
        one, other = first, end - 1
        if self._precise(one) and self._precise(other):
            return True
        if "," not in self.kinds[first:end] and ";" not in self.kinds[first:end] and "c" not in self.kinds[first:end]:
            return False
        before = self.kinds[max(0, first - 4) : first]
        after = self.kinds[end : end + 4]
        bracketed = before.rstrip("qj\n")[-1:] in ("(", "[", "{") and after.lstrip("qj\n")[:1] in (")", "]", "}")
        alone = before.rstrip("qj")[-1:] in ("", "\n", ":") and after.lstrip("qj.")[:1] in ("", "\n")
        return bracketed or alone


def _final_statement(text: str) -> _Statement:
    """The last statement of a text's final answer; a `reason` where it gives no coordinates."""
    reader = _Reader(ESCAPE.sub(unescape, final_text(text)))
    events = list(reader.events())
    final: _Statement | None = None
    pending: _Field | None = None
    otherwise = CoordinateError.missing
    for event, following in itertools.zip_longest(events, events[1:]):
        if isinstance(event, CoordinateError):
            otherwise = event
        elif isinstance(event, _Statement):
            pending = None
            final = final if final is not None and _comments_on(final, event) else event
        elif pending is None or pending.axis == event.axis:
            pending = event
        elif (
            isinstance(following, _Field)
            and following.axis == pending.axis
            and reader.fields_apart(event, following) < reader.fields_apart(pending, event)
        ):
            pending = event  # the field before was left over from a draft: this one belongs to the next
        else:
            statement, pending = reader.both(pending, event), None
            final = final if final is not None and _comments_on(final, statement) else statement
    halved = pending is not None and pending.reading.reason is not CoordinateError.missing
    if pending is not None and halved and (final is None or pending.explicit):  # cut off, or half a correction
        return _Statement(reason=CoordinateError.incomplete)
    return final or _Statement(reason=otherwise)


def _comments_on(answer: _Statement, later: _Statement) -> bool:
    """Whether a later statement leaves an answer standing.

    It does where it stands in passing in the same JSON object ("reason": "48 N, 2 E is Paris"), and where it is a bare
    pair that repeats the answer's numbers, in either order.
    """
    if answer.explicit and not later.explicit and later.braces and answer.braces == later.braces:
        return True
    if not later.bare or later.reason is not None or answer.reason is not None or answer.bare:
        return False
    return any(
        abs(later.lat - lat) <= _RESTATED_DEG and abs(later.lon - lon) <= _RESTATED_DEG
        for lat, lon in ((answer.lat, answer.lon), (answer.lon, answer.lat))
    )
