"""What the name of a table's column says of a coordinate.

A coordinate's name is an axis (`lat`, `latitude`, `lng`, ...) with words that say only where the value comes from
(`gt_lat`, `GPSLatitude`, `photo_lat`) or its unit (`latitude_deg`, `decimalLatitude`), in any order, case and
punctuation. Any other word makes it another quantity: `pred_lat`, `min_lat`, `delta_lat` and `lat_std` are no
coordinates of the photo.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from geotune.tasks.coordinate_reader.words import OTHER_SCRIPTS

_AXIS_WORDS = {
    axis: (*words, *(word for word, of in OTHER_SCRIPTS.items() if of == axis))
    for axis, words in {
        "lat": ("lat", "latitude", "latitud", "latitudine", "lattitude", "breitengrad"),
        "lon": (
            *("lon", "lng", "long", "longitude", "longitud", "longitudine", "longtitude"),
            *("l\u00e4ngengrad", "laengengrad"),
        ),
    }.items()
}
_ORIGIN = {
    *("gt", "true", "truth", "ground", "gold", "real", "actual", "correct", "label"),
    *("gps", "exif", "composite", "geo", "photo", "image", "img", "picture", "pic", "camera", "cam"),
    *("location", "loc", "position", "pos", "point", "coord", "coords", "coordinate", "coordinates"),
}
_DEGREES = {"deg", "degs", "degree", "degrees", "degres", "grados"}
_UNIT = _DEGREES | {"dd", "dec", "decimal", "wgs", "wgs84", "84", "epsg", "4326", "value"}
_KINDS = {
    **dict.fromkeys(("ref", "reference", "dir", "direction", "cardinal", "indicator", "hemi", "hemisphere"), "ref"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "sec"),
    **dict.fromkeys(("max", "maximum", "minimum"), "bound"),
    **dict.fromkeys(("sign", "frac", "fraction", "fractional", "int", "integer", "arcmin", "arcsec"), "part"),
}
"""Words beside an axis that say what a column holds instead of the coordinate itself, and what that is."""
_OF_AXIS = {"ns": "lat", "northsouth": "lat", "ew": "lon", "eastwest": "lon"}
"""Words for the hemisphere that imply its axis."""
_LETTERS = {"d": "deg", "m": "min", "s": "sec"}
"""Letters that stand for a part of an angle, as words of their own (`lat_d`, `lat_m`)."""
_WORDS = {word for words in _AXIS_WORDS.values() for word in words} | _ORIGIN | _UNIT | _KINDS.keys() | _OF_AXIS.keys()
AXES = ("lat", "lon")
_DATUMS = {
    *("crs", "srs", "srid", "epsg", "coordinatesystem", "coordsystem", "coordinatereferencesystem"),
    *("spatialreference", "spatialreferencesystem", "referencesystem", "verbatimsrs", "epsgcode", "crscode"),
}
_MARKS = {ord("\u00b0"): " deg ", ord("\u2032"): " min ", ord("\u2033"): " sec "}
_ORDINARY = {"late", "later", "latex", "lone", "loner", "long", "longs"}
_DANGERS = {
    "southern degrees": {"s", "south", "southern"},
    "western degrees": {"w", "west", "western"},
    "radians": {"rad", "rads", "radian", "radians"},
    "degrees times a power of ten": {"e7", "e6", "e5", "microdegrees"},
    "projected meters": {"utm", "mercator", "3857", "easting", "northing"},
}
"""Words in the name of a column by which its cells are no signed degrees."""
_SPLIT = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class ColumnName:
    """What a column's name says."""

    column: str
    axis: str | None
    kind: str
    """value, ref, min, sec, bound or part."""
    origin: frozenset[str] = field(default_factory=frozenset)
    short: bool = False
    """Whether the axis is abbreviated; names of one pair are alike in this too."""
    unit: frozenset[str] = field(default_factory=frozenset)
    spelled: bool = True
    """Whether the name has a word for the axis; `hemisphere` and `ns` have none."""
    edge: bool = False
    """Whether it is the lower edge of a box, or minutes, if the table has no upper edge: `min_lat`."""

    @property
    def takes_minutes(self) -> bool:
        """Whether minutes may stand in a column beside this one."""
        return not self.unit & {"decimal", "dec", "dd"}

    @property
    def names_degrees(self) -> bool:
        """Whether the name says that these are the degrees, as `lat_deg` does beside `lat_min`."""
        return self.takes_minutes and bool(self.unit & _DEGREES)


