"""The coordinates in the cells of a table's row, read wholly or not at all, and which of two columns is the latitude.

A plain number is read here, because tables have millions of them; every other notation by `read_fields`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from data_builders.sources.table_columns import AngleColumns
from data_builders.sources.table_files import visible
from data_builders.sources.table_hemispheres import hemisphere_in, states_nothing
from data_builders.sources.table_names import letters_and_digits
from geotune.tasks.coordinate_reader.words import word_set
from geotune.tasks.coordinates import CoordinateError, Coordinates, check_coordinates, read_fields

MIN_DECIDABLE = 10
"""Distinct places that are legal in one order of the columns only, all in the same order, from which the headers may
count as swapped: mistakes of single rows are rarely legal the other way round, so ten do not agree by chance."""
MIN_SHARE = 0.001
"""Share of rows below which even ten or more decidable rows count as mistakes of single rows."""
FEW_SHARE = 0.05
"""Share up to which a few rows count as mistakes of single rows, and up to which many decide nothing: of all rows, or
of the decidable ones where those disagree."""
SAME_DEG = 1e-4
"""Two columns state the same place if they differ by less than this, or by the rounding of the one with less digits."""

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]{1,3}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]{1,3},[0-9]+\s*")
_LONG_NUMBER = re.compile(r"\s*[+-]?[1-9][0-9]{3,}(?:\.[0-9]*)?\s*")
_RUN_TOGETHER = re.compile(r"[+-]?0[0-9]{3,}(?:\.[0-9]*)?")
"""Degrees and minutes without a space, as GPS receivers write them: 00 51.40 is no 51.40."""
_WHOLE_DEGREES = re.compile("([+\u2212-]?[0-9]{1,3})(?:\\.0*)?\\s*\u00b0?")
_MINUTES = re.compile("([0-9]{1,2}(?:\\.[0-9]+)?)\\s*['\u2032\u2019]?")
_SECONDS = re.compile("([0-9]{1,2}(?:\\.[0-9]+)?)\\s*(?:\"|''|\u2033|\u201d)?")
_WGS84 = word_set(
    "wgs84 wgs1984 wgs841984 worldgeodeticsystem84 worldgeodeticsystem1984 gcswgs1984 gcswgs84 dwgs1984 dwgs84 "
    "epsg4326 4326 epsgwgs84 wgs84epsg4326 wgs844326 wgs1984epsg4326 epsg4326wgs84 epsg4326wgs1984 4326wgs84 "
    "crs84 ogccrs84 "
    "urnogcdefcrsogc13crs84 urnogcdefcrsogccrs84 urnogcdefcrsepsg4326 urnogcdefcrsepsg694326 "
    "httpwwwopengisnetdefcrsepsg04326 httpwwwopengisnetdefcrsogc13crs84 wgs84latlon wgs84lonlat "
    "nad83 nad1983 northamericandatum1983 northamericandatum83 epsg4269 4269 etrs89 etrs1989 epsg4258 4258 "
    "gda94 gda1994 gda2020 epsg4283 4283 epsg7844 7844 gps notrecorded notgiven unknown none na nan null"
)
"""Spellings of WGS84, of datums that differ from it by a few meters, and of none, reduced to letters and digits."""
_ROUGHLY = re.compile("[~*\u00b1\u2248]|\\+/-|approx|about|circa", re.IGNORECASE)
"""Says that a cell's number is not exactly the coordinate."""
_EXIF_PART = r"([0-9]{1,9}(?:\.[0-9]+)?)(?:/([0-9]{1,9}))?"
_EXIF = re.compile(rf"\s*{_EXIF_PART}(?:,\s*|;\s*|\s+){_EXIF_PART}(?:,\s*|;\s*|\s+){_EXIF_PART}\s*")
"""Degrees, minutes and seconds as Python prints the values of EXIF: `[33, 51, 2400/100]`."""
_DATE = re.compile(r"[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{1,4}(?:[T ][0-9:.]+Z?)?")
_SIGN = {"N": 1, "S": -1, "E": 1, "W": -1}


