"""The columns of a table: which one holds what, by the words that its name is made of.

A coordinate's name is an axis (`lat`, `latitude`, `lng`, ...) with words that say only where the value comes from
(`gt_lat`, `GPSLatitude`, `photo_lat`) or its unit (`latitude_deg`, `decimalLatitude`), in any order, case and
punctuation. Any other word makes it another quantity: `pred_lat`, `min_lat`, `delta_lat` and `lat_std` are no
coordinates of the photo.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geotune.errors import ConfigError, Problem

NAMES = ("street", "city", "state", "country", "continent")
"""Roles of the columns that name a photo's place."""
SPELLINGS: dict[str, tuple[str, ...]] = {
    "id": ("imgid", "imageid", "photoid", "sampleid", "id", "key", "uuid"),
    "image": (
        *("imagepath", "imgpath", "imagefile", "imagename", "filename", "filepath", "sourcefile", "file", "path"),
        *("image", "img", "photo"),
    ),
    "datum": ("datum", "geodeticdatum", "crs", "srs", "epsg", "coordinatesystem", "coordinatereferencesystem"),
    "street": ("street",),
    "city": ("city", "town"),
    "state": ("state", "province", "admin1"),
    "country": ("country", "countryname"),
    "continent": ("continent",),
}
"""Spellings of the names of columns that are no coordinates, reduced to letters and digits, in order of preference."""
AXES = ("lat", "lon")
AXIS_NAMES = {"lat": "latitude", "lon": "longitude"}
PARTS = ("ref", "min", "sec")
"""What may stand beside a coordinate in columns of its own: the hemisphere, minutes and seconds."""
ROLES = ("id", "image", *AXES, *(f"{axis}_{part}" for axis in AXES for part in PARTS), "datum", *NAMES)
"""Every role that `columns` may name a column for."""

_AXIS_WORDS = {
    "lat": ("lat", "latitude", "latitud", "latitudine", "lattitude"),
    "lon": ("lon", "lng", "long", "longitude", "longitud", "longitudine", "longtitude"),
}
_ORIGIN = {
    *("gt", "true", "truth", "ground", "gold", "real", "actual", "correct", "label"),
    *("gps", "exif", "composite", "geo", "photo", "image", "img", "picture", "pic", "camera", "cam"),
    *("location", "loc", "position", "pos", "point", "coord", "coords", "coordinate", "coordinates"),
}
_UNIT = {"deg", "degs", "degree", "degrees", "dd", "dec", "decimal", "wgs", "wgs84", "84", "epsg", "4326", "value"}
_KINDS = {
    **dict.fromkeys(("ref", "reference", "dir", "direction", "cardinal", "indicator", "hemi", "hemisphere"), "ref"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "sec"),
    **dict.fromkeys(("max", "maximum"), "max"),
    **dict.fromkeys(("sign", "frac", "fraction", "fractional", "int", "integer", "arcmin", "arcsec"), "part"),
}
"""Words beside an axis that say what a column holds instead of the coordinate itself, and what that is."""
_OF_AXIS = {"ns": "lat", "northsouth": "lat", "ew": "lon", "eastwest": "lon"}
"""Words for the hemisphere that imply its axis."""
_LETTERS = {"d": "deg", "m": "min", "s": "sec"}
"""Letters that stand for a part of an angle, as words of their own (`lat_d`, `lat_m`)."""
_WORDS = {word for words in _AXIS_WORDS.values() for word in words} | _ORIGIN | _UNIT | _KINDS.keys() | _OF_AXIS.keys()
_SPLIT = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class AngleColumns:
    """The columns that make up one coordinate."""

    value: str
    ref: str | None = None
    """Column of the hemisphere."""
    min: str | None = None
    """Column of the minutes, if the value's column holds whole degrees."""
    sec: str | None = None

    def roles(self, axis: str) -> dict[str, str]:
        """The columns by role."""
        found = {f"{axis}_{part}": getattr(self, part) for part in PARTS}
        return {axis: self.value, **{role: name for role, name in found.items() if name is not None}}


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read."""

    lat: AngleColumns
    lon: AngleColumns
    others: Mapping[str, str]
    """The columns of the photo's id, its file and its place's names, by role."""
    rivals: tuple[tuple[AngleColumns, AngleColumns], ...] = ()
    """Further pairs of columns that look like the photo's coordinates."""

    def roles(self) -> dict[str, str]:
        """Every column by role."""
        return {**self.others, **self.lat.roles("lat"), **self.lon.roles("lon")}


