"""The columns of a table: which one holds what, found by their names or chosen by the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_builders.sources.table_names import (
    AXES,
    ColumnName,
    axis_in,
    danger_in,
    letters_and_digits,
    names_datum,
    read_name,
)
from geotune.errors import ConfigError, Problem

NAMES = ("street", "city", "state", "country", "continent")
"""Roles of the columns that name a photo's place."""
SPELLINGS: dict[str, tuple[str, ...]] = {
    "id": ("imgid", "imageid", "photoid", "sampleid", "id", "key", "uuid", "gbifid", "oid"),
    "image": (
        *("imagepath", "imgpath", "filepath", "sourcefile", "imagefile", "imagename", "filename", "file", "path"),
        *("image", "img", "photo"),
    ),
    "street": ("street",),
    "city": ("city", "town"),
    "state": ("state", "province", "admin1"),
    "country": ("country", "countryname"),
    "continent": ("continent",),
}
"""Spellings of the names of columns that are no coordinates, reduced to letters and digits, in order of preference."""
AXIS_NAMES = {"lat": "latitude", "lon": "longitude"}
PARTS = ("ref", "min", "sec")
"""What may stand beside a coordinate in columns of its own: the hemisphere, minutes and seconds."""
ROLES = ("id", "image", *AXES, *(f"{axis}_{part}" for axis in AXES for part in PARTS), "datum", *NAMES)
"""Every role that `columns` may name a column for."""

_NUMBER = re.compile(r"[+-]?[0-9]+[.,][0-9]+")


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
    datums: tuple[str, ...] = ()
    """Columns of the datum or the reference system."""
    settled: frozenset[str] = frozenset()
    """The axes whose column was chosen, so that what stands beside it is no question."""
    understood: frozenset[str] = frozenset()
    """Columns whose names say what they hold; of all others the cells may tell that they qualify a coordinate."""

    chosen: frozenset[str] = frozenset()
    """Columns that were chosen by the user."""

    def with_ref(self, axis: str, ref: str | None) -> Columns:
        """These columns with another one for the hemisphere of an axis."""
        angle = replace(getattr(self, axis), ref=ref)
        return replace(self, lat=angle) if axis == "lat" else replace(self, lon=angle)

    def roles(self) -> dict[str, str]:
        """Every column by role."""
        return {
            **({"datum": self.datums[0]} if self.datums else {}),
            **self.others,
            **self.lat.roles("lat"),
            **self.lon.roles("lon"),
        }


def find_columns(header: Sequence[str], chosen: Mapping[str, str], path: Path, key: str) -> Columns:
    """The columns of a table by their names; `chosen` names some of them by role.

    Raises:
        ConfigError: A role or a chosen column does not exist, no column or no one column looks like a coordinate, a
            column stands beside a coordinate that can't be read with it, or no column names the photos.
    """
    shown = ", ".join(header)
    if any(_NUMBER.fullmatch(name) for name in header):
        raise ConfigError(
            Problem(
                key, path, f"the first line holds numbers, so this table has no header ({shown:.80})", "add a header"
            )
        )
    for role, name in chosen.items():
        if role not in ROLES:
            raise ConfigError(
                Problem(f"columns.{role}", name, "there is no such role", f"choose one of {', '.join(ROLES)}")
            )
        if name not in header:
            raise ConfigError(Problem(f"columns.{role}", name, f"{path} has no such column", f"choose one of {shown}"))
    for axis in AXES:
        if axis in chosen and (danger := danger_in(chosen[axis])):
            raise ConfigError(
                Problem(
                    f"columns.{axis}",
                    chosen[axis],
                    f"its name says {danger}, but cells are read as degrees with a sign",
                    f"write signed degrees into it, and rename it, for example to {axis}",
                )
            )
    named = [each for name in dict.fromkeys(header) if (each := read_name(name)) is not None]
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
    others = _others(header, chosen)
    boxed = any(each.kind == "bound" and not each.edge for each in named)
    understood = {each.column for each in named if (boxed or not each.edge) and each.axis is not None}
    columns = Columns(
        lat,
        lon,
        others,
        tuple(rivals),
        datums=tuple(name for name in header if "datum" not in chosen and names_datum(name)),
        settled=frozenset(AXES) & chosen.keys(),
        chosen=frozenset(chosen.values()),
        understood=frozenset(understood | {*chosen.values(), *others.values()}),
    )
    if not columns.others.keys() & {"id", "image"}:
        raise ConfigError(
            Problem(key, path, "no column names the photos", f"give columns.id=<name> from the header {shown!r}")
        )
    for role, name in columns.roles().items():
        if header.count(name) > 1:
            raise ConfigError(Problem(key, path, f"the header has the column {name} (its {role}) twice", "remove one"))
    return columns


