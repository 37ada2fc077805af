"""Reads CSV tables of photos: detects encoding, delimiter and columns, and returns each row's coordinates."""

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
from geotune.errors import ConfigError, Problem
from geotune.tasks.coordinates import CoordinateError, Coordinates, check_coordinates
from geotune.tasks.geolocate import read_coordinates

NAMES = ("street", "city", "state", "country", "continent")
"""Columns that name a photo's place."""
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
"""Spellings of each column's name, reduced to letters and digits, in order of preference."""
DELIMITERS = ",;\t"
SWAPPED_SHARE = 0.05
"""Smallest share of rows that are legal only with latitude and longitude exchanged at which the headers count as
swapped, provided that no row is legal only as labelled. A smaller share counts as mistakes of single rows."""

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
    """One row of a table: a photo and where it was taken."""

    id: str
    """The id as the table writes it, or else the file name without its ending."""
    files: tuple[str, ...]
    """Possible names of the photo's file, the likeliest first."""
    at: Coordinates
    names: Mapping[str, str]
    """The table's street, city, state, country and continent, as far as the row has them."""
    values: Mapping[str, str]
    """All cells, by column."""


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
    """Whether the headers of latitude and longitude are swapped; `rows` corrects for that."""
    n_rows: int

    def rows(self, only: Container[int] | None = None) -> Iterator[Row | RejectedRecordError]:
        """Every row in the table's order; an unusable row is represented by the error that rejects it.

        A photo without coordinates, or at exactly (0, 0), is rejected, and nothing is filled in. `only` restricts the
        rows to these numbers, counted from 0.
        """
        seen: set[str] = set()
        for number, (line, cells) in enumerate(_records(self.path, self.encoding, self.delimiter)):
            if only is not None and number not in only:
                continue
            try:
                row = self._row(cells, f"{self.path.name}:{line}")
                if row.id in seen:
                    raise RejectedRecordError(row.id, "duplicate_id", f"line {line}: an earlier row has this id")
                seen.add(row.id)
                yield row
            except RejectedRecordError as rejected:
                yield rejected

    def summary(self) -> dict[str, object]:
        """How the table was read, for the report."""
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
        cell = {role: values[column].strip() for role, column in self.columns.items()}
        files = tuple(cell[role] for role in ("image", "id") if cell.get(role))
        row_id = cell.get("id") or plain_name(cell.get("image", ""))
        if not row_id:
            raise RejectedRecordError(where, "no_id", "neither an id nor a file name")
        at = read_cells(*self._lat_lon(values), decimal_comma=self.delimiter != ",")
        if not isinstance(at, Coordinates):
            lat, lon = self._lat_lon(values)
            raise RejectedRecordError(row_id, f"coordinates_{at}", f"{where}: latitude {lat!r}, longitude {lon!r}")
        return Row(row_id, files, at, {name: cell[name] for name in NAMES if cell.get(name)}, values)

    def _lat_lon(self, values: Mapping[str, str]) -> tuple[str, str]:
        lat, lon = values[self.columns["lat"]], values[self.columns["lon"]]
        return (lon, lat) if self.swapped else (lat, lon)


def open_table(path: Path, columns: Mapping[str, str] | None = None, *, key: str = "csv") -> Table:
    """Detect how a CSV file is written. The file is read once from end to end.

    Args:
        path: The CSV file.
        columns: Names of columns by role (`lat`, `id`, ...), for roles that the header does not reveal. If both `lat`
            and `lon` are given, they never count as swapped.
        key: The config key of `path`, for messages.

    Raises:
        ConfigError: The file does not exist, is not UTF-8, is no CSV, or has no column for the coordinates or the
            photo.
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
            Problem(
                key,
                path,
                str(_undecodable(path, error)),
                "save it as UTF-8, for instance with `iconv -f latin1 -t utf-8`",
            )
        ) from None
    except csv.Error as error:
        raise ConfigError(
            Problem(key, path, f"this file can't be read as CSV ({error})", "fix it or save it again")
        ) from None
    if n_rows == 0:
        raise ConfigError(Problem(key, path, "this table has no row below the header", "give the whole table"))
    if swapped and not sure:
        log.warning(
            "%s: the headers %s and %s are swapped (there are latitudes beyond 90), so the two columns are read "
            "exchanged. To read them as labelled: columns.lat=%s columns.lon=%s",
            path,
            roles["lat"],
            roles["lon"],
            roles["lat"],
            roles["lon"],
        )
    return Table(path, encoding, delimiter, header, roles, swapped and not sure, n_rows)


def plain_name(name: str) -> str:
    """A file's name without folders and without the endings of images: `a/1.jpg.jpg` -> `1`."""
    return _ENDINGS.sub("", name.replace("\\", "/").rpartition("/")[2])


