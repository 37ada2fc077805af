"""Reads CSV tables of photos: finds the columns, decides their order, and returns each row's coordinates."""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.table_beside import BesideColumn, beside_columns, question_about
from data_builders.sources.table_cells import (
    Angle,
    OrderCount,
    is_wgs84,
    is_whole,
    lacks_ref,
    read_angles,
    same_place,
    why_not,
)
from data_builders.sources.table_columns import (
    AXES,
    AXIS_NAMES,
    NAMES,
    AngleColumns,
    Columns,
    columns_as_overrides,
    find_columns,
)
from data_builders.sources.table_files import TableFile, read_table, visible
from data_builders.sources.table_names import read_name
from geotune.errors import ConfigError, Problem
from geotune.system.images import CAMERA_ENDINGS, IMAGE_ENDINGS
from geotune.tasks.coordinates import Coordinates

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: a photo and where it was taken."""

    id: str
    """The id as the table writes it, or else the file name without its folder and ending, or the whole path where
    several files have this name."""
    files: tuple[str, ...]
    """Possible names of the photo's file, the likeliest first."""
    at: Coordinates
    names: Mapping[str, str]
    """The table's street, city, state, country and continent, as far as the row has them."""
    values: Mapping[str, str]
    """All cells, by column."""
    shared_name: bool = False
    """Whether another row's file has the same name in another folder or with another ending."""


@dataclass(frozen=True)
class Table:
    """A CSV file of photos, opened by `open_table`."""

    file: TableFile
    columns: Columns
    order: OrderCount
    """The rows that tell which column is the latitude."""
    swapped: bool
    """Whether the headers of latitude and longitude are swapped; `rows` corrects for that."""
    refs_used: frozenset[str]
    """The axes whose hemisphere stands in a column of its own in at least one row."""
    n_rows: int
    shared_names: frozenset[str] = frozenset()
    """Names of files, without folder and ending, that stand for several files of the table."""

    def rows(self, only: Container[int] | None = None) -> Iterator[Row | RejectedRecordError]:
        """Every row in the table's order; an unusable row is represented by the error that rejects it.

        A photo without coordinates, or at exactly (0, 0), is rejected, and nothing is filled in. `only` restricts the
        rows to these numbers, counted from 0.
        """
        seen: set[str] = set()
        for number, (line, cells) in enumerate(self.file.rows()):
            if only is not None and number not in only:
                continue
            try:
                row = self._row(cells, f"{self.file.path.name}:{line}")
                if row.id in seen:
                    what = "this id" if "id" in self.columns.others else "a photo of this name"
                    raise RejectedRecordError(row.id, "duplicate_id", f"line {line}: an earlier row has {what}")
                seen.add(row.id)
                photo = row.files[0] if "image" in self.columns.others and "id" in self.columns.others else ""
                if photo and (photo_key := f"\0{photo}") in seen:
                    detail = f"line {line}: an earlier row has the photo {photo}"
                    raise RejectedRecordError(row.id, "duplicate_image", detail)
                elif photo:
                    seen.add(photo_key)
                yield row
            except RejectedRecordError as rejected:
                yield rejected

    def summary(self) -> dict[str, object]:
        """How the table was read, for the report."""
        return {
            "rows": self.n_rows,
            "encoding": self.file.encoding,
            "delimiter": self.file.delimiter,
            "columns": self.columns.roles(),
            "swapped_headers": self.swapped,
            "rows_legal_only_as_labelled": self.order.as_labelled,
            "rows_legal_only_exchanged": self.order.exchanged,
        }

    def _row(self, cells: list[str], where: str) -> Row:
        values = self.file.by_column(cells)
        if values is None:
            shown = self.file.delimiter.join(cells)[:200]
            detail = f"{len(cells)} cells under {len(self.file.header)} columns: {shown!r}"
            raise RejectedRecordError(where, "wrong_cell_count", detail)
        cell = {role: visible(values[column]) for role, column in self.columns.others.items()}
        image, row_id = cell.get("image", ""), cell.get("id", "")
        shared = plain_name(image or row_id) in self.shared_names
        files = tuple(name for name in (image, row_id) if name)
        if "/" in image.replace("\\", "/") and plain_name(image) == plain_name(row_id):
            files = (image,)  # the id says nothing that would find another file
        row_id = row_id or (image if shared else plain_name(image))
        if not row_id:
            raise RejectedRecordError(where, "no_id", "neither an id nor a file name")
        datums = [cell.get("datum", ""), *(visible(values[column]) for column in self.columns.datums)]
        if other := [datum for datum in datums if not is_wgs84(datum)]:
            detail = f"{where}: the coordinates are in {other[0]!r}, not in WGS84"
            raise RejectedRecordError(row_id, "coordinates_other_datum", detail)
        at = self._place(values, row_id, where)
        return Row(row_id, files, at, {name: cell[name] for name in NAMES if cell.get(name)}, values, shared)

    def _place(self, values: Mapping[str, str], row_id: str, where: str) -> Coordinates:
        """The coordinates of a row; raises RejectedRecordError, which names the cell that is not understood."""
        columns = (self.columns.lat, self.columns.lon)
        lat, lon = (Angle.of(each, values) for each in (reversed(columns) if self.swapped else columns))
        decimal_comma = self.file.delimiter != ","
        for angle, axis, labelled in zip((lat, lon), AXES, reversed(AXES) if self.swapped else AXES, strict=True):
            if labelled in self.refs_used and not angle.ref and lacks_ref(angle, axis, decimal_comma=decimal_comma):
                column = getattr(self.columns, labelled).ref
                detail = f"{where}: the {AXIS_NAMES[axis]} {angle.shown()} has no sign, and its {column!r} is empty"
                raise RejectedRecordError(row_id, "coordinates_ambiguous", detail)
        at = read_angles(lat, lon, decimal_comma=decimal_comma)
        if not isinstance(at, Coordinates):
            why = why_not(lat, lon, decimal_comma=decimal_comma)
            detail = f"{where}: latitude {lat.shown()}, longitude {lon.shown()}{f': {why}' if why else ''}"
            raise RejectedRecordError(row_id, f"coordinates_{at}", detail)
        return at