def _others(header: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    plain = [letters_and_digits(name) for name in header]
    found: dict[str, str] = {}
    for role, spellings in {**SPELLINGS, "datum": ()}.items():
        if role in chosen:
            found[role] = chosen[role]
        elif known := [spelling for spelling in spellings if spelling in plain]:
            found[role] = header[plain.index(known[0])]
    return found


def _pairs(
    named: Sequence[ColumnName], chosen: Mapping[str, str], header: Sequence[str], path: Path, key: str
) -> list[tuple[ColumnName, ColumnName]]:
    """The columns of latitude and longitude, the preferred pair first."""
    found = {}
    for axis in AXES:
        if axis in chosen:
            known = [each for each in named if each.column == chosen[axis]]
            found[axis] = known or [ColumnName(chosen[axis], axis, "value")]
            continue
        found[axis] = [each for each in named if each.axis == axis and each.kind == "value"]
        if not found[axis]:
            raise ConfigError(_no_column(axis, header, path, key))
        found[axis].sort(key=lambda each: len(each.origin))  # the plainest name first; else in the header's order
    lats, lons = found["lat"], found["lon"]
    if len(lats) == len(lons) == 1:
        return [(lats[0], lons[0])]
    pairs: list[tuple[ColumnName, ColumnName]] = []
    for lat in lats:
        fitting = [lon for lon in lons if lon.origin == lat.origin and all(lon is not used for _, used in pairs)]
        if fitting:
            pairs.append((lat, max(fitting, key=lambda lon: lon.short == lat.short)))
    alone = [each for each in (*lats, *lons) if all(each not in pair for pair in pairs)]
    if not pairs or (alone and not chosen.keys() & set(AXES)):
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


def _no_column(axis: str, header: Sequence[str], path: Path, key: str) -> Problem:
    """Says that no column looks like a coordinate, and what seems to be the reason."""
    said = f"no column looks like the {axis}"
    if len(header) == 1:
        said = f"{said}: the first line, {header[0]!r:.80}, is no header of several columns"
        return Problem(key, path, said, "begin with the header, and separate the cells by commas, semicolons or tabs")
    for name in header:
        if axis_in(name) == axis and (danger := danger_in(name)):
            said += f" ({name} is not read as one: {danger})"
            return Problem(key, path, said, f"write signed degrees into a column of that kind, and name it {axis}")
    return Problem(key, path, said, f"give columns.{axis}=<name> from the header {', '.join(header)!r}")


def _angle(
    value: ColumnName, axis: str, named: Sequence[ColumnName], chosen: Mapping[str, str], path: Path, key: str
) -> AngleColumns:
    """The columns that belong to a coordinate's column."""
    of_axis = [each for each in named if each.axis == axis]
    bounded = any(each.kind == "bound" for each in named)  # lat_min beside lat_max is the edge of a box
    degrees = any(each.names_degrees for each in of_axis if each.kind == "value")
    settled = axis in chosen
    owned = {each.origin for each in of_axis if each.kind == "value"}
    parts: dict[str, str | None] = {}
    for part in PARTS:
        if role := chosen.get(f"{axis}_{part}"):
            parts[part] = role
            continue
        beside = [each for each in of_axis if each.kind == part and each.column != value.column]
        if part != "ref" and (bounded or not value.takes_minutes or (degrees and not value.names_degrees)):
            beside = []
        fitting = [each for each in beside if each.origin == value.origin]
        # Without a value of the same origin, it belongs to one of that origin and more, as GPSLatitudeRef to
        # EXIF:GPSLatitude, or to the only value there is, if no more than "gps" tells them apart.
        loose = [each for each in beside if each.origin not in owned]
        fitting = fitting or [
            each
            for each in loose
            if each.origin < value.origin or (len(owned) == 1 and each.origin - {"gps"} <= value.origin)
        ]
        if loose and not fitting and not settled and not any(each.origin < one for each in loose for one in owned):
            raise ConfigError(
                Problem(
                    key,
                    path,
                    f"the column {loose[0].column} looks like the {part} of another {AXIS_NAMES[axis]} than "
                    f"{value.column}",
                    f"give columns.{axis}_{part}={loose[0].column} if they belong together, or "
                    f"columns.{axis}={value.column} if not",
                )
            )
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


def columns_as_overrides(roles: Iterable[tuple[str, str]]) -> str:
    """The overrides that choose columns, for a message: `columns.lat=LAT columns.lon=LON`."""
    return " ".join(f"columns.{role}={name}" for role, name in roles)
