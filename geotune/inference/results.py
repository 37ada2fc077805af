"""The forms in which located photos are written: a table for the terminal, and JSON lines, CSV or GeoJSON files."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from geotune.errors import ConfigError, Problem
from geotune.gazetteer import nearest_entry
from geotune.inference.locating import Located
from geotune.inference.photos import on_one_line, text_of
from geotune.system.files import open_atomically
from geotune.system.strict_json import finite
from geotune.tasks.estimates import FEWEST_FOR_RADIUS

log = logging.getLogger(__name__)
Row = Mapping[str, Any]
"""The result for one photo, as `locating.as_json` returns it."""
COLUMNS = (
    *("image", "latitude", "longitude", "radius_50_km", "radius_90_km", "answers_read", "answers_unread"),
    *("unread_reasons", "nearest_place", "nearest_country", "nearest_place_km", "error"),
)
"""Columns of a CSV file. The features of a GeoJSON file have the same properties, without the coordinates."""
_DECIMALS = {"latitude": 6, "longitude": 6, "radius_50_km": 3, "radius_90_km": 3, "nearest_place_km": 3}
"""Decimals of the columns: a tenth of a meter or finer in degrees, a meter in kilometers."""


def totals(rows: Iterable[Row], photos: int) -> dict[str, int]:
    """Count `photos` by what came of them: located, asked without a readable answer, unreadable, or not asked yet."""
    kinds = Counter(
        "unreadable" if "error" in row else "without_answer" if row["latitude"] is None else "located" for row in rows
    )
    counts = {kind: kinds[kind] for kind in ("located", "without_answer", "unreadable")}
    return {"photos": photos, **counts, "not_asked": photos - kinds.total()}


def any_answers(counts: Mapping[str, int]) -> bool:
    """Return whether the model was asked about any photo, by the totals."""
    return counts["located"] + counts["without_answer"] > 0


def totals_line(counts: Mapping[str, int]) -> str:
    """Write totals as one line, in which everything that is missing is named."""
    parts = [f"{counts['located']:,} of {counts['photos']:,} photos located"]
    missing = {
        "without_answer": "without a readable answer",
        "unreadable": "not readable",
        "not_asked": "not asked yet",
    }
    return ", ".join([*parts, *(f"{counts[kind]:,} {text}" for kind, text in missing.items() if counts[kind])])


def check_readable(errors: Iterable[str | None], image: str) -> None:
    """Name the first photo that can't be read. Raises ConfigError if none of them can.

    errors: why each photo can't be read, or None. image: what the user named.
    """
    found = list(errors)
    bad = [text_of(error) for error in found if error is not None]
    if not bad:
        return
    first = f"{on_one_line(bad[0])}{f' (and {len(bad) - 1:,} more)' if len(bad) > 1 else ''}"
    if len(bad) == len(found):
        raise ConfigError(Problem("image", image, f"no image can be used: {first}", "name a photo"))
    log.warning("%d of %d images could not be used: %s", len(bad), len(found), first)


def write_located(out: Path, rows: Iterable[Row], summary: Mapping[str, Any]) -> None:
    """Write the rows in the form that the ending of `out` names; the file appears complete or not at all.

    summary: what a GeoJSON file says beside its features. Raises ConfigError if the file can't be written.
    """
    try:
        with open_atomically(out, binary=True) as file:
            WRITERS[out.suffix.lower()](file, rows, summary)
    except OSError as error:
        raise ConfigError(
            Problem("out", out, f"can't be written ({error.strerror or error})", "free some space, then go on")
        ) from error


def _write_lines(file: IO[bytes], rows: Iterable[Row], summary: Mapping[str, Any]) -> None:
    """Write one JSON object per line, with all that is known of each photo."""
    for row in rows:
        file.write(_json(row) + b"\n")


def _write_csv(file: IO[bytes], rows: Iterable[Row], summary: Mapping[str, Any]) -> None:
    """Write commas, decimal points and UTF-8, which begins with a byte order mark if Excel would misread it without."""
    lines = io.StringIO()
    writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = flat(row)
        for name, decimals in _DECIMALS.items():
            cells[name] = None if cells[name] is None else f"{cells[name]:.{decimals}f}"
        writer.writerow(cells)
    text = lines.getvalue()
    file.write(text.encode("ascii" if text.isascii() else "utf-8-sig"))


def _write_geojson(file: IO[bytes], rows: Iterable[Row], summary: Mapping[str, Any]) -> None:
    """Write a feature collection of RFC 7946: longitude before latitude, and no geometry for a photo without place."""
    head = _json({"type": "FeatureCollection", **summary})
    file.write(head.removesuffix(b"}") + b', "features": [')
    for number, row in enumerate(rows):
        properties = flat(row)
        latitude, longitude = properties.pop("latitude"), properties.pop("longitude")
        at = None if latitude is None else {"type": "Point", "coordinates": [longitude, latitude]}
        file.write(b"," * (number > 0) + b"\n" + _json({"type": "Feature", "geometry": at, "properties": properties}))
    file.write(b"\n]}\n")


WRITERS: Mapping[str, Callable[[IO[bytes], Iterable[Row], Mapping[str, Any]], None]] = {
    ".jsonl": _write_lines,
    ".csv": _write_csv,
    ".geojson": _write_geojson,
}
"""Writers by the ending of the file, in lower case."""


def flat(row: Row) -> dict[str, Any]:
    """Return the row of a photo as one value per column."""
    cells: dict[str, Any] = dict.fromkeys(COLUMNS)
    cells |= {name: row[name] for name in COLUMNS if name in row}
    place = row.get("nearest_place") or {}
    cells |= {"nearest_place": place.get("name"), "nearest_country": place.get("country")}
    cells["nearest_place_km"] = place.get("distance_km")
    if "error" not in row:
        unread = row["unread"]
        cells |= {"answers_read": len(row["answers"]), "answers_unread": sum(unread.values())}
        cells["unread_reasons"] = ", ".join(f"{reason} {count}" for reason, count in unread.items()) or None
    return cells


def pretty_json(value: Any) -> str:
    """Return a value as JSON for the terminal."""
    return json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False)


def _json(value: Any) -> bytes:
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False).encode()


def as_table(rows: Sequence[Located], width: int) -> str:
    """Write the results as a table of at most `width` columns; several photos have the names below their folder."""
    from rich.console import Console

    from geotune.system.tables import FittingTable, TableColumn

    folder = _folder_of(rows)
    cells = [_cells(located, folder) for located in rows]
    titles = ("photo", "latitude, longitude", "50% within", "90% within", "answers read", "nearest town")
    towns = ["" if located.estimate else "red" for located in rows]
    columns = [
        TableColumn(title, column, right=0 < number < 5, styles=towns if number == 5 else ())
        for number, (title, column) in enumerate(zip(titles, zip(*cells, strict=True), strict=True))
    ]
    text = io.StringIO()
    Console(file=text, width=width).print(FittingTable("" if folder is None else f"photos in {folder}", columns))
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
    if any(located.estimate is not None and located.estimate.radius_90_km is None for located in rows):
        lines.append(f"-  no radius: fewer than {FEWEST_FOR_RADIUS} answers could be read")
    return "\n".join(lines)


def _folder_of(rows: Sequence[Located]) -> Path | None:
    """Return the folder that holds all of several photos, at any depth; None if it need not be named."""
    folders = {located.image.parent for located in rows}
    if len(rows) < 2 or len({folder.is_absolute() for folder in folders}) > 1:
        return None
    folder = Path(os.path.commonpath(folders))
    return None if folder in (Path(), Path("/")) else folder


def _cells(located: Located, folder: Path | None) -> tuple[str, ...]:
    """Return the texts of a photo's row, its name below `folder` first."""
    image = located.image if folder is None else located.image.relative_to(folder)
    name, found = on_one_line(text_of(image)), located.estimate
    total = len(located.answers) + len(located.unread)
    if found is None:
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(located.unread).items())
        why = on_one_line(text_of(located.error or f"no answer could be read: {reasons}"))
        return name, "", "", "", f"0/{total}" if total else "", why
    town, distance_km = nearest_entry(found.at.lat, found.at.lon)
    return (
        name,
        f"{found.at.lat:.4f}, {found.at.lon:.4f}",
        format_km(found.radius_50_km),
        format_km(found.radius_90_km),
        f"{len(located.answers)}/{total}",
        f"{format_km(distance_km)} from {town.name}, {town.country}",
    )


def format_km(distance_km: float | None) -> str:
    """Write a distance with one decimal below 10 km and with none from there on: `0.4 km`, `12 km`, `1,234 km`, `-`."""
    if distance_km is None:
        return "-"
    return f"{distance_km:,.1f} km" if distance_km < 10 else f"{distance_km:,.0f} km"
