"""Reads tables of photos: finds encoding, delimiter and columns, and says of each row where its photo was taken."""

from __future__ import annotations

import codecs
import csv
import logging
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from data_builders.sources.rejected import RejectedRecordError
from geotune.errors import ConfigError
from geotune.tasks.coordinates import CoordinateError, Coordinates, check_coordinates
from geotune.tasks.geolocate import read_coordinates

NAMES = ("street", "city", "state", "country", "continent")
"""What a table may say of a photo's place in words."""
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("imgid", "imageid", "photoid", "sampleid", "id", "key", "uuid"),
    "image": ("imagepath", "imgpath", "imagefile", "imagename", "filename", "filepath", "file", "path", "image", "img"),
    "lat": ("lat", "latitude", "gtlat", "truelat", "gtlatitude", "truelatitude"),
    "lon": ("lon", "lng", "long", "longitude", "gtlon", "gtlng", "truelon", "gtlongitude", "truelongitude"),
    "street": ("street",),
    "city": ("city", "town"),
    "state": ("state", "province", "admin1"),
    "country": ("country", "countryname"),
    "continent": ("continent",),
}
"""Spellings of each column, letters and digits alone, the preferred one first."""
DELIMITERS = ",;\t"
SWAPPED_SHARE = 0.05
"""Headers are swapped when this share of the rows is legal only with latitude and longitude exchanged, and no row only
without; fewer are mistakes of single rows."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\s*")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: who it is and where it says that the photo was taken."""

    id: str
    """Always text, as it stands in the table."""
    files: tuple[str, ...]
    """What the photo's file may be called, the likeliest first."""
    at: Coordinates
    names: Mapping[str, str]
    """What the table says of street, city, state, country, continent."""
    values: Mapping[str, str]
    """Every cell by its column."""


@dataclass(frozen=True)
class Table:
    """A CSV file of photos, opened by `open_table`."""

    path: Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    columns: Mapping[str, str]
    """The column of each role that the table has: id, image, lat, lon, street, city, state, country, continent."""
    swapped: bool
    """Whether the headers of latitude and longitude stand on each other's columns; `rows` sets it right."""
    n_rows: int

    def rows(self, only: Container[int] | None = None) -> Iterator[Row | RejectedRecordError]:
        """Every row in the table's order, or in its place why it can't be used; `only`: those of these numbers, from 0.

        A photo without coordinates, or at exactly (0, 0), is rejected: nothing is filled in.
        """
        seen: set[str] = set()
        for number, (line, cells) in enumerate(_records(self.path, self.encoding, self.delimiter)):
            if only is not None and number not in only:
                continue
            try:
                row = self._row(cells, f"{self.path.name}:{line}")
                if row.id in seen:
                    raise RejectedRecordError(
                        row.id, "duplicate_id", f"line {line}: this id stands in the table already"
                    )
                seen.add(row.id)
                yield row
            except RejectedRecordError as rejected:
                yield rejected

    def summary(self) -> dict[str, object]:
        """How the table was read, for a report."""
        return {
            "rows": self.n_rows,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "columns": dict(self.columns),
            "swapped_headers": self.swapped,
        }

    def _row(self, cells: Sequence[str], where: str) -> Row:
        values = _by_column(self.header, cells)
        if values is None:
            detail = f"{len(cells)} cells under {len(self.header)} columns: {self.delimiter.join(cells)[:200]!r}"
            raise RejectedRecordError(where, "wrong_cell_count", detail)
        said = {role: values[column].strip() for role, column in self.columns.items()}
        files = tuple(said[role] for role in ("image", "id") if said.get(role))
        own_id = said.get("id") or plain_name(said.get("image", ""))
        if not own_id:
            raise RejectedRecordError(where, "no_id", "neither an id nor a file name")
        at = read_cells(*self._lat_lon(values), decimal_comma=self.delimiter != ",")
        if not isinstance(at, Coordinates):
            lat, lon = self._lat_lon(values)
            raise RejectedRecordError(own_id, f"coordinates_{at}", f"{where}: latitude {lat!r}, longitude {lon!r}")
        return Row(own_id, files, at, {name: said[name] for name in NAMES if said.get(name)}, values)

    def _lat_lon(self, values: Mapping[str, str]) -> tuple[str, str]:
        lat, lon = values[self.columns["lat"]], values[self.columns["lon"]]
        return (lon, lat) if self.swapped else (lat, lon)


def open_table(path: Path, columns: Mapping[str, str] | None = None, *, key: str = "csv") -> Table:
    """Find out how a CSV file is written, reading it once from end to end.

    columns: names of columns by role (`lat`, `id`, ...) where they can't be told from the header; `lat` and `lon` given
    like this are taken as they are, never for swapped. key: where the path stands in the config, for messages.
    Raises ConfigError: no such file, not UTF-8, not a CSV, no column for the coordinates or for the photo.
    """
    columns = columns or {}
    encoding = _encoding(path, key)
    try:
        delimiter, header = _header(path, encoding)
        roles = _roles(header, columns, path, key)
        sure = "lat" in columns and "lon" in columns
        n_rows, swapped = _scan(path, encoding, delimiter, header, roles)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{key}={path}: {_undecodable(path, error)}; save it as UTF-8, for instance with `iconv -f latin1 -t utf-8`"
        ) from None
    except csv.Error as error:
        raise ConfigError(
            f"{key}={path}: this is no CSV that can be read ({error}); mend it or save it again"
        ) from None
    if n_rows == 0:
        raise ConfigError(f"{key}={path}: there is no row below the header; give the whole table")
    if swapped and not sure:
        log.warning(
            "%s: the headers %s and %s stand on each other's columns (latitudes beyond 90); they are read the right "
            "way round. To say otherwise: columns.lat=%s columns.lon=%s",
            path,
            roles["lat"],
            roles["lon"],
            roles["lat"],
            roles["lon"],
        )
    return Table(path, encoding, delimiter, header, roles, swapped and not sure, n_rows)


