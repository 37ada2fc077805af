"""The fields of an address in a text: in its final JSON object, in labelled lines, or in a table.

Fields are the texts of the parts of an address, "confidence", and "coordinates": a text that the reader of coordinates
reads, with all that qualifies the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from geotune.tasks.base import Reason
from geotune.tasks.final_answer import TEXT_MARKS
from geotune.tasks.json_nodes import JsonNode, Member, Reading, Scalar, is_denial
from geotune.tasks.json_reading import normal_key, plain_punctuation, read_spellings
from geotune.tasks.place_names import is_unknown, known_name

_NAME_KEYS = {
    **{name: name for name in ("street", "city", "state", "country", "confidence")},
    **dict.fromkeys(("streetname", "streetaddress", "road"), "street"),
    **dict.fromkeys(("cityname", "town", "village", "municipality", "city/town"), "city"),
    **dict.fromkeys(("statename", "province", "state/province", "stateprovince", "stateorprovince"), "state"),
    **dict.fromkeys(("countryname", "countrycode", "nation"), "country"),
}
_AXIS_KEYS = ("latitude", "longitude", "lat", "lon", "lng", "long")
_PAIR_KEYS = ("coordinates", "coords", "gps", "gpscoordinates", "latlng", "latlon", "latlong", "geolocation", "geo")
PLACE_KEYS = (*(key for key, field in _NAME_KEYS.items() if field != "confidence"), *_AXIS_KEYS, *_PAIR_KEYS)
"""Normalized JSON keys of an address, apart from its confidence."""
# Objects under keys such as "prediction" and "best_guess" hold the answer. Under all others ("landmark", "alternative",
# "reasoning") they hold other places, or remarks, whatever keys stand in them.
_FIRST = "final best top first primary main mostlikely likely predicted estimated"
_OWNERS = "the my your its photo image picture camera mybest bestestimated geo"
_NOUNS = "answer prediction guess estimate result response output conclusion choice candidate location place address"
_ANSWER_KEYS = frozenset(
    (
        *_FIRST.split(),
        *(word + noun for word in ("", *_FIRST.split(), *_OWNERS.split()) for noun in _NOUNS.split()),
        *("results", "predictions", "locations", "data", "json", "position", "geolocation", "geocoding"),
        *("arguments", "args", "parameters", "input", "properties"),
    )
) - {"candidate", "choice"}
# Objects under these keys belong to the address beside them.
_PART_KEYS = ("address", "location", "position", "place", "addressdetails", "details", "reversegeocoding", *_PAIR_KEYS)
_WANTED = frozenset((*_NAME_KEYS, *_AXIS_KEYS, *_PAIR_KEYS, *_ANSWER_KEYS, *_PART_KEYS))
_MAX_DEPTH = 5

_LABEL_WORDS = "|".join(
    (
        r"street(?:[ _](?:name|address))?|road|city(?:[ _]name)?|city ?/ ?town|town|village|municipality",
        r"state(?:[ _]name)?|state ?/ ?province|province|country(?:[ _](?:name|code))?|nation|confidence",
        r"lat(?:itude)? ?[/,&] ?(?:longitude|lon|lng|long)|latitude|longitude|lat|lon|lng|long",
        r"coordinates|coords|gps(?: coordinates)?",
    )
)
_EDGES = " \t\r\"'*_`+#|{}[](),;\u2022\u00b7-"
# A remark in parentheses behind a label that leaves its meaning as it is: not "(nearest)".
_REMARK = (
    r"\([ \t]*(?:(?:or|and|town|city|village|municipality|state|province|region|county|territory|name|english|local|iso"
    r"|code|best|guess|estimate|estimated|predicted|most|likely|probable|probably|approx|approximate|approximately"
    r"|if|known|applicable|available|full|lat|latitude|lon|lng|long|longitude|decimal|degrees|wgs84|wgs|dd|1|5|to)"
    r"[ \t,./&\u2013-]*){1,6}\)"
)
_LABEL = re.compile(
    rf"(?:^|[,;|{{]|\.(?= ))[ \t\"'*_`+>#\u2022\u00b7(\d.)-]{{0,20}}(?<![^\W_])({_LABEL_WORDS})"
    rf"[ \t\"'*_`]{{0,6}}(?:{_REMARK}[ \t\"'*_`]{{0,6}})?[:=]",
    re.IGNORECASE | re.MULTILINE,
)
# A remark in parentheses, or a sentence of three words or more behind a word that is no abbreviation.
_COMMENT = re.compile(r"(?<=\S)\s*\([^()]*\)\W*$|(?<=\w{4})\.\s+\S+\s\S+\s\S.*$")
_DOUBT = re.compile(
    r"\b(?:or|not|unlikely|maybe|perhaps|possibly|alternatively|wrong|rejected|excluded|ruled out|vs|nearest)\b",
    re.I,
)
_LABEL_CELL = re.compile(rf"(?:{_LABEL_WORDS})(?: {_REMARK})?", re.IGNORECASE)
# Another label behind a name: "City: Paris, Postal code: 75007".
_NEXT_LABEL = re.compile(r"[,;][ \t*_]*[^\W\d_][\w /()-]{1,30}[ \t*_]*:(?=\s)")
_ASIDE_LINE = re.compile(
    r"^[^\w\n]*+(?:alternative|other (?:candidate|possib|option|guess)|second|runner|less likely|another"
    r"|rejected|excluded|ruled out|eliminated|discarded|examples?\b|for example)[^\n]*$",
    re.I | re.M,
)
_ASIDE_WORDS = (
    "alternative",
    "other",
    "second",
    "runner",
    "less",
    "rejected",
    "excluded",
    "ruled",
    "elim",
    "discard",
    "example",
)  # an aside holds one of them
_RULE = re.compile(r"[\s|:+-]*")
_LONGEST_NAME = 80
# The canonical form, by far the most frequent one, needs no analysis: it holds no escapes and no characters with which
# tags begin.
_STRING = r"\"[^\"\\<>{}\[\]\n\u25c1\ud800-\udfff]*\""
_CANONICAL = re.compile(
    r"\{"
    + ", ".join(rf'"{name}": (?:(?P<{name}>{_STRING})|null)' for name in ("street", "city", "state", "country"))
    + r', "latitude": (?:(?P<latitude>-?[0-9]+\.[0-9]+), "longitude": (?P<longitude>-?[0-9]+\.[0-9]+)'
    r'|null, "longitude": null), "confidence": (?:(?P<confidence>[0-9.]+)|null)\}\s*'
)


def canonical_fields(text: str) -> dict[str, str] | None:
    """Return the fields of a canonical answer at the end of a text; None if that takes more analysis."""
    start = text.rfind("{")
    found = _CANONICAL.fullmatch(text, start) if start >= 0 else None
    if found is None or any(mark in text[:start] for mark in TEXT_MARKS) or is_denial(text[:start]):
        return None
    fields = {name: said.strip('"') for name, said in found.groupdict().items() if said is not None}
    lat, lon = fields.pop("latitude", None), fields.pop("longitude", None)
    return fields if lat is None else {**fields, "coordinates": f'{{"latitude": {lat}, "longitude": {lon}}}'}


def fields_of(text: str) -> dict[str, str] | Reason:
    """Return the fields of a final answer: those of its JSON, or else of its labels or table, or else coordinates."""
    fields = json_fields(text)
    return listed_fields(text) if fields is None else fields


def json_fields(text: str) -> dict[str, str] | Reason | None:
    """Return the fields of the final JSON object with a part of an address; None if the text has no such object."""
    incomplete = False
    for reading in read_spellings(text, _WANTED):
        final = reading.final_objects(PLACE_KEYS, deep=True)
        if final:
            if len(final) > 1:
                return Reason.CONTRADICTION
            return Reason.NO_ANSWER if reading.is_doubted(final[0]) else _fields_of(reading, final[0])
        incomplete = incomplete or final is not None
    return Reason.TRUNCATED if incomplete else None


def listed_fields(text: str) -> dict[str, str] | Reason:
    """Return the fields of labelled lines or of a table; without them, the text as that of coordinates."""
    text = plain_punctuation(text)
    lower = text.lower()
    if not lower.isascii() or any(word in lower for word in _ASIDE_WORDS):
        aside = _ASIDE_LINE.search(text)
        text = text[: aside.start()] if aside else text
    found = _table(text) or list(_labelled(text))
    values: dict[str, set[str]] = {}
    pieces, since = [], 0
    for label, start, end in found:
        field = _NAME_KEYS.get(normal_key(label))
        if field is None:
            continue
        if (name := known_name(_name(text[start:end]), field)) is not None:
            if len(name) > _LONGEST_NAME:  # a sentence about it
                return Reason.NO_ANSWER
            values.setdefault(field, set()).add(name)
        pieces.append(f"{text[since:start]} ")
        since = end
    if any(len(texts) > 1 for texts in values.values()):
        return Reason.CONTRADICTION
    fields = {field: texts.pop() for field, texts in values.items()}
    # All but the names may qualify the coordinates: "Hemisphere: S" in a line of its own.
    return {**fields, "coordinates": "".join((*pieces, text[since:])) if fields else text}


def _fields_of(reading: Reading, root: JsonNode) -> dict[str, str] | Reason:
    """Return the fields of a JSON object; each is taken from the outermost level that holds it."""
    values: dict[str, set[str]] = {}
    level = [root]
    for _ in range(_MAX_DEPTH):
        here: dict[str, set[str]] = {}
        inside: list[JsonNode] = []
        for node in level:
            for field, said in _own_fields(reading, node):
                here.setdefault(field, set()).add(said)
            inside += _parts(node)
        values = here | values
        level = inside
    if any(len(texts) > 1 for texts in values.values()):
        return Reason.CONTRADICTION
    return {field: texts.pop() for field, texts in values.items()}


def _own_fields(reading: Reading, node: JsonNode) -> Iterator[tuple[str, str]]:
    """Iterate over the fields that an object itself holds, in the spelling of its keys."""
    names = {member.key for member in node.members() if isinstance(member.value, Scalar)}
    for member in node.members():
        field = _NAME_KEYS.get(member.key)
        if field is not None and isinstance(member.value, Scalar) and (member.key == field or field not in names):
            said = reading.string(member.value)
            if (name := known_name(said, field)) is not None:
                yield field, name
    if any(_holds_coordinates(reading, member) for member in node.members()):
        yield "coordinates", _without_names(reading, node)


def _holds_coordinates(reading: Reading, member: Member) -> bool:
    if member.key not in (*_AXIS_KEYS, *_PAIR_KEYS) or member.value is None:
        return False
    return isinstance(member.value, JsonNode) or not is_unknown(reading.string(member.value))


def _parts(node: JsonNode) -> Iterator[JsonNode]:
    """Iterate over the objects in an object that belong to the same address, or in an outer object hold the answer."""
    outer = node.keys.isdisjoint(PLACE_KEYS)
    for member in node.members():
        inner = member.value
        if isinstance(inner, JsonNode) and not inner.is_object:
            items = [item.value for item in inner.members()]
            inner = items[0] if len(items) == 1 else None
        if not isinstance(inner, JsonNode) or not inner.is_object or member.key in _PAIR_KEYS:
            continue
        if member.key in _PART_KEYS or (outer and member.key in _ANSWER_KEYS):
            yield inner


def _without_names(reading: Reading, node: JsonNode) -> str:
    """Return the JSON of an object with null for its names and for the objects and arrays that hold no coordinates."""
    pieces, since = [], node.start
    for member in node.members():
        value = member.value
        nested = isinstance(value, JsonNode) and member.key not in (*_AXIS_KEYS, *_PAIR_KEYS)
        if value is not None and (nested or member.key in _NAME_KEYS):
            quote = isinstance(value, Scalar) and value.quoted
            pieces += [reading.text[since : value.start - quote], "null"]
            since = value.end + quote
    return "".join((*pieces, reading.text[since : node.end]))


def _labelled(text: str) -> Iterator[tuple[str, int, int]]:
    """Iterate over the labels of a text, and where that begins and ends which follows each of them in its line."""
    labels = list(_LABEL.finditer(text)) if ":" in text or "=" in text else []
    for number, label in enumerate(labels):
        line_end = text.find("\n", label.end())
        following = labels[number + 1].start() if number + 1 < len(labels) else len(text)
        end = min(following, line_end if line_end >= 0 else len(text))
        other = _NEXT_LABEL.search(text, label.end(), end) if normal_key(label[1]) in _NAME_KEYS else None
        yield label[1], label.end(), other.start() if other else end


def _name(said: str) -> str:
    """Return the name in what follows a label, without marks around it and without a comment behind it.

    A comment that doubts the name stays, so that the name equals no other: "Paris (or Lyon)".
    """
    plain = re.sub(r"\*\*|`", "", said).strip()
    if (comment := _COMMENT.search(plain)) and _DOUBT.search(comment[0]):
        return plain
    return _COMMENT.sub("", plain).strip(_EDGES).removesuffix(".")


def _table(text: str) -> list[tuple[str, int, int]]:
    """Return the labels of a table and where the cell of each begins and ends.

    The table has a row of labels and one row below it, or a column of labels.
    """
    rows = []
    for line in re.finditer(r"[^\n]+", text) if "|" in text else ():
        if line[0].count("|") > 1 and not _RULE.fullmatch(line[0]):
            rows.append(list(_cells(text, *line.span())))
    if len(rows) == 2 and len(rows[0]) == len(rows[1]) and sum(_is_label(cell[0]) for cell in rows[0]) > 1:
        return [(label, *cell[1:]) for (label, *_), cell in zip(*rows, strict=True) if _is_label(label)]
    return [(row[0][0], *row[1][1:]) for row in rows if len(row) == 2 and _is_label(row[0][0])]


def _cells(text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Iterate over the cells of the table's row `text[start:end]`: their words, and where they begin and end."""
    row = text[start:end].lstrip().removeprefix("|")
    at = end - len(row)
    for cell in row.rstrip().removesuffix("|").split("|"):
        yield cell.strip(_EDGES), at, at + len(cell)
        at += len(cell) + 1


def _is_label(cell: str) -> bool:
    return _LABEL_CELL.fullmatch(cell) is not None
