"""Readers of five datasets of ground images with coordinates: each record becomes a `SourcePlace` or is rejected.

The layouts are those of the downloads; the docstring of each reader names the files that it reads.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from data_builders.sources.cross_view_cvusa import read_cvusa
from data_builders.sources.cross_view_files import (
    Records,
    find_files,
    list_images,
    offset_px,
    path_inside,
    place_at,
    place_or_rejection,
)
from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.geox_records import canonical_names
from geotune.errors import ConfigError, Problem
from geotune.tasks.coordinates import Coordinates

VIGOR_MAP_PX, VIGOR_ZOOM, CVGLOBAL_ZOOM = 640, 20, 18
VIGOR_KEEP = 0.43
"""Share of the side of VIGOR's satellite images that is kept around the camera, in all cities.

A city's satellite images form a grid, and a panorama's positive one is the nearest. In Seattle they lie up to 363 px
apart, so cameras stand up to 181.5 px off the center, and a square around the camera fits if its side is at most
1 - 363/640 = 0.432 of the image's. One value serves all cities, so that maps of any two cities have the same scale.
"""
CROSS_AREA = {"NewYork": "train", "Seattle": "train", "SanFrancisco": "test", "Chicago": "test"}
"""VIGOR's split by city, for downloads without the same-area files."""
_VIGOR_PANORAMA = re.compile(r"(?P<id>.+),(?P<lat>-?\d+(?:\.\d+)?),(?P<lon>-?\d+(?:\.\d+)?),?")
_VIGOR_SATELLITE = re.compile(r"(?:.*_)?(?P<lat>-?\d+(?:\.\d+)?)_(?P<lon>-?\d+(?:\.\d+)?)")
_SPLIT_OF = {"train": "train", "val": "test", "test": "test"}
_STREET_VIEW = re.compile(
    r"(?P<lat>-?\d+(?:\.\d+)?),(?P<lon>-?\d+(?:\.\d+)?)_(?P<time>\d{4}-\d{2})_(?P<pano>.+)_d(?P<deg>-?\d+(?:\.\d+)?)_z\d+"
)
"""Names of CVGlobal's and OmniCity's panoramas and satellite images."""
_LLMGEO = re.compile(
    r"(?P<lon>-?\d+(?:\.\d+)?)_(?P<lat>-?\d+(?:\.\d+)?)_h(?P<h>\d+(?:\.\d+)?)_p(?P<p>-?\d+(?:\.\d+)?)_f(?P<f>\d+(?:\.\d+)?)"
)


def read_vigor(root: Path) -> Records:
    """Read VIGOR.

    Files: `<City>/panorama`, `<City>/satellite`, and `splits__corrected/<City>/` (or else `splits/<City>/`) with
    `same_area_balanced_{train,test}[__corrected].txt`, or with `pano_label_balanced[__corrected].txt` alone. In the
    latter case New York and Seattle train, and San Francisco and Chicago test. The camera's position in its satellite
    image follows from the coordinates in both file names.
    """
    cities = [folder.parent.name for folder in find_files(root, ("*/panorama",), "VIGOR's panoramas")]
    labels = find_files(root, ("splits__corrected", "splits"), "VIGOR's labels")[0]
    for city in cities:
        files = sorted((labels / city).glob("same_area_balanced_t*.txt")) or find_files(
            root,
            (f"{labels.name}/{city}/pano_label_balanced*.txt",),
            f"same_area_balanced_train.txt and test of {city}",
        )
        corrected = [path for path in files if "corrected" in path.name]
        for path in corrected or files:
            split = CROSS_AREA.get(city, "") if path.name.startswith("pano") else path.stem.split("_")[3]
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if line.strip():
                    yield place_or_rejection(
                        f"{city}/{path.name}:{number}",
                        partial(_vigor, line.split(), city, split, root),
                    )


def _vigor(fields: list[str], city: str, split: str, root: Path) -> SourcePlace:
    if len(fields) < 4:
        raise ValueError(f"it has {len(fields)} fields; expected a panorama, a satellite image, and the camera's pixel")
    panorama, satellite = PurePosixPath(fields[0]), PurePosixPath(fields[1])
    named, tile = _VIGOR_PANORAMA.fullmatch(panorama.stem), _VIGOR_SATELLITE.fullmatch(satellite.stem)
    if named is None or tile is None:
        raise ValueError(
            f"{fields[0]!r:.100} is not <id>,<lat>,<lon>,.jpg"
            if named is None
            else f"{fields[1]!r:.100} is not satellite_<lat>_<lon>.png"
        )
    here = place_at(float(named["lat"]), float(named["lon"]))
    there = place_at(float(tile["lat"]), float(tile["lon"]))
    offset = offset_px(here, there, VIGOR_ZOOM)
    down, left = float(fields[2]), float(fields[3])
    return SourcePlace(
        source=f"VIGOR_{city}",
        family=f"VIGOR_{city}",
        image_id=named["id"],
        lat=here.lat,
        lon=here.lon,
        split=split,
        ground=path_inside(root / city / "panorama", panorama),
        satellite=path_inside(root / city / "satellite", satellite),
        zoom=VIGOR_ZOOM,
        camera_px=offset,
        nominal_px=VIGOR_MAP_PX,
        keep=VIGOR_KEEP,
        # The published pixel of the camera is (row 320 + down, column 320 - left).
        extra={"label_differs_px": f"{max(abs(offset[0] + left), abs(offset[1] - down)):.1f}"},
    )