_ENDINGS = re.compile(r"(?:\.(?:jpe?g|png|webp|gif|bmp|tiff?))+$", re.IGNORECASE)


def read_cells(lat: str, lon: str, *, decimal_comma: bool = False) -> Coordinates | CoordinateError:
    """The coordinates in two cells, rounded to six decimals: plain numbers or any other notation of coordinates."""
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
    """The encoding by the file's byte order mark; UTF-8 without one."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ConfigError(
            Problem(key, path, f"this table can't be read ({error.strerror})", "give a CSV file")
        ) from None
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")


def _open(path: Path, encoding: str) -> IO[str]:
    return path.open(encoding=encoding, newline="")


def _header(path: Path, encoding: str) -> tuple[str, tuple[str, ...]]:
    """The delimiter that gives the first line most columns, and the names of these columns."""
    with _open(path, encoding) as file:
        first = next((line for line in file if line.strip()), "")
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter), []) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: len(headers[each]))
    return delimiter, tuple(name.strip() for name in headers[delimiter])


def _roles(header: Sequence[str], columns: Mapping[str, str], path: Path, key: str) -> dict[str, str]:
    """The column of each role, from `columns` or else by its spelling. Raises ConfigError as `open_table`."""
    shown = ", ".join(header)
    for role, name in columns.items():
        if role not in COLUMNS:
            raise ConfigError(
                Problem(f"columns.{role}", name, "there is no such role", f"choose one of {', '.join(COLUMNS)}")
            )
        if name not in header:
            raise ConfigError(Problem(f"columns.{role}", name, f"{path} has no such column", f"choose one of {shown}"))
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    found: dict[str, str] = {}
    for role, spellings in COLUMNS.items():
        if role in columns:
            found[role] = columns[role]
        elif known := [spelling for spelling in spellings if spelling in plain]:
            found[role] = header[plain.index(known[0])]
    for role in ("lat", "lon"):
        if role not in found:
            raise ConfigError(
                Problem(
                    key,
                    path,
                    f"no column looks like the {role}",
                    f"give columns.{role}=<name> from the header {shown!r}",
                )
            )
    if not found.keys() & {"id", "image"}:
        raise ConfigError(
            Problem(key, path, "no column names the photos", f"give columns.id=<name> from the header {shown!r}")
        )
    for role, name in found.items():
        if header.count(name) > 1:
            raise ConfigError(Problem(key, path, f"the header has the column {name} (its {role}) twice", "remove one"))
    return found


def _records(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row below the header; blank lines are skipped."""
    with _open(path, encoding) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        rows = ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
        next(rows, None)
        yield from rows


def _by_column(header: Sequence[str], cells: Sequence[str]) -> dict[str, str] | None:
    """The cells by column; None if there are too few or too many (blank cells at the end are ignored)."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        return None
    return dict(zip(header, cells, strict=False))


def _scan(
    path: Path, encoding: str, delimiter: str, header: Sequence[str], roles: Mapping[str, str]
) -> tuple[int, bool]:
    """The number of rows, and whether the headers of latitude and longitude are swapped."""
    lat_at, lon_at = header.index(roles["lat"]), header.index(roles["lon"])
    n_rows = legal_as_labelled = legal_exchanged = 0
    for _, cells in _records(path, encoding, delimiter):
        n_rows += 1
        if len(cells) <= max(lat_at, lon_at):
            continue
        lat, lon = (_number(cells[at], delimiter != ",") for at in (lat_at, lon_at))
        if lat is not None and lon is not None:
            legal_as_labelled += abs(lat) <= 90 < abs(lon) <= 180
            legal_exchanged += abs(lon) <= 90 < abs(lat) <= 180
    swapped = legal_as_labelled == 0 and legal_exchanged > 0 and legal_exchanged >= SWAPPED_SHARE * n_rows
    return n_rows, swapped


def _undecodable(path: Path, error: UnicodeDecodeError) -> str:
    """Says where a table stops being text, for a message."""
    if error.encoding != "utf-8":
        return f"it begins as {error.encoding} but does not continue so"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as bad:
                return f"line {number} is not UTF-8 (byte 0x{line[bad.start]:02x} at {bad.start + 1})"
    return "it is not UTF-8"