def open_table(path: Path, columns: Mapping[str, str] | None = None, *, key: str = "csv") -> Table:
    """Detect how a CSV file is written. The file is read once from end to end.

    Args:
        path: The CSV file.
        columns: Names of columns by role (`lat`, `id`, ...), for roles that the header does not reveal. If both `lat`
            and `lon` are given, they never count as swapped. None if the builder has no such key.
        key: The config key of `path`, for messages.

    Raises:
        ConfigError: The file does not exist, is not UTF-8, is no CSV, has no column for the coordinates or the photo,
            or has several whose coordinates differ; or its rows contradict each other about which is the latitude.
    """
    chosen = columns or {}

    def read(file: TableFile) -> Table:
        return _scan(file, find_columns(file.header, chosen, path, key), "lat" in chosen and "lon" in chosen, key)

    try:
        return read_table(path, key, read)
    except ConfigError as error:
        if columns is not None:
            raise
        remedy = "correct the table: name its columns lat, lon, lat_ref, lat_min, ... by what they hold"
        told = (replace(each, remedy=remedy) if "columns." in each.remedy else each for each in error.problems)
        raise ConfigError(*told) from None


def plain_name(name: str) -> str:
    """A file's name without folders and without the endings of images: `a/1.jpg.jpg` -> `1`, `1.HEIC` -> `1`."""
    return _ENDINGS.sub("", name.replace("\\", "/").rpartition("/")[2])


_ENDINGS = re.compile(rf"(?:\.(?:{'|'.join((*IMAGE_ENDINGS, *CAMERA_ENDINGS))}))+$", re.IGNORECASE)


def _with_hemisphere(file: TableFile, columns: Columns, key: str) -> Columns:
    """The columns with those hemispheres whose axis the names do not say, or say too shortly, by their cells.

    A column `hemisphere` is that of the axis whose hemispheres it names. A column `NS` or `EW` without any hemisphere
    is another quantity. Raises ConfigError if a hemisphere's axis can't be told.
    """
    names = [name for name in file.header if (read := read_name(name)) and read.kind == "ref" and not read.spelled]
    seen = {name: BesideColumn(file.header.index(name), name, None, None) for name in names}
    if seen:
        for _, cells in file.rows():
            for each in seen.values():
                each.add(cells)
    for name, each in seen.items():
        named = read_name(name)
        used = next((axis for axis in AXES if getattr(columns, axis).ref == name), None)
        if used is not None:
            if not each.letters and each.seen and name not in columns.chosen:
                columns = columns.with_ref(used, None)
            continue
        if named is None or named.axis is not None or not each.seen or name in columns.chosen:
            continue
        axis = each.hemisphere_axis()
        if axis is not None and getattr(columns, axis).ref is None:
            columns = columns.with_ref(axis, name)
        elif not columns.settled.issuperset(AXES):
            ways = " ".join(f"columns.{axis}={getattr(columns, axis).value}" for axis in AXES)
            text = f"the cells of the column {name} do not tell whose hemisphere it is"
            remedy = f"name it with columns.lat_ref={name} or columns.lon_ref={name}, or give {ways} without it"
            raise ConfigError(Problem(key, file.path, text, remedy))
    return columns