def read_cvglobal(root: Path) -> Records:
    """Read CVGlobal.

    Files: `<lat>,<lon>_<YYYY-MM>_<pano>_d<deg>_z3.jpg` in a folder `streetview...` at any depth, and the satellite
    image of the same name in `satellite/` beside that folder. The split is the one whose file
    `splits_csv/{train,val,test}.csv` lists the image, or else the part of its path named train, val or test.
    """
    listed: dict[str, str] = {}
    for path in sorted((root / "splits_csv").glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file):
                listed |= {PurePosixPath(name).stem: _SPLIT_OF.get(path.stem, "") for name in row[:2]}
    folders = sorted(path for path in root.rglob("streetview*") if path.is_dir())
    if not folders:
        raise ConfigError(
            Problem("root", root, "there is no folder streetview2048/ or streetview/", "give CVGlobal's folder")
        )
    for folder in folders:
        for path in list_images(folder):
            yield place_or_rejection(path.name, partial(_cvglobal, path, folder, listed, root))


def _cvglobal(path: Path, folder: Path, listed: dict[str, str], root: Path) -> SourcePlace:
    match, here = _street_view(path)
    family = canonical_names("CVGlobal")[1]
    return SourcePlace(
        source=family,
        family=family,
        image_id=path.stem,
        lat=here.lat,
        lon=here.lon,
        split=listed.get(path.stem) or _split_in(path, root),
        ground=path,
        centre_heading_deg=float(match["deg"]),
        satellite=folder.parent / "satellite" / path.name,
        zoom=CVGLOBAL_ZOOM,
        capture_time=match["time"],
    )


def read_omnicity(root: Path) -> Records:
    """Read OmniCity; each scale of a panorama's satellite image gives a `SourcePlace`.

    Files: panoramas in `street-level/image-panorama/image-panorama-{train,test}/`, and satellite images of the same
    name in `satellite-level/image-satellite/satellite-image-view{1,2,3}/view{n}-{train,test}/`.
    """
    panoramas = find_files(root, ("street-level/image-panorama",), "OmniCity's panoramas")[0]
    for folder in sorted(path for path in panoramas.iterdir() if path.is_dir()):
        split = _SPLIT_OF.get(folder.name.rpartition("-")[2], "")
        for path in list_images(folder):
            for view in (1, 2, 3):
                base = root / "satellite-level" / "image-satellite" / f"satellite-image-view{view}"
                satellite = base / f"view{view}-{folder.name.rpartition('-')[2]}" / path.name
                if base.is_dir():
                    yield place_or_rejection(
                        f"view{view}/{path.name}",
                        partial(_omnicity, path, satellite, split, view),
                    )


def _omnicity(path: Path, satellite: Path, split: str, view: int) -> SourcePlace:
    match, here = _street_view(path)
    return SourcePlace(
        source=f"OmniCity_view{view}",
        family="OmniCity",
        image_id=path.stem,
        lat=here.lat,
        lon=here.lon,
        split=split,
        ground=path,
        # The panoramas are stored with south at their center column.
        centre_heading_deg=180.0,
        satellite=satellite,
        capture_time=match["time"],
    )


def read_llmgeo(root: Path) -> Records:
    """Read LLMGeo, single views without satellite images.

    Files: `{train,test}/**/<lon>_<lat>_h<heading>_p<pitch>_f<fov>.jpg`, also in `dataset/`.
    """
    found = find_files(root, ("dataset/train", "dataset/test", "train", "test"), "LLMGeo's views")
    base = found[0].parent
    for folder in (folder for folder in found if folder.parent == base):
        for path in list_images(folder, deep=True):
            yield place_or_rejection(str(path.relative_to(base)), partial(_llmgeo, path, folder.name))


def _llmgeo(path: Path, split: str) -> SourcePlace:
    match = _LLMGEO.fullmatch(path.stem)
    if match is None:
        raise ValueError(f"{path.name} is not <lon>_<lat>_h<heading>_p<pitch>_f<fov>")
    if float(match["p"]) != 0:
        raise ValueError(f"{path.name} has a pitch other than 0")
    here = place_at(float(match["lat"]), float(match["lon"]))
    family = canonical_names("LLMGeo")[1]
    return SourcePlace(
        source=family,
        family=family,
        image_id=path.stem,
        lat=here.lat,
        lon=here.lon,
        split=split,
        ground=path,
        is_panorama=False,
        centre_heading_deg=float(match["h"]) % 360,
        fov_deg=float(match["f"]),
        extra={"country": path.parent.name},
    )


READERS: dict[str, Callable[[Path], Records]] = {
    "cvusa": read_cvusa,
    "vigor": read_vigor,
    "cvglobal": read_cvglobal,
    "omnicity": read_omnicity,
    "llmgeo": read_llmgeo,
}


def _street_view(path: Path) -> tuple[re.Match[str], Coordinates]:
    """The parts of a street view's file name, and its coordinates; raises ValueError for any other name."""
    match = _STREET_VIEW.fullmatch(path.stem)
    if match is None:
        raise ValueError(f"{path.name} is not <lat>,<lon>_<YYYY-MM>_<pano>_d<deg>_z<n>")
    return match, place_at(float(match["lat"]), float(match["lon"]))


def _split_in(path: Path, root: Path) -> str:
    """The split that a part of the path names; empty if none does."""
    return next((_SPLIT_OF[part] for part in path.relative_to(root).parts if part in _SPLIT_OF), "")