class Angle(NamedTuple):
    """The cells of one coordinate."""

    value: str
    ref: str = ""
    min: str | None = None
    """The minutes; None if the table has no column for them."""
    sec: str | None = None

    @classmethod
    def of(cls, columns: AngleColumns, values: Mapping[str, str]) -> Angle:
        """The cells of a coordinate's columns in a row."""
        if columns.ref is None and columns.min is None:
            return cls(values[columns.value])
        ref, minutes, seconds = (
            None if name is None else visible(values[name]) for name in (columns.ref, columns.min, columns.sec)
        )
        return cls(values[columns.value], "" if states_nothing(ref or "") else ref or "", minutes, seconds)

    def text(self, decimal_comma: bool) -> str | None:
        """The coordinate in one cell; None if degrees, minutes and seconds do not fit together."""
        if self.min is None:
            return self.value
        cells = [visible(cell or "") for cell in (self.value, self.min, self.sec)]
        value, minutes, seconds = (cell.replace(",", ".") for cell in cells) if decimal_comma else cells
        if not minutes and not seconds:
            # Degrees alone are whole only by mistake: their minutes may have got lost.
            return None if _WHOLE_DEGREES.fullmatch(value) else self.value
        degrees, minute, second = (
            pattern.fullmatch(cell)
            for pattern, cell in ((_WHOLE_DEGREES, value), (_MINUTES, minutes), (_SECONDS, seconds or "0"))
        )
        if degrees is None or minute is None or second is None:
            return None
        minutes = minute[1].removesuffix(".0") if seconds else minute[1]  # 51.0 is whole in a column of floats
        if seconds and "." in minutes:
            return None
        return f"{degrees[1]}\u00b0 {minutes}'" + (f' {second[1]}"' if seconds else "")

    def shown(self) -> str:
        """The cells as a message shows them."""
        parts = [repr(cell) for cell in (self.value, self.min, self.sec, self.ref) if cell]
        return " ".join(parts) or "''"


def read_cells(
    lat: str, lon: str, lat_ref: str = "", lon_ref: str = "", *, decimal_comma: bool = False
) -> Coordinates | CoordinateError:
    """The coordinates in two cells, rounded to six decimals: plain numbers or any other notation of coordinates.

    `lat_ref` and `lon_ref` are the hemispheres, if they stand in cells of their own.
    """
    first, second = _signed(lat, lat_ref, "NS", decimal_comma), _signed(lon, lon_ref, "EW", decimal_comma)
    if isinstance(first, CoordinateError) or isinstance(second, CoordinateError):
        return CoordinateError.ambiguous
    if first is not None and second is not None:
        return _rounded(first, second)
    lat, lon, lat_ref, lon_ref = (visible(cell) for cell in (lat, lon, lat_ref, lon_ref))
    if not lat or not lon:
        return CoordinateError.incomplete if lat or lon else CoordinateError.missing
    lat_ref, lon_ref = hemisphere_in(lat_ref) or lat_ref, hemisphere_in(lon_ref) or lon_ref
    lat, lon = (_from_exif(cell) if ref else cell for cell, ref in ((lat, lat_ref), (lon, lon_ref)))
    for cell in (lat, lon):
        # A soft hyphen may be what is left of a minus.
        if (
            _RUN_TOGETHER.fullmatch(cell)
            or _ROUGHLY.search(cell)
            or cell.count(",") > decimal_comma
            or "\u00ad" in cell
        ):
            return CoordinateError.ambiguous
    if any(character.isdigit() for character in lat_ref + lon_ref):
        return CoordinateError.ambiguous
    lat_ref, lon_ref = (ref.upper() if len(ref) == 1 else ref for ref in (lat_ref, lon_ref))
    found = read_fields(lat, lon, lat_ref, lon_ref, decimal_comma=decimal_comma)
    return _rounded(found.lat, found.lon) if isinstance(found, Coordinates) else found