def _scan(file: TableFile, columns: Columns, sure: bool, key: str) -> Table:
    """Read all rows once, for what only all of them tell. Raises ConfigError if they tell no one reading."""
    columns = _with_hemisphere(file, columns, key)
    decimal_comma = file.delimiter != ","
    order, n_rows, differing, compared = OrderCount(), 0, 0, 0
    refs_used: set[str] = set()
    pairs = ((columns.lat, columns.lon), *columns.rivals)
    index = {name: number for number, name in enumerate(file.header)}
    needed = {name: index[name] for name in _names(pairs)}
    beside = beside_columns(file.header, columns)
    whole = dict.fromkeys(AXES, True)
    stated = dict.fromkeys(AXES, False)
    photos = NameCount(columns.others)
    for _, cells in file.rows():
        n_rows += 1
        for column in beside:
            column.add(cells)
        if len(cells) < len(file.header):
            cells = cells + [""] * (len(file.header) - len(cells))
        photos.add([visible(cells[index[name]]) for name in photos.columns])
        values = {name: cells[number] for name, number in needed.items()}
        lat, lon = Angle.of(columns.lat, values), Angle.of(columns.lon, values)
        for axis, angle in (("lat", lat), ("lon", lon)):
            if whole[axis] and angle.value:
                whole[axis], stated[axis] = is_whole(angle.value), True
        order.add(lat, lon, decimal_comma=decimal_comma)
        if lat.ref or lon.ref:
            refs_used |= {axis for axis, angle in (("lat", lat), ("lon", lon)) if angle.ref}
        if columns.rivals:
            others = [tuple(Angle.of(each, values) for each in pair) for pair in columns.rivals]
            same = [same_place((lat, lon), (a, o), decimal_comma=decimal_comma) for a, o in others]
            differing += False in same
            compared += any(each is not None for each in same)
    if n_rows == 0:
        raise ConfigError(Problem(key, file.path, "this table has no row below the header", "give the whole table"))
    if question := question_about(beside, columns, {axis: whole[axis] and stated[axis] for axis in AXES}):
        raise ConfigError(Problem(key, file.path, *question))
    _check_rivals(file.path, pairs, differing, compared, n_rows, key)
    swapped = False if sure else order.swapped()
    names = columns.lat.value, columns.lon.value
    counts = (
        f"of {order.rows:,} rows with coordinates, {order.exchanged:,} are legal only with the columns exchanged and "
        f"{order.as_labelled:,} only as labelled"
    )
    as_labelled, exchanged = (
        columns_as_overrides(zip(AXES, each, strict=True)) for each in (names, tuple(reversed(names)))
    )
    if swapped is None:
        raise ConfigError(
            Problem(
                key,
                file.path,
                f"the rows do not tell whether the headers {names[0]} and {names[1]} are swapped: {counts}",
                f"fix the wrong rows, or say which is which: {as_labelled} to read them as labelled, or {exchanged}",
            )
        )
    if swapped:
        log.warning(
            "%s: the headers %s and %s are swapped (%s), so the two columns are read exchanged. To read them as "
            "labelled: %s",
            file.path,
            *names,
            counts,
            as_labelled,
        )
    elif order.exchanged and not sure:
        log.warning(
            "%s: %s. The columns are read as labelled, and those rows are rejected. If the headers %s and %s are "
            "swapped: %s",
            file.path,
            counts,
            *names,
            exchanged,
        )
    return Table(file, columns, order, swapped, frozenset(refs_used), n_rows, photos.shared())


class NameCount:
    """Finds the names, without folder and ending, that stand for several files of a table."""

    def __init__(self, others: Mapping[str, str]) -> None:
        self.columns = [others[role] for role in ("image", "id") if role in others][:1]
        self._first: dict[str, int] = {}
        self._shared: set[str] = set()

    def add(self, names: Sequence[str]) -> None:
        """Count a row's name of its photo."""
        for name in names:
            plain = name if name.isalnum() else plain_name(name)
            if self._first.setdefault(plain, hash(name)) != hash(name):
                self._shared.add(plain)

    def shared(self) -> frozenset[str]:
        """The names that several files have."""
        return frozenset(self._shared - {""})


def _names(pairs: Sequence[tuple[AngleColumns, AngleColumns]]) -> set[str]:
    return {name for pair in pairs for angle in pair for name in angle.roles("lat").values()}


def _check_rivals(
    path: Path,
    pairs: Sequence[tuple[AngleColumns, AngleColumns]],
    differing: int,
    compared: int,
    n_rows: int,
    key: str,
) -> None:
    """Say which of several pairs of columns is read. Raises ConfigError if they state different places."""
    if len(pairs) == 1:
        return
    shown = [f"{lat.value} and {lon.value}" for lat, lon in pairs]
    ways = [columns_as_overrides((("lat", lat.value), ("lon", lon.value))) for lat, lon in pairs]
    if differing:
        raise ConfigError(
            Problem(
                key,
                path,
                f"several columns look like the photo's coordinates ({'; '.join(shown)}), and in {differing:,} of "
                f"{n_rows:,} rows they differ",
                f"say which is meant: {' or '.join(ways)}",
            )
        )
    log.warning(
        "%s: %s look like the photo's coordinates and agree in the %s of %s rows that have several; %s are read, and "
        "rows without them are rejected",
        path,
        "; ".join(shown),
        f"{compared:,}",
        f"{n_rows:,}",
        shown[0],
    )
