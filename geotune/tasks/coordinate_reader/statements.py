"""The second pass of reading coordinates: from the tokens of a text to the coordinates that its prose states.

A regular expression over the string of token kinds finds fields ("lat: 48.85") and pairs ("48.85 N, 2.35 E"). What
stands directly before and behind a match has to be understood (`surroundings`): a digit, a hemisphere, a unit or a word
that is not makes it ambiguous.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from geotune.tasks.coordinate_reader.angles import (
    ANGLE,
    LOOSE_ANGLE,
    AxisReading,
    CoordinateError,
    hemisphere_before,
    hemisphere_behind,
    read_angle,
    unreadable,
)
from geotune.tasks.coordinate_reader.surroundings import NUMBER_NEXT, Surroundings
from geotune.tasks.coordinate_reader.tokens import tokenize
from geotune.tasks.coordinate_reader.words import HEMISPHERES

_GAP = r"[fj:()\[\]{\n'\".\u00b0]{0,12}"  # tokens between a name and its value
_ANY = r"(?:j?[({]?[NE][)}]?)?"
_HEADING_COMMA = r"['\",c/;ajf()]{1,5}"
_HEADING = rf"(?:[PQ]|A{_HEADING_COMMA}[OL]|[OL]{_HEADING_COMMA}A)"
_SEPARATOR = r"['\"j]{0,2}[,c;/][\n'\"j]{0,3}"
_COMMA = rf"(?:{_SEPARATOR}|(?=[sid]))"  # tokens between the numbers of a bare pair
_LINK = r"[,c;/a'\"j()\[\]{}f\nAOL.:eb-]{0,8}"  # tokens between the halves of a pair with hemispheres
_TRAIL = r"[,;/a'\"j\n]{1,4}"


def _behind(kind: str) -> str:
    """Return the pattern of an angle with a hemisphere of `kind` behind it."""
    return f"{LOOSE_ANGLE}{hemisphere_behind(kind)}"


def _before(kind: str) -> str:
    """Return the pattern of an angle with a hemisphere of `kind` before it."""
    return f"{hemisphere_before(kind)}{LOOSE_ANGLE}"


def _hemisphere_pairs(first: str, second: str) -> list[str]:
    """Return the patterns of two angles, each with a hemisphere of the given kind before or behind it."""
    return [
        rf"(?P<first>{_behind(first)}){_LINK}(?P<second>{_behind(second)})",
        # "West 34 N 118 W": if a hemisphere follows the last number, the first hemisphere is a stray word.
        rf"(?P<first>{_before(first)}){_LINK}(?P<second>{_before(second)})(?![({{]?[NE])",
        rf"(?P<first>{_before(first)}){_LINK}(?P<second>{_behind(second)})",
        rf"(?P<first>{_behind(first)}){_LINK}(?P<second>{_before(second)})",
    ]


_PAIRS = [re.compile(pattern) for pattern in _hemisphere_pairs("N", "E") + _hemisphere_pairs("E", "N")]
_HEMISPHERES = "|".join(re.sub(r"\?P<\w++>", "?:", pattern.pattern) for pattern in _PAIRS)
_NAMED_VALUE = (
    rf"(?:{_before('[NE]')}(?:{hemisphere_behind('[NE]')})?"
    rf"|{_behind('[NE]')}"
    rf"|{ANGLE}(?:,[NE](?=[;,.)\n\]}}]|\Z))?)"
)
_STATEMENT = re.compile(
    rf"""
    (?=[JPQAOLRTHBNEsid]) (?:
      (?P<structure> J )
    | (?P<headed>
        {_HEADING}{_GAP} {ANGLE}{_ANY}[,c;/aj)'"\]\n]{{1,4}}{ANGLE}{_ANY} (?![,c;/]?{NUMBER_NEXT}) )
    | (?P<labelled> {ANGLE}{_ANY}[,c;/aj'"]{{1,4}}{ANGLE}{_ANY}[)\]}}j'"]{{0,3}}[(\[]{_HEADING}[)\]] )
    | (?P<heading> {_HEADING}{_GAP}(?={NUMBER_NEXT}) )
    | (?P<trailed>
        {ANGLE}f?[(]?A[)]?{_TRAIL}{ANGLE}f?[(]?[OL][)]?(?!{_GAP}{NUMBER_NEXT})
      | {ANGLE}f?[(]?[OL][)]?{_TRAIL}{ANGLE}f?[(]?A[)]?(?!{_GAP}{NUMBER_NEXT}) )
    | (?P<ref> [RT][fj:'"(]{{0,6}}[NEhw] | H[fj'"(]{{0,3}}:[fj'"(]{{0,3}}[NEhw](?:[,;/a]{{1,2}}[NEhw])? | HjN | HjE )
    | (?P<other> B{_GAP}(?={NUMBER_NEXT}){ANGLE} )
    | (?P<named> (?:[NE]\n?)?(?:[AO]{_GAP}|L[':"j(.]{{0,6}}){_NAMED_VALUE} )
    | (?P<void> [AO]{_GAP}[s-]?[zx] | L'?"?:'?"?[zx] | [AOL]['"]?:['"]{{0,2}}(?=[,}}]|\Z) )
    | (?P<garbled> [AO]{_GAP}s?g )
    | (?P<hemispheres> {_HEMISPHERES} )
    | (?P<minutes> s?i\u00b0d(?:[,;/]\n?)?s?i\u00b0d(?![\u00b0'"]) )
    | (?P<commas> s?ici\u00b0?(?:[,;]|(?=[si]))s?ici\u00b0? )
    | (?P<bare> {ANGLE}{_COMMA}{ANGLE} )
    | (?P<half> {ANGLE}(?=[({{]?[NE]) )
    | (?P<list> {ANGLE}(?={_COMMA}{NUMBER_NEXT}) )
    )
    """,
    re.VERBOSE,
)
_ANGLE = re.compile(rf"{ANGLE}{_ANY}")
_MARK_BEHIND = re.compile(r"[NE]|[({][NE][)}]")
_THOUSANDS = 3
"""Number of digits behind a comma that may also separate thousands."""


@dataclass(frozen=True, slots=True)
class NamedField:
    """A latitude or longitude given under its name, by tokens [first, end)."""

    axis: str  # N (latitude) or E (longitude)
    reading: AxisReading
    explicit: bool  # whether a colon or similar separates name and value, so that it is not mentioned in passing
    signed: bool  # whether a sign or hemisphere gives its direction
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class HemisphereField:
    """The hemisphere of an axis in a field of its own; `negative` is None if it is not understood."""

    axis: str
    negative: bool | None


@dataclass(frozen=True, slots=True)
class Structure:
    """The place of a statement with a format of its own, which has this number in the text."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """Both coordinates as a text states them, not yet checked, or the reason why they cannot be read."""

    lat: float = math.nan
    lon: float = math.nan
    reason: CoordinateError | None = None
    bare: bool = False
    """Whether these are two numbers whose order is not stated."""
    explicit: bool = False
    """Whether the values are named, with a colon or similar between name and value."""
    signed: frozenset[str] = frozenset("NE")
    """Axes whose direction a sign or hemisphere beside the number gives."""
    start: int = 0
    end: int = 0
    """Its position in the text."""


Event = NamedField | HemisphereField | Statement | Structure | CoordinateError


def combined_reason(lat: AxisReading, lon: AxisReading) -> CoordinateError | None:
    """Return why two readings give no coordinates, or None if they do."""
    reasons = {lat.reason, lon.reason}
    if len(reasons) == 1:
        return lat.reason
    for reason in (CoordinateError.not_a_number, CoordinateError.ambiguous, CoordinateError.out_of_range):
        if reason in reasons:
            return reason
    return CoordinateError.incomplete


class StatementReader:
    """Finds the fields and statements of one plain text."""

    def __init__(self, text: str) -> None:
        self.tokens, self.kinds = tokenize(text)
        self.beside = Surroundings(self.tokens, self.kinds)

    def events(self) -> Iterator[Event]:
        """Iterate over fields and statements in order; a bare reason applies if the text holds neither of them."""
        structures = 0
        for match in _STATEMENT.finditer(self.kinds):
            first, end = match.span()
            span = match[0]
            match match.lastgroup:
                case "structure":
                    yield Structure(structures, self.tokens[first].start, self.tokens[first].end)
                    structures += 1
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
                case "garbled":
                    axis = "N" if span[0] == "A" else "E"
                    yield self._field(axis, unreadable(CoordinateError.ambiguous), first, first, end)
                case "ref":
                    yield from self._hemisphere_fields(first, end)
                case "commas":
                    yield from self._bare(first, end, self._comma_halves(first, end))
                case "minutes":
                    second = self.kinds.rindex("i", first, end)
                    split = second - (self.kinds[second - 1] == "s")
                    yield from self._bare(first, end, [(first, split), (split, end)])
                case "bare":
                    yield from self._bare(first, end, self._halves(first, end))
                case "half":
                    yield CoordinateError.incomplete
                case "heading" | "other":
                    yield CoordinateError.ambiguous
                case _:
                    if self.beside.decimals(first, first + 1) or span.endswith("\u00b0"):
                        yield CoordinateError.ambiguous
            self.beside.consumed = end

    def fields_apart(self, first: NamedField, second: NamedField) -> tuple[bool, bool, int]:
        """Return how far apart two fields are: whether a brace or a line break separates them, then in characters."""
        between = self.kinds[first.end : second.first]
        distance = self.tokens[second.first].start - self.tokens[first.end - 1].end
        return ("{" in between or "}" in between), "\n" in between, distance

    def both(self, first: NamedField, second: NamedField) -> Statement:
        """Combine two fields of different axes into a statement."""
        lat, lon = (first, second) if first.axis == "N" else (second, first)
        return Statement(
            lat.reading.value,
            lon.reading.value,
            combined_reason(lat.reading, lon.reading),
            explicit=first.explicit and second.explicit,
            signed=frozenset(field.axis for field in (first, second) if field.signed),
            start=self.tokens[first.first].start,
            end=self.tokens[second.end - 1].end,
        )

    def _statement(self, first: int, end: int, lat: AxisReading, lon: AxisReading, *, bare: bool = False) -> Statement:
        start, stop = self.tokens[first].start, self.tokens[end - 1].end
        explicit = not bare and ":" in self.kinds[first:end] and any(kind in "AOLPQ" for kind in self.kinds[first:end])
        reason = combined_reason(lat, lon)
        return Statement(lat.value, lon.value, reason, bare=bare, explicit=explicit, start=start, end=stop)

    def _ambiguous(self, first: int, end: int) -> Statement:
        nothing = unreadable(CoordinateError.ambiguous)
        return self._statement(first, end, nothing, nothing)

    def _read(self, first: int, end: int, axis: str) -> AxisReading:
        return read_angle(self.tokens, self.kinds, first, end, axis)

    def _pair(self, first: int, end: int, *, lat_first: bool) -> Statement:
        """Read two numbers whose order is stated."""
        spans = [match.span() for match in _ANGLE.finditer(self.kinds, first, end)]
        unclear = len(spans) != 2 or "c" in self.kinds[spans[0][1] : spans[1][0]]
        if unclear or self.beside.unread(end, hemisphere=False) or self.beside.cut(first, end):
            return self._ambiguous(first, end)
        readings = [self._read(*span, axis) for span, axis in zip(spans, "NE" if lat_first else "EN", strict=True)]
        lat, lon = readings if lat_first else reversed(readings)
        return self._statement(first, end, lat, lon)

    def _with_hemispheres(self, first: int, end: int) -> Statement | CoordinateError:
        """Read two numbers with a hemisphere each; whole degrees only if they stand out ("roads N87 and E92")."""
        marked = self.beside.decimals(first, end) or any(kind in "\u00b0'\":" for kind in self.kinds[first:end])
        if not marked and not self.beside.stands_out(first, end):
            return CoordinateError.ambiguous
        match = next(found for pattern in _PAIRS if (found := pattern.fullmatch(self.kinds, first, end)))
        axes = {group: next(kind for kind in match[group] if kind in "NE") for group in ("first", "second")}
        unclear = self.beside.joined(first) or self.beside.contradicted(first, axes["first"])
        unclear = unclear or self._runs_together(match)
        if unclear or self.beside.unread(end, hemisphere=True) or self.beside.cut(first, end):
            return self._ambiguous(first, end)
        read = {axis: self._read(*match.span(group), axis) for group, axis in axes.items()}
        return self._statement(first, end, read["N"], read["E"])

    def _runs_together(self, match: re.Match[str]) -> bool:
        """Return whether the numbers between a hemisphere before and one behind may be parted in several ways.

        In "N 5 30 4 30 20 W" nothing shows which numbers are minutes of the first angle.
        """
        first, between = match["first"], match[0][1:-1]
        if first[0] not in "NE" or match[0][-1] not in "NE" or any(kind in between for kind in "\u00b0'\":,;/\nNE"):
            return False
        numbers = sum(kind in "id" for kind in between)
        commas = between.count("c")  # which may be decimal
        return not {numbers, numbers - commas} & {2, 6} and not first.endswith("d")

    def _named(self, first: int, end: int) -> Iterator[NamedField]:
        """Read a number under a name; nothing if a unit follows, because then it is no coordinate."""
        name = next(at for at in range(first, end) if self.kinds[at] in "AOL")
        axis = "N" if self.kinds[name] == "A" else "E"
        if self.kinds[end : end + 1] == "u":  # "the road is long: 5 km"
            return
        leading = first if name > first and self.kinds[first] == axis else name
        reading = self._read(leading, end, axis)  # "south latitude 33.86"
        has_hemisphere = any(kind in "NE" for kind in self.kinds[leading:end])
        if self.beside.unread(end, hemisphere=has_hemisphere) or self.beside.cut(first, end):
            reading = unreadable(CoordinateError.ambiguous)
        yield self._field(axis, reading, leading, first, end)

    def _field(self, axis: str, reading: AxisReading, leading: int, first: int, end: int) -> NamedField:
        kinds = self.kinds[leading:end]
        return NamedField(axis, reading, ":" in kinds, any(kind in "NEs" for kind in kinds), first, end)

    def _void(self, first: int, end: int) -> NamedField:
        """Read a name without a number: it has null, NaN, or nothing."""
        reason = CoordinateError.not_a_number if self.kinds[end - 1] == "x" else CoordinateError.missing
        return self._field("N" if self.kinds[first] == "A" else "E", unreadable(reason), first, first, end)

    def _hemisphere_fields(self, first: int, end: int) -> Iterator[HemisphereField]:
        """Read the hemispheres in a field of their own; one that does not name its axis may hold those of both."""
        own = {"R": "N", "T": "E"}.get(self.kinds[first])
        for at in range(first + 1, end):
            kind = self.kinds[at]
            if kind in "NEhw":
                letter = HEMISPHERES.get(self.tokens[at].text.lower().rstrip("."), "")
                known = kind in "NE" and kind == (own or kind)
                for axis in own or (kind if known else "NE"):
                    yield HemisphereField(axis, letter in "SW" if known else None)

    def _bare(self, first: int, end: int, spans: list[tuple[int, int]] | None) -> Iterator[Statement | CoordinateError]:
        """Read two numbers of which nothing states the order, if they stand out as a pair of coordinates.

        `spans` are theirs; None if nothing parts them clearly.
        """
        kinds, beside = self.kinds, self.beside
        behind = kinds[end : end + 1]
        spelled = (at for at in range(first, min(end + 1, len(kinds))) if kinds[at] in "'\"")
        durations = ":" in kinds[first:end] or any(self.tokens[at].text.isalpha() for at in spelled)
        listed = beside.joined(first) or beside.in_list(first, end) or behind in ("u", "$")
        if durations or listed or not beside.stands_out(first, end):
            if not (durations or listed) and beside.is_unclear(first, end):
                yield self._ambiguous(first, end)
            elif "d" in kinds[first:end] or "\u00b0" in kinds[first:end]:
                yield CoordinateError.ambiguous
            return
        if _MARK_BEHIND.match(kinds, end):  # "48.85, 2.35 E"
            yield CoordinateError.incomplete
            return
        unread = beside.unread(end, hemisphere=False, bare=True) or beside.cut(first, end)
        if spans is None or unread or beside.qualified(first, end):
            yield self._ambiguous(first, end)  # "48,85", "13.4, 52.52 Ost", "S 33.87, 151.21"
            return
        lat, lon = (self._read(*span, axis) for span, axis in zip(spans, "NE", strict=True))
        yield self._statement(first, end, lat, lon, bare=True)

    def _comma_halves(self, first: int, end: int) -> list[tuple[int, int]] | None:
        """Return the spans of two numbers with decimal commas; None if these may separate thousands or list items."""
        wholes = [at for at in range(first, end) if self.kinds[at] == "i"]
        if any(len(self.tokens[at].text) <= _THOUSANDS for at in wholes[1::2]):
            return None
        return [(first, wholes[1] + 1), (wholes[1] + 1, end)]

    def _halves(self, first: int, end: int) -> list[tuple[int, int]] | None:
        """Return the spans of a bare pair's numbers; None if a comma may be decimal, or nothing parts them clearly."""
        kinds = self.kinds[first:end]
        if "c" in kinds:
            return None
        for at, kind in enumerate(kinds):
            if kind in ",;/":
                return [(first, first + at), (first + at, end)]
        numbers = [at for at, kind in enumerate(kinds) if kind in "id"]
        seconds = [at for at in numbers[1:] if not self._is_part(kinds, at)]
        if not self.beside.decimals(first, end) or len(seconds) != 1:
            return None
        split = first + seconds[0] - (kinds[seconds[0] - 1] == "s")
        return [(first, split), (split, end)]

    def _is_part(self, kinds: str, at: int) -> bool:
        """Return whether the number at `at` is the minutes, seconds or tolerance of the number before it."""
        before, behind = kinds[at - 1], kinds[at + 1 : at + 2]
        return before in "':\u00b1" or (before == "\u00b0" and behind in ("'", '"', ":"))
