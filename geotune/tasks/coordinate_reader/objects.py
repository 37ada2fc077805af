"""JSON objects that state coordinates, in fields, pairs, nested objects and lists of candidates."""

from __future__ import annotations

import json
import math
import re
from itertools import islice

from geotune.tasks.coordinate_reader.angles import AxisReading, CoordinateError, read_axis, unreadable
from geotune.tasks.coordinate_reader.ranking import Ranked, ambiguous, first_of
from geotune.tasks.coordinate_reader.statements import Statement, combined_reason
from geotune.tasks.coordinate_reader.words import HEMISPHERES, key_role
from geotune.tasks.json_nodes import JsonNode, Member, Reading, Scalar, Status, Value
from geotune.tasks.json_reading import read_named_objects

_STATED = frozenset(("lat", "lon", "lat_lon", "lon_lat", "pair", "box"))
"""Roles of keys that make an object a statement."""
_KEY = re.compile(
    r"(?:lat|lon|lng|l\u00e4n|laen|leng|bre[ei]|coord|loc|pos|point|gps|geo|place|cent|answer|box|bound|view|extent|envelope"
    r"|north|south|east|west|\b[ns][ew]\b)[^\n:=]{0,40}[:=]",
    re.IGNORECASE,
)
"""A part of a key that has one of these roles, so that texts without one need no search for objects."""
_REFS = ("ref", "direction", "lat_ref", "lon_ref")
_PARTS = ("value", "degrees", "minutes", "seconds", *_REFS, "confidence", "spread", "lat?", "lon?", "box")
_NO_PLACES = ("box", "spread", "minutes", "seconds", "lat?", "lon?", "lat_min", "lon_min")
_COMMENT = re.compile(
    r"(?<![:\w\"'/])(?:\#|//|/\*)[^\n\"']{0,40}?\b(?:[NSEW]|north|south|east|west|minus|negative)\b", re.IGNORECASE
)
"""A comment in an object that names a hemisphere."""
_MAX_DEPTH = 8
_MANY = 20
"""More fields than an object that states one axis has."""
_LON_FIRST = re.compile(r"lon[a-z]{0,10}[^a-z]{0,5}lat|lng[^a-z]{0,5}lat|geojson|wkt|x\W{0,3}y", re.IGNORECASE)
_LAT_FIRST = re.compile(r"lat[a-z]{0,10}[^a-z]{0,5}(?:lon|lng)", re.IGNORECASE)
_POINT = re.compile(r"(?:multi)?(?:point|linestring|polygon)|feature(?:collection)?", re.IGNORECASE)
_NUMBER_TEXT = re.compile(r"[-+]?[0-9]++(?:\.[0-9]++)?")
_SHARE = re.compile(r"#?([0-9]++(?:\.[0-9]++)?)\s?%?")
_BETWEEN = re.compile(r"\s{0,9}[,;]\s{0,9}")
_NAMED = re.compile("lat|l(?:on|ng)", re.IGNORECASE)
_HAS_DIGIT = re.compile("[0-9]")
_HAS_LETTER = re.compile("[NSEW]")


def read_place_objects(text: str) -> list[tuple[int, int, Statement]]:
    """Read the outermost objects and arrays of a text that state coordinates."""
    if not _KEY.search(text):
        return []
    reading = read_named_objects(text, key_role)
    found = []
    position = 0
    for node in reading.nodes:
        states = not node.deep.isdisjoint(_STATED) or node.incomplete
        if node.start < position or node.status is Status.BROKEN or not states:
            continue
        reader = _ObjectReader(reading)
        statement = reader.statement(node, 0)
        if statement is None and reader.skipped:  # bounds, errors and the like, and nothing else
            statement = ambiguous()
        if statement is not None:
            if _COMMENT.search(text, node.start, node.end):
                statement = ambiguous()
            found.append((node.start, node.end, statement))
            position = node.end
    return found


def read_row(names: list[str], cells: list[str]) -> Ranked | None:
    """Read a row of a table as an object with these keys and values; None if it states no place."""
    fields = (f"{json.dumps(name)}: {json.dumps(cell)}" for name, cell in zip(names, cells, strict=True))
    reading = read_named_objects("{" + ", ".join(fields) + "}", key_role)
    reader = _ObjectReader(reading)
    statement = reader.statement(reading.nodes[0], 0)
    return None if statement is None else Ranked(statement, "", *reader.ranks(reading.nodes[0]))