@dataclass(frozen=True)
class _Named:
    """What a column's name says."""

    column: str
    axis: str | None
    kind: str
    """value, ref, min, sec, max or part."""
    origin: frozenset[str] = field(default_factory=frozenset)
    short: bool = False
    """Whether the axis is abbreviated; names of one pair are alike in this too."""
    unit: frozenset[str] = field(default_factory=frozenset)

    @property
    def takes_minutes(self) -> bool:
        """Whether minutes may stand in a column beside this one."""
        return not self.unit & {"decimal", "dec", "dd"}

    @property
    def names_degrees(self) -> bool:
        """Whether the name says that these are the degrees, as `lat_deg` does beside `lat_min`."""
        return self.takes_minutes and bool(self.unit & {"deg", "degs", "degree", "degrees"})


def find_columns(header: Sequence[str], chosen: Mapping[str, str], path: Path, key: str) -> Columns:
    """The columns of a table by their names; `chosen` names some of them by role.

    Raises:
        ConfigError: A role or a chosen column does not exist, no column or no one column looks like a coordinate, a
            column stands beside a coordinate that can't be read with it, or no column names the photos.
    """
    shown = ", ".join(header)
    for role, name in chosen.items():
        if role not in ROLES:
            raise ConfigError(
                Problem(f"columns.{role}", name, "there is no such role", f"choose one of {', '.join(ROLES)}")
            )
        if name not in header:
            raise ConfigError(Problem(f"columns.{role}", name, f"{path} has no such column", f"choose one of {shown}"))
    named = [each for name in dict.fromkeys(header) if (each := _read_name(name)) is not None]
    pairs = _pairs(named, chosen, header, path, key)
    (lat, lon), *rivals = [
        (_angle(a, "lat", named, chosen, path, key), _angle(o, "lon", named, chosen, path, key)) for a, o in pairs
    ]
    if (lat.min is None) != (lon.min is None) or (lat.sec is None) != (lon.sec is None):
        extra = next(name for name in (lat.min, lat.sec, lon.min, lon.sec) if name is not None)
        raise ConfigError(
            Problem(
                key,
                path,
                f"the column {extra} looks like minutes or seconds, but the other coordinate has none",
                f"rename it, or name both, for example columns.lat_min={lat.min or '<name>'} "
                f"columns.lon_min={lon.min or '<name>'}",
            )
        )
    columns = Columns(lat, lon, _others(header, chosen), tuple(rivals))
    if not columns.others.keys() & {"id", "image"}:
        raise ConfigError(
            Problem(key, path, "no column names the photos", f"give columns.id=<name> from the header {shown!r}")
        )
    for role, name in columns.roles().items():
        if header.count(name) > 1:
            raise ConfigError(Problem(key, path, f"the header has the column {name} (its {role}) twice", "remove one"))
    return columns