def _from_exif(cell: str) -> str:
    """Degrees, minutes and seconds as EXIF's values in a notation of angles; every other cell as it is."""
    inside = cell[1:-1] if cell[:1] + cell[-1:] in ("[]", "()") else cell
    match = _EXIF.fullmatch(inside)
    if match is None or ("," not in cell and ";" not in cell and "/" not in cell):
        return cell
    tops, bottoms = match.groups()[::2], match.groups()[1::2]
    if any(bottom is not None and int(bottom) == 0 for bottom in bottoms):
        return cell
    degrees, minutes, seconds = (float(top) / int(bottom or 1) for top, bottom in zip(tops, bottoms, strict=True))
    if degrees % 1 or (minutes % 1 and seconds):
        return cell
    if minutes % 1:
        return f"{degrees:.0f}\u00b0 {minutes:.9f}'"
    return f"{degrees:.0f}\u00b0 {minutes:.0f}' {seconds:.9f}\""


def read_angles(lat: Angle, lon: Angle, *, decimal_comma: bool) -> Coordinates | CoordinateError:
    """The coordinates in the cells of a row."""
    if lat.min is None and lon.min is None:
        return read_cells(lat.value, lon.value, lat.ref, lon.ref, decimal_comma=decimal_comma)
    first, second = lat.text(decimal_comma), lon.text(decimal_comma)
    if first is None or second is None:
        return CoordinateError.ambiguous
    return read_cells(first, second, lat.ref, lon.ref, decimal_comma=decimal_comma)


def is_wgs84(datum: str) -> bool:
    """Whether coordinates under a datum are those of WGS84, up to a few meters; so are those under no stated datum.

    A date is no datum: a German column `Datum` holds dates.
    """
    plain = letters_and_digits(datum)
    return not plain or plain in _WGS84 or _DATE.fullmatch(datum) is not None


def is_whole(cell: str) -> bool:
    """Whether a cell holds whole degrees."""
    return _WHOLE_DEGREES.fullmatch(visible(cell)) is not None


def lacks_ref(angle: Angle, axis: str, *, decimal_comma: bool) -> bool:
    """Whether a coordinate has no hemisphere, neither a sign nor a letter, although its table has a column for it.

    It lacks one if a hemisphere beside it would change its sign.
    """
    number = _number(angle.value, decimal_comma)
    if number is not None and angle.min is None:
        return number > 0 and not angle.value.lstrip().startswith("+")
    other = Angle("1")
    place: dict[str, float] = {}
    for ref in ("N", "S") if axis == "lat" else ("E", "W"):
        referred = Angle(angle.value, ref, angle.min, angle.sec)
        both = (referred, other) if axis == "lat" else (other, referred)
        found = read_angles(*both, decimal_comma=decimal_comma)
        if not isinstance(found, Coordinates):
            return False
        place[ref] = found.lat if axis == "lat" else found.lon
    return len(set(place.values())) > 1


def why_not(lat: Angle, lon: Angle, *, decimal_comma: bool) -> str:
    """Names the cell that is not understood, for a row that can't be read; empty if each is legal by itself."""
    one = Angle("1")
    bad = []
    for name, angle, both in (("latitude", lat, (lat, one)), ("longitude", lon, (one, lon))):
        error = read_angles(*both, decimal_comma=decimal_comma)
        if error is CoordinateError.incomplete:
            bad.append(f"the {name} is {'no coordinate' if visible(angle.value) else 'missing'}")
        elif isinstance(error, CoordinateError):
            bad.append(f"the {name} is {error}")
    return " and ".join(bad)


def same_place(one: tuple[Angle, Angle], other: tuple[Angle, Angle], *, decimal_comma: bool) -> bool | None:
    """Whether two pairs of cells state one place, up to rounding; None if one of them states none."""
    first, second = (read_angles(*pair, decimal_comma=decimal_comma) for pair in (one, other))
    if not isinstance(first, Coordinates) or not isinstance(second, Coordinates):
        return None
    slack = max(_rounding(angle.value) for angle in (*one, *other))
    return abs(first.lat - second.lat) <= slack and abs(math.remainder(first.lon - second.lon, 360)) <= slack