def plain_name(name: str) -> str:
    """A file's name without folders and without endings of images, also two of them: `a/1.jpg.jpg` -> `1`."""
    return _ENDINGS.sub("", name.replace("\\", "/").rpartition("/")[2])


_ENDINGS = re.compile(r"(?:\.(?:jpe?g|png|webp|gif|bmp|tiff?))+$", re.IGNORECASE)


def read_cells(lat: str, lon: str, *, decimal_comma: bool = False) -> Coordinates | CoordinateError:
    """The coordinates in two cells, rounded to six decimals: plain numbers, or anything that states a coordinate."""
    numbers = _number(lat, decimal_comma), _number(lon, decimal_comma)
    if numbers[0] is not None and numbers[1] is not None:
        return check_coordinates(round(numbers[0], 6), round(numbers[1], 6))
    if not lat.strip() or not lon.strip():
        return CoordinateError.incomplete if lat.strip() or lon.strip() else CoordinateError.missing
    if "," in lat or "," in lon:
        return CoordinateError.ambiguous
    return read_coordinates(f'{{"latitude": {lat}, "longitude": {lon}}}')


def _number(text: str, decimal_comma: bool) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    return float(text.replace(",", ".")) if decimal_comma and _DECIMAL_COMMA.fullmatch(text) else None


def _encoding(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ConfigError(f"{key}={path}: this table can't be read ({error.strerror}); give a CSV file") from None
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")


def _open(path: Path, encoding: str) -> IO[str]:
    return path.open(encoding=encoding, newline="")


def _header(path: Path, encoding: str) -> tuple[str, tuple[str, ...]]:
    """The delimiter under which the first line has most columns, and their names."""
    with _open(path, encoding) as file:
        first = next((line for line in file if line.strip()), "")
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter), []) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: len(headers[each]))
    return delimiter, tuple(name.strip() for name in headers[delimiter])


def _roles(header: Sequence[str], columns: Mapping[str, str], path: Path, key: str) -> dict[str, str]:
    shown = ", ".join(header)
    for role, name in columns.items():
        if role not in COLUMNS:
            raise ConfigError(f"columns.{role}={name}: there is no such role; there are {', '.join(COLUMNS)}")
        if name not in header:
            raise ConfigError(f"columns.{role}={name}: {path} has no such column; it has {shown}")
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    found: dict[str, str] = {}
    for role, spellings in COLUMNS.items():
        if role in columns:
            found[role] = columns[role]
        elif known := [spelling for spelling in spellings if spelling in plain]:
            found[role] = header[plain.index(known[0])]
    for role in ("lat", "lon"):
        if role not in found:
            raise ConfigError(f"{key}={path}: no column looks like the {role} among {shown}; say columns.{role}=<name>")
    if not found.keys() & {"id", "image"}:
        raise ConfigError(f"{key}={path}: no column names the photos among {shown}; say columns.id=<name>")
    for role, name in found.items():
        if header.count(name) > 1:
            raise ConfigError(f"{key}={path}: the column {name} (its {role}) stands twice in the header; remove one")
    return found


def _records(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row below the header; blank lines are passed over."""
    with _open(path, encoding) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        rows = ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
        next(rows, None)
        yield from rows


def _by_column(header: Sequence[str], cells: Sequence[str]) -> dict[str, str] | None:
    """Cells by column; None when they are too few or too many (blank ones at the end do not count)."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        return None
    return dict(zip(header, cells, strict=False))


def _scan(
    path: Path, encoding: str, delimiter: str, header: Sequence[str], roles: Mapping[str, str]
) -> tuple[int, bool]:
    """How many rows there are, and whether their latitudes and longitudes are exchanged."""
    lat_at, lon_at = header.index(roles["lat"]), header.index(roles["lon"])
    n_rows = only_named = only_exchanged = 0
    for _, cells in _records(path, encoding, delimiter):
        n_rows += 1
        if len(cells) <= max(lat_at, lon_at):
            continue
        lat, lon = (_number(cells[at], delimiter != ",") for at in (lat_at, lon_at))
        if lat is not None and lon is not None:
            only_named += abs(lat) <= 90 < abs(lon) <= 180
            only_exchanged += abs(lon) <= 90 < abs(lat) <= 180
    return n_rows, only_named == 0 and only_exchanged > 0 and only_exchanged >= SWAPPED_SHARE * n_rows


def _undecodable(path: Path, error: UnicodeDecodeError) -> str:
    """Where a table stops being text, in words."""
    if error.encoding != "utf-8":
        return f"it begins like {error.encoding} and breaks off"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as bad:
                return f"line {number} is not UTF-8 (byte 0x{line[bad.start]:02x} at {bad.start + 1})"
    return "it is not UTF-8"