def _others(header: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    plain = ["".join(_SPLIT.findall(name)).lower() for name in header]
    found: dict[str, str] = {}
    for role, spellings in SPELLINGS.items():
        if role in chosen:
            found[role] = chosen[role]
        elif known := [spelling for spelling in spellings if spelling in plain]:
            found[role] = header[plain.index(known[0])]
    return found


def _pairs(
    named: Sequence[_Named], chosen: Mapping[str, str], header: Sequence[str], path: Path, key: str
) -> list[tuple[_Named, _Named]]:
    """The columns of latitude and longitude, the preferred pair first."""
    found = {}
    for axis in AXES:
        if axis in chosen:
            known = [each for each in named if each.column == chosen[axis]]
            found[axis] = known or [_Named(chosen[axis], axis, "value")]
            continue
        found[axis] = [each for each in named if each.axis == axis and each.kind == "value"]
        if not found[axis]:
            raise ConfigError(
                Problem(
                    key,
                    path,
                    f"no column looks like the {axis}",
                    f"give columns.{axis}=<name> from the header {', '.join(header)!r}",
                )
            )
        found[axis].sort(key=lambda each: len(each.origin))  # the plainest name first; else in the header's order
    lats, lons = found["lat"], found["lon"]
    if len(lats) == len(lons) == 1:
        return [(lats[0], lons[0])]
    pairs: list[tuple[_Named, _Named]] = []
    for lat in lats:
        fitting = [lon for lon in lons if lon.origin == lat.origin and all(lon is not used for _, used in pairs)]
        if fitting:
            pairs.append((lat, max(fitting, key=lambda lon: lon.short == lat.short)))
    if not pairs:
        names = " ".join(each.column for each in (*lats, *lons))
        raise ConfigError(
            Problem(
                key,
                path,
                f"several columns look like coordinates ({names}), and no two names belong together",
                f"give columns.lat=<name> columns.lon=<name> from the header {', '.join(header)!r}",
            )
        )
    return pairs


def _angle(
    value: _Named, axis: str, named: Sequence[_Named], chosen: Mapping[str, str], path: Path, key: str
) -> AngleColumns:
    """The columns that belong to a coordinate's column."""
    of_axis = [each for each in named if each.axis == axis]
    bounded = any(each.kind == "max" for each in named)  # lat_min beside lat_max is the edge of a box
    degrees = any(each.names_degrees for each in of_axis if each.kind == "value")
    settled = axis in chosen
    parts: dict[str, str | None] = {}
    for part in PARTS:
        if role := chosen.get(f"{axis}_{part}"):
            parts[part] = role
            continue
        beside = [each for each in of_axis if each.kind == part and each.column != value.column]
        if part == "ref" and axis == "lat" and not beside:  # one column `hemisphere`, of no axis, is north or south
            beside = [each for each in named if each.axis is None]
        if part != "ref" and (bounded or not value.takes_minutes or (degrees and not value.names_degrees)):
            beside = []
        fitting = [each for each in beside if each.origin == value.origin] or beside
        if len(fitting) > 1:
            raise ConfigError(
                Problem(
                    key,
                    path,
                    f"several columns look like the {part} of {value.column}: {', '.join(e.column for e in fitting)}",
                    f"give columns.{axis}_{part}=<name>",
                )
            )
        parts[part] = fitting[0].column if fitting else None
    odd = [each.column for each in of_axis if each.kind == "part"]
    if parts["sec"] is not None and parts["min"] is None:
        odd.append(parts["sec"])
    if odd and not settled:
        raise ConfigError(
            Problem(
                key,
                path,
                f"the column {odd[0]} looks like a part of the {AXIS_NAMES[axis]}, which is not understood",
                f"write the {AXIS_NAMES[axis]} into one column, or give columns.{axis}={value.column} if that column "
                "holds all of it",
            )
        )
    if parts["min"] is None:
        parts["sec"] = None
    return AngleColumns(value.column, **parts)


def _read_name(column: str) -> _Named | None:
    """What a column's name says of a coordinate; None for every other column."""
    words = _words(column)
    axes = {axis for axis, names in _AXIS_WORDS.items() for word in words if word in names}
    axes |= {_OF_AXIS[word] for word in words if word in _OF_AXIS}
    kinds = {"ref" if word in _OF_AXIS else _KINDS[word] for word in words if word in _OF_AXIS or word in _KINDS}
    if len(axes) > 1 or len(kinds) > 1 or not (axes or {"hemi", "hemisphere"} & set(words)):
        return None
    known = frozenset(words)
    short = any(word in ("lat", "lon", "lng", "long") for word in words)
    return _Named(column, next(iter(axes), None), next(iter(kinds), "value"), known & _ORIGIN, short, known & _UNIT)


def _words(column: str) -> list[str]:
    """The words of a name, in lower case; empty if one of them is unknown here."""
    pieces = [word.lower() for piece in _SPLIT.findall(column) for word in _CAMEL.split(piece)]
    apart = [_LETTERS.get(piece, piece) for piece in pieces]
    for candidate in ((word for piece in apart for word in _joined(piece) or [""]), _joined("".join(pieces))):
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


def columns_as_overrides(roles: Iterable[tuple[str, str]]) -> str:
    """The overrides that choose columns, for a message: `columns.lat=LAT columns.lon=LON`."""
    return " ".join(f"columns.{role}={name}" for role, name in roles)