class _ObjectReader:
    """Reads the statement of one object or array, the outermost level first."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.skipped = False  # whether objects with coordinates that are no place were left out

    def statement(self, node: JsonNode, depth: int, role: str = "") -> Statement | None:
        """Return what a node states; None if it states no place."""
        if depth > _MAX_DEPTH:
            return None
        if not node.is_object:
            return self.array(node, depth, role)
        members = list(node.members())
        own = self.fields(members)
        if own is not None:
            return own
        inner = []
        for member in members:
            if member.key in _NO_PLACES:
                self.skipped = self.skipped or (
                    isinstance(member.value, JsonNode) and bool(member.value.deep & _STATED)
                )
            elif (stated := self.value(member, members, depth)) is not None:
                inner.append(Ranked(self.in_hemispheres(stated, members), member.key, *self.ranks(member.value)))
        if not inner and any(member.key == "box" for member in members) and node.keys <= {"box", "order", "type"}:
            return ambiguous()
        return first_of(inner)

    def in_hemispheres(self, statement: Statement, members: list[Member]) -> Statement:
        """Return a statement; it is ambiguous if hemispheres that stand one level further out contradict its signs."""
        for member in members:
            if member.key in ("ref", "lat_ref", "lon_ref"):
                letter = HEMISPHERES.get(self.text(member).lower().removesuffix("hemisphere").strip(" ."), "")
                value = statement.lat if letter in "NS" else statement.lon
                if not letter or (value > 0) is not (letter in "NE"):
                    return ambiguous()
        return statement

    def fields(self, members: list[Member]) -> Statement | None:
        """Return what the fields of one level state: both axes, or one of them, which is incomplete."""
        readings = {axis: self.axis(members, axis) for axis in ("lat", "lon")}
        if readings["lat"] is None and readings["lon"] is None:
            return None
        lat, lon = (readings[axis] or unreadable(CoordinateError.missing) for axis in ("lat", "lon"))
        return Statement(lat.value, lon.value, combined_reason(lat, lon), explicit=True)

    def axis(self, members: list[Member], axis: str) -> AxisReading | None:
        """Read one axis of a level: its value, in one field or several, and its hemisphere."""
        letter = "N" if axis == "lat" else "E"
        refs = [self.text(member) for member in members if member.key == f"{axis}_ref"]
        refs += self.loose_refs(members, axis)
        roles = {f"{axis}_min": "minutes", f"{axis}_sec": "seconds"} if self.has_minutes(members, axis) else {}
        parts = {roles[member.key]: self.text(member) for member in members if member.key in roles}
        readings = {self.axis_value(member.value, letter, parts, refs) for member in members if member.key == axis}
        if len(readings) > 1:
            readings = {reading for reading in readings if reading.reason is not CoordinateError.missing}
        if len(readings) > 1:
            return unreadable(CoordinateError.ambiguous)
        return readings.pop() if readings else None

    def loose_refs(self, members: list[Member], axis: str) -> list[str]:
        """Return the hemispheres of an axis whose fields do not name it.

        A field "direction" counts only directly behind the value, because it may also tell where the camera looks.
        """
        letters = "NS" if axis == "lat" else "EW"
        found = []
        for before, member in zip([None, *members], members, strict=False):
            behind = before is not None and before.key == axis
            if member.key == "ref" or (member.key == "direction" and behind):
                said = self.text(member)
                letter = HEMISPHERES.get(said.lower().removesuffix("hemisphere").strip(" ."), "")
                if letter in letters if letter else member.key == "ref":
                    found.append(said)
        return found

    def has_minutes(self, members: list[Member], axis: str) -> bool:
        """Return whether `lat_min` of a level means minutes, not a minimum: the degrees are whole, without a bound."""
        bounds = any(member.key == f"{axis}?" for member in members)
        return not bounds and not any(member.key == axis and "." in self.text(member) for member in members)

    def axis_value(self, value: Value, letter: str, parts: dict[str, str], refs: list[str]) -> AxisReading:
        """Read the value of one axis: a scalar, an array with one, or an object with the parts of an angle."""
        if value is None:
            return unreadable(CoordinateError.incomplete)
        if isinstance(value, Scalar):
            return self.angle(self.reading.string(value), parts, refs, letter)
        members = list(islice(value.members(), _MANY))
        if not value.is_object:
            if len(members) != 1 or not isinstance(members[0].value, Scalar):
                return unreadable(CoordinateError.ambiguous)
            return self.angle(self.text(members[0]), parts, refs, letter)
        degrees = [member for member in members if member.key in ("value", "degrees")]
        inner = {member.key: self.text(member) for member in members if member.key in ("minutes", "seconds")}
        # Beside "value", "min" may be a minimum.
        unclear = len(degrees) != 1 or (inner and degrees[0].key == "value")
        if unclear or len(members) == _MANY or not all(self.is_understood(member) for member in members):
            return unreadable(CoordinateError.ambiguous)
        inner_refs = [self.text(member) for member in members if member.key in _REFS]
        return self.angle(self.text(degrees[0]), parts | inner, refs + inner_refs, letter)

    def is_understood(self, member: Member) -> bool:
        """Return whether a field of one axis is one of its parts, or has no number that may be one."""
        text = self.text(member).lower()
        return member.key in _PARTS or not (_HAS_DIGIT.search(text) or text in HEMISPHERES)

    def angle(self, degrees: str, parts: dict[str, str], refs: list[str], letter: str) -> AxisReading:
        """Read an angle whose minutes and seconds, if it has any, and hemispheres are given apart."""
        if parts:
            texts = [degrees, *(parts[part] for part in ("minutes", "seconds") if part in parts)]
            if "minutes" not in parts or not all(_NUMBER_TEXT.fullmatch(text) for text in texts):
                return unreadable(CoordinateError.ambiguous)
            degrees = "".join(f"{text}{mark}" for text, mark in zip(texts, "\u00b0'\"", strict=False))
        return read_axis(degrees, " ".join(refs), letter)

    def value(self, member: Member, siblings: list[Member], depth: int) -> Statement | None:
        """Return what the value of a member states by itself."""
        value = member.value
        pair = member.key in ("pair", "lat_lon", "lon_lat", "primary")
        if isinstance(value, JsonNode):
            if not value.is_object and pair and (numbers := self.numbers(value)) is not None:
                return self.ordered(numbers, member.key, siblings)
            if pair and not value.is_object and any(self.is_array(item) for item in islice(value.members(), 2)):
                return ambiguous()  # a line or a shape
            found = self.statement(value, depth + 1, member.key)
            return ambiguous() if found is not None and found.bare and member.key == "geometry" else found
        if isinstance(value, Scalar) and value.quoted and member.key in ("pair", "lat_lon", "lon_lat"):
            said = self.reading.string(value)
            parts = _BETWEEN.split(said)
            if member.key == "pair" and (_NAMED.search(said) or "{" in said):
                return None  # prose
            if len(parts) == 2 and all(_HAS_DIGIT.search(part) for part in parts):
                return self.ordered(parts, member.key, siblings)
            return ambiguous() if member.key != "pair" else None
        return None

    def is_array(self, member: Member) -> bool:
        return isinstance(member.value, JsonNode) and not member.value.is_object

    def numbers(self, node: JsonNode) -> list[str] | None:
        """Return the items of an array of two or three numbers; None for any other array."""
        items = list(islice(node.members(), 4))
        if not 2 <= len(items) <= 3 or not all(isinstance(item.value, Scalar) for item in items):
            return None
        texts = [self.text(item) for item in items]
        return texts if any(_HAS_DIGIT.search(text) for text in texts) else None

    def ordered(self, numbers: list[str], role: str, siblings: list[Member]) -> Statement:
        """Read a pair in the order that its key, its format or a field beside it states."""
        orders = {role} & {"lat_lon", "lon_lat"}
        for sibling in siblings:
            if sibling.key in ("order", "type") and isinstance(sibling.value, Scalar):
                said = self.reading.string(sibling.value)
                if _LON_FIRST.search(said) or (sibling.key == "type" and _POINT.fullmatch(said)):
                    orders.add("lon_lat")
                elif _LAT_FIRST.search(said):
                    orders.add("lat_lon")
                elif sibling.key == "order":
                    orders.add("unknown")
        if len(orders) > 1 or orders == {"unknown"}:
            return ambiguous()
        lon_first = orders == {"lon_lat"}
        first, second = ("E", "N") if lon_first else ("N", "E")
        readings = {first: read_axis(numbers[0], "", first), second: read_axis(numbers[1], "", second)}
        if not orders:  # hemispheres beside the numbers tell their order
            flipped = [read_axis(numbers[0], "", "E"), read_axis(numbers[1], "", "N")]
            if any(reading.reason for reading in readings.values()) and not any(each.reason for each in flipped):
                readings = {"E": flipped[0], "N": flipped[1]}
        lat, lon = readings["N"], readings["E"]
        marked = all(_HAS_LETTER.search(number) for number in numbers[:2])
        return Statement(lat.value, lon.value, combined_reason(lat, lon), bare=not orders and not marked, explicit=True)

    def array(self, node: JsonNode, depth: int, role: str) -> Statement | None:
        """Return what the objects in an array state: one place, or the first of ranked ones."""
        inner = []
        for member in node.members():
            if isinstance(member.value, JsonNode):
                found = self.statement(member.value, depth + 1, role)
                if found is not None:
                    inner.append(Ranked(found, "", *self.ranks(member.value)))
        return first_of(inner)

    def ranks(self, value: object) -> tuple[float, float]:
        """Return the rank and the confidence that an object gives for itself; NaN where it gives none."""
        found = {"rank": math.nan, "confidence": math.nan}
        if isinstance(value, JsonNode) and value.is_object:
            for member in value.members():
                if member.key in found and isinstance(member.value, Scalar):
                    number = _SHARE.fullmatch(self.reading.string(member.value))
                    found[member.key] = float(number[1]) if number else math.nan
        return found["rank"], found["confidence"]

    def text(self, member: Member) -> str:
        """Return the text of a scalar; an object or a value that is cut off gives a text that can't be read."""
        return self.reading.string(member.value) if isinstance(member.value, Scalar) else "?0?"