def _rounding(cell: str) -> float:
    """Half a unit of a plain number's last digit, and at least `SAME_DEG`."""
    text = cell.strip().replace(",", ".")
    if not _NUMBER.fullmatch(text) or "e" in text.lower():
        return SAME_DEG
    return max(SAME_DEG, 0.51 * 10.0 ** -len(text.partition(".")[2]))


@dataclass(slots=True)
class OrderCount:
    """Counts the rows of a table that are legal in one order of its two columns only."""

    rows: int = 0
    """Rows that are legal in either order."""
    as_labelled: int = 0
    """Rows that are legal only as labelled."""
    exchanged: int = 0
    """Rows that are legal only with the columns exchanged."""
    places: set[tuple[str, str]] = field(default_factory=set)
    """Distinct places of the latter, up to `MIN_DECIDABLE`: a placeholder or a copied mistake is one."""

    def add(self, lat: Angle, lon: Angle, *, decimal_comma: bool) -> None:
        """Count a row by its cells as labelled. Hemispheres in cells of their own do not tell the order."""
        first, second = _number(lat.value, decimal_comma), _number(lon.value, decimal_comma)
        if first is not None and second is not None and lat.min is None:
            labelled = abs(first) <= 90 and abs(second) <= 180
            exchanged = abs(second) <= 90 and abs(first) <= 180
        else:
            lat, lon = lat._replace(ref=""), lon._replace(ref="")
            labelled, exchanged = (
                isinstance(read_angles(*order, decimal_comma=decimal_comma), Coordinates)
                for order in ((lat, lon), (lon, lat))
            )
        self.rows += labelled or exchanged
        self.as_labelled += labelled and not exchanged
        if exchanged and not labelled:
            self.exchanged += 1
            if len(self.places) < MIN_DECIDABLE:
                self.places.add((lat.value, lon.value))

    def swapped(self) -> bool | None:
        """Whether the headers of the two columns are swapped; None if the rows do not decide it.

        Only the decidable rows are asked: those that are legal in one order only. Rows that are legal only exchanged
        are mistakes of single rows if they, or the places they state, are few. They swap the headers if they are all
        rows, or at least `MIN_DECIDABLE` places and more than `FEW_SHARE` of the rows, with hardly any row against
        them. Between the two, nobody can tell a table of one region whose headers are swapped from one with mistakes.
        """
        labelled, exchanged = self.as_labelled, self.exchanged
        decidable = labelled + exchanged
        if exchanged == 0:
            return False
        if labelled == 0 and exchanged == self.rows >= 2:
            return True
        many = len(self.places) >= MIN_DECIDABLE
        if labelled:
            if len(self.places) < 3 or exchanged <= FEW_SHARE * decidable:
                return False
            return True if many and labelled <= FEW_SHARE * decidable and exchanged > FEW_SHARE * self.rows else None
        if many:
            return True if exchanged > FEW_SHARE * self.rows else False if exchanged < MIN_SHARE * self.rows else None
        few = len(self.places) < 3 or exchanged < FEW_SHARE * self.rows
        return False if few and 2 * exchanged <= self.rows else None


def _signed(cell: str, ref: str, letters: str, decimal_comma: bool) -> float | CoordinateError | None:
    """A plain number with the sign of its hemisphere, or the error of one that contradicts it; None for all else."""
    number = _number(cell, decimal_comma)
    if number is None or not ref:
        return number
    if len(ref) != 1 or ref.upper() not in _SIGN:
        return None
    sign = _SIGN[ref.upper()]
    sign_of_cell = {"-": -1, "+": 1}.get(cell.lstrip()[:1], sign)
    if ref.upper() not in letters or sign_of_cell != sign:
        return CoordinateError.ambiguous
    return sign * abs(number)


def _rounded(lat: float, lon: float) -> Coordinates | CoordinateError:
    return check_coordinates(round(lat, 6) + 0.0, round(lon, 6) + 0.0)  # never -0.0, which would be a place of its own


def _number(text: str, decimal_comma: bool) -> float | None:
    if _NUMBER.fullmatch(text) or _LONG_NUMBER.fullmatch(text):
        return float(text)
    return float(text.replace(",", ".")) if decimal_comma and _DECIMAL_COMMA.fullmatch(text) else None
