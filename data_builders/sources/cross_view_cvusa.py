"""Reader of CVUSA: splits that pair satellite images with panoramas, and a table of their coordinates."""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path, PurePosixPath

from data_builders.imagery.panorama import Span
from data_builders.sources.cross_view_files import (
    Records,
    find_files,
    offset_px,
    path_inside,
    place_at,
    place_or_rejection,
)
from data_builders.sources.cross_view_place import SourcePlace

CVUSA_RAW_SPAN: Span = (308.57, 154.29)
"""Extent in degrees of the raw CVUSA panoramas, twice as wide as high; those of the common subset are full circles."""
CVUSA_MAP_PX = 750
_SPLITS = ("splits/train*.csv", "splits/val*.csv", "splits/test*.csv")
_ID = re.compile(r"(?:input)?(\d+)", re.IGNORECASE)
"""File names without ending: `0000001`, or `input0000001` as copies for image generation have it."""


def read_cvusa(root: Path) -> Records:
    """Read CVUSA.

    Files: `splits/{train,val,test}*.csv` without a header (satellite image, panorama, ...), whose paths are relative to
    `root`; and `all.csv`, also in `split/` or `splits/`, whose row id - 1 holds latitude and longitude of the camera,
    then of the satellite image's center.
    """
    everywhere = find_files(root, ("all.csv", "split/all.csv", "splits/all.csv"), "CVUSA's coordinates")[0]
    gps = _read(everywhere)
    if gps and gps[0] and not _is_number(gps[0][0]):
        gps = gps[1:]  # a header, which the published table does not have
    for path in find_files(root, _SPLITS, "CVUSA's splits"):
        for number, row in enumerate(_read(path), start=1):
            if row:
                yield place_or_rejection(f"{path.name}:{number}", partial(_cvusa, row, path, gps, root))


def _read(path: Path) -> list[list[str]]:
    """The rows of a table, empty ones included: an id is the number of a row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def _cvusa(row: list[str], path: Path, gps: list[list[str]], root: Path) -> SourcePlace:
    if len(row) < 2:
        raise ValueError(f"it holds {row[0]!r:.100}; expected a satellite image, a comma and a panorama")
    satellite, panorama = (PurePosixPath(name.strip()) for name in row[:2])
    image_id = _id_of(panorama, "panorama")
    if int(_id_of(satellite, "satellite image")) != int(image_id):
        raise ValueError(f"satellite image {satellite} and panorama {panorama} have different ids")
    zoom = next((int(part) for part in reversed(satellite.parent.parts) if part.isdigit()), 19)
    at = _coordinates(gps, int(image_id))
    here = place_at(at[0], at[1])
    camera_px = offset_px(here, place_at(at[2], at[3]), zoom) if len(at) == 4 else (0.0, 0.0)
    if max(map(abs, camera_px)) > CVUSA_MAP_PX:
        raise ValueError(f"row {int(image_id)} of all.csv puts camera and satellite image far apart: {at}")
    return SourcePlace(
        source=f"CVUSA_zoom{zoom}",
        family="CVUSA",
        image_id=image_id,
        lat=here.lat,
        lon=here.lon,
        split="train" if path.name.startswith("train") else "test",
        ground=path_inside(root, panorama),
        span_of_2_to_1=CVUSA_RAW_SPAN,
        satellite=path_inside(root, satellite),
        zoom=zoom,
        camera_px=camera_px,
        nominal_px=CVUSA_MAP_PX,
        keep=0.9,
    )


def _id_of(image: PurePosixPath, kind: str) -> str:
    """The digits of an image's name. Raises ValueError for a name that is no id."""
    found = _ID.fullmatch(image.stem)
    if found is None or int(found[1]) < 1:
        raise ValueError(
            f"the {kind} {str(image)!r:.100} is named by no id; expected <number from 1>.jpg, as 0000001.jpg"
        )
    return found[1]


def _coordinates(gps: list[list[str]], number: int) -> list[float]:
    """Latitude and longitude of the camera, and of the satellite image if there are four. Raises ValueError."""
    if number > len(gps):
        raise ValueError(f"all.csv has {len(gps):,} rows, and none for the id {number}")
    cells = gps[number - 1][:4]
    if len(cells) not in (2, 4) or not all(map(_is_number, cells)):
        raise ValueError(
            f"row {number} of all.csv holds {', '.join(cells)!r:.100}; expected latitude and longitude of the camera, "
            "then of the satellite image"
        )
    return [float(cell) for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