def read_name(column: str) -> ColumnName | None:
    """What a column's name says of a coordinate; None for every other column."""
    words = _words(column)
    axes = {axis for axis, names in _AXIS_WORDS.items() for word in words if word in names}
    spelled = bool(axes)
    axes |= {_OF_AXIS[word] for word in words if word in _OF_AXIS}
    kinds = {"ref" if word in _OF_AXIS else _KINDS[word] for word in words if word in _OF_AXIS or word in _KINDS}
    if len(axes) > 1 or len(kinds) > 1 or not (axes or {"hemi", "hemisphere"} & set(words)):
        return None
    known = frozenset(words)
    origin = known & _ORIGIN
    if words[0] in ("ref", "reference") and axes:  # ref_lat is a place of reference, lat_ref a hemisphere
        kinds, origin = set(), origin | {"reference"}
    edge = words[0] in ("min", "mins")  # min_lat is the edge of a box, lat_min may be minutes
    if edge:
        kinds = {"bound"}
    short = any(word in ("lat", "lon", "lng", "long") for word in words)
    return ColumnName(
        column, next(iter(axes), None), next(iter(kinds), "value"), origin, short, known & _UNIT, spelled, edge
    )


def axes_named(header: Iterable[str]) -> int:
    """Number of the axes, none to two, for which a header has a column of coordinates."""
    named = (read_name(column) for column in header)
    return len({each.axis for each in named if each is not None and each.kind == "value"})


def letters_and_digits(name: str) -> str:
    """A name reduced to its letters and digits, in lower case."""
    return "".join(_SPLIT.findall(name)).lower()


def axis_in(column: str) -> str | None:
    """The axis that a column's name mentions, whatever its other words are; also in one word with them (`latm`)."""
    axes = {axis for piece in pieces(column) for axis in AXES if _mentions(piece, axis)}
    return axes.pop() if len(axes) == 1 else None


def _mentions(piece: str, axis: str) -> bool:
    if piece in _AXIS_WORDS[axis]:
        return True
    rest = next((piece[len(word) :] for word in _AXIS_WORDS[axis] if len(word) > 4 and piece.startswith(word)), None)
    short = any(piece.startswith(word) and len(piece) <= len(word) + 2 for word in _AXIS_WORDS[axis] if len(word) == 3)
    return rest is not None or (short and piece not in _ORDINARY)


def names_datum(column: str) -> bool:
    """Whether a column's name says that it holds the datum or the reference system of coordinates."""
    words = pieces(column)
    plain = "".join(words)
    return axis_in(column) is None and (plain.endswith("datum") or bool(_DATUMS & {*words, plain}))


def danger_in(column: str) -> str | None:
    """What the name of a column says against reading its cells as signed degrees; None if it says nothing."""
    listed = pieces(column)
    words = {*listed, *map("".join, pairwise(listed))}  # e7 has two pieces
    for what, signs in _DANGERS.items():
        if words & signs and (axis_in(column) or not words <= {"s", "w"}):
            return what
    return None


def pieces(column: str) -> list[str]:
    """The words and numbers of a name, in lower case."""
    spelled = column.translate(_MARKS)
    return [word.lower() for piece in _SPLIT.findall(spelled) for word in _CAMEL.split(piece)]


def _words(column: str) -> list[str]:
    """The words of a name, in lower case; empty if one of them is unknown here."""
    names = pieces(column)
    apart = [_LETTERS.get(piece, piece) for piece in names]
    for candidate in ((word for piece in apart for word in _joined(piece) or [""]), _joined("".join(names))):
        words = list(candidate)
        if words and all(words):
            return words
    return []


def _joined(text: str) -> list[str]:
    """The known words that a text without separators is made of, the longest first; empty if it is not."""
    if text in _WORDS:
        return [text]
    for end in range(len(text) - 2, 1, -1):
        if text[:end] in _WORDS and (rest := _joined(text[end:])):
            return [text[:end], *rest]
    return []
