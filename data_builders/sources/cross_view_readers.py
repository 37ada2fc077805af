"""Readers of five datasets of ground images with coordinates: each record becomes a `SourcePlace` or is rejected.

The layouts are those of the downloads; the docstring of each reader names the files that it reads.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from data_builders.imagery.panorama import Span
from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.geox_records import canonical_names
from data_builders.sources.rejected import RejectedRecordError
from geotune.errors import ConfigError, Problem
from geotune.geo import TILE_SIZE_PX, mercator_tile_xy
from geotune.tasks.coordinates import Coordinates, check_coordinates

CVUSA_RAW_SPAN: Span = (308.57, 154.29)
"""Extent in degrees of the raw CVUSA panoramas, twice as wide as high; those of the common subset are full circles."""
CVUSA_MAP_PX, VIGOR_MAP_PX, VIGOR_ZOOM, CVGLOBAL_ZOOM = 750, 640, 20, 18
VIGOR_KEEP = 0.43
"""Share of the side of VIGOR's satellite images that is kept around the camera, in all cities.

A city's satellite images form a grid, and a panorama's positive one is the nearest. In Seattle they lie up to 363 px
apart, so cameras stand up to 181.5 px off the center, and a square around the camera fits if its side is at most
1 - 363/640 = 0.432 of the image's. One value serves all cities, so that maps of any two cities have the same scale.
"""
CROSS_AREA = {"NewYork": "train", "Seattle": "train", "SanFrancisco": "test", "Chicago": "test"}
"""VIGOR's split by city, for downloads without the same-area files."""
_SPLIT_OF = {"train": "train", "val": "test", "test": "test"}
_STREET_VIEW = re.compile(
    r"(?P<lat>-?\d+(?:\.\d+)?),(?P<lon>-?\d+(?:\.\d+)?)_(?P<time>\d{4}-\d{2})_(?P<pano>.+)_d(?P<deg>-?\d+(?:\.\d+)?)_z\d+"
)
"""Names of CVGlobal's and OmniCity's panoramas and satellite images."""
_LLMGEO = re.compile(
    r"(?P<lon>-?\d+(?:\.\d+)?)_(?P<lat>-?\d+(?:\.\d+)?)_h(?P<h>\d+(?:\.\d+)?)_p(?P<p>-?\d+(?:\.\d+)?)_f(?P<f>\d+(?:\.\d+)?)"
)
_IMAGES = (".jpg", ".jpeg", ".png")

Records = Iterator[SourcePlace | RejectedRecordError]


def read_cvusa(root: Path) -> Records:
    """Read CVUSA.

    Files: `splits/{train,val}*.csv` without a header (satellite image, panorama, ...), whose paths are relative to
    `root`; and `all.csv`, also in `split/` or `splits/`, whose row id - 1 holds latitude and longitude of the camera,
    then of the satellite image's center.
    """
    everywhere = _first(root, ("all.csv", "split/all.csv", "splits/all.csv"), "CVUSA's coordinates")
    with everywhere.open(encoding="utf-8-sig", newline="") as file:
        gps = [row for row in csv.reader(file) if row]
    for path in _files(root / "splits", ("train*.csv", "val*.csv"), "CVUSA's splits"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if row:
                    yield _caught(f"{path.name}:{number}", partial(_cvusa, row, path, gps, root))


def _cvusa(row: list[str], path: Path, gps: list[list[str]], root: Path) -> SourcePlace:
    satellite, panorama = (PurePosixPath(name.strip()) for name in row[:2])
    zoom = next((int(part) for part in reversed(satellite.parent.parts) if part.isdigit()), 19)
    image_id = panorama.stem
    if int(image_id) < 1:
        raise ValueError(f"{panorama.name}: ids start at 1")
    at = [float(value) for value in gps[int(image_id) - 1][:4]]
    here = _place(at[0], at[1])
    return SourcePlace(
        source=f"CVUSA_zoom{zoom}",
        family="CVUSA",
        image_id=image_id,
        lat=here.lat,
        lon=here.lon,
        split="train" if path.name.startswith("train") else "test",
        ground=_inside(root, panorama),
        span_of_2_to_1=CVUSA_RAW_SPAN,
        satellite=_inside(root, satellite),
        zoom=zoom,
        camera_px=_offset_px(here, _place(at[2], at[3]), zoom) if len(at) == 4 else (0.0, 0.0),
        nominal_px=CVUSA_MAP_PX,
        keep=0.9,
    )


def read_vigor(root: Path) -> Records:
    """Read VIGOR.

    Files: `<City>/panorama`, `<City>/satellite`, and `splits__corrected/<City>/` (or else `splits/<City>/`) with
    `same_area_balanced_{train,test}[__corrected].txt`, or with `pano_label_balanced[__corrected].txt` alone. In the
    latter case New York and Seattle train, and San Francisco and Chicago test. The camera's position in its satellite
    image follows from the coordinates in both file names.
    """
    labels = next((root / name for name in ("splits__corrected", "splits") if (root / name).is_dir()), None)
    cities = sorted(folder.parent.name for folder in root.glob("*/panorama") if folder.is_dir())
    if labels is None or not cities:
        raise ConfigError(
            Problem(
                "root", root, "there is no <City>/panorama, or no splits/ or splits__corrected/", "give VIGOR's folder"
            )
        )
    for city in cities:
        files = sorted((labels / city).glob("same_area_balanced_t*.txt")) or sorted(
            (labels / city).glob("pano_label_balanced*.txt")
        )
        if not files:
            raise ConfigError(
                Problem(
                    "root",
                    root,
                    f"{labels.name}/{city} holds no same_area_balanced or pano_label_balanced file",
                    "add it",
                )
            )
        corrected = [path for path in files if "corrected" in path.name]
        for path in corrected or files:
            split = CROSS_AREA.get(city, "") if path.name.startswith("pano") else path.stem.split("_")[3]
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if line.strip():
                    yield _caught(
                        f"{city}/{path.name}:{number}",
                        partial(_vigor, line.split(), city, split, root),
                    )


def _vigor(fields: list[str], city: str, split: str, root: Path) -> SourcePlace:
    panorama, satellite = PurePosixPath(fields[0]), PurePosixPath(fields[1])
    pano_id, lat, lon = panorama.stem.rstrip(",").rsplit(",", 2)
    here = _place(float(lat), float(lon))
    there = _place(*(float(value) for value in satellite.stem.split("_")[-2:]))
    offset = _offset_px(here, there, VIGOR_ZOOM)
    down, left = float(fields[2]), float(fields[3])
    return SourcePlace(
        source=f"VIGOR_{city}",
        family=f"VIGOR_{city}",
        image_id=pano_id,
        lat=here.lat,
        lon=here.lon,
        split=split,
        ground=_inside(root / city / "panorama", panorama),
        satellite=_inside(root / city / "satellite", satellite),
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
        for path in _images(folder):
            yield _caught(path.name, partial(_cvglobal, path, folder, listed, root))


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
    panoramas = root / "street-level" / "image-panorama"
    if not panoramas.is_dir():
        raise ConfigError(Problem("root", root, "there is no street-level/image-panorama/", "give OmniCity's folder"))
    for folder in sorted(path for path in panoramas.iterdir() if path.is_dir()):
        split = _SPLIT_OF.get(folder.name.rpartition("-")[2], "")
        for path in _images(folder):
            for view in (1, 2, 3):
                base = root / "satellite-level" / "image-satellite" / f"satellite-image-view{view}"
                satellite = base / f"view{view}-{folder.name.rpartition('-')[2]}" / path.name
                if base.is_dir():
                    yield _caught(
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
    base = root / "dataset" if (root / "dataset").is_dir() else root
    folders = [base / name for name in ("train", "test") if (base / name).is_dir()]
    if not folders:
        raise ConfigError(Problem("root", root, "there is no dataset/train/ or dataset/test/", "give LLMGeo's folder"))
    for folder in folders:
        for path in _images(folder, deep=True):
            yield _caught(str(path.relative_to(base)), partial(_llmgeo, path, folder.name))


def _llmgeo(path: Path, split: str) -> SourcePlace:
    match = _LLMGEO.fullmatch(path.stem)
    if match is None:
        raise ValueError(f"{path.name} is not <lon>_<lat>_h<heading>_p<pitch>_f<fov>")
    if float(match["p"]) != 0:
        raise ValueError(f"{path.name} has a pitch other than 0")
    here = _place(float(match["lat"]), float(match["lon"]))
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


def _caught(record_id: str, read: Callable[[], SourcePlace]) -> SourcePlace | RejectedRecordError:
    """The place that `read` returns, or a rejection if it raises IndexError or ValueError."""
    try:
        return read()
    except IndexError:
        return RejectedRecordError(record_id, "invalid_record", "it has too few fields, or no coordinates")
    except ValueError as error:
        return RejectedRecordError(record_id, "invalid_record", str(error))


def _place(lat: float, lon: float) -> Coordinates:
    """The checked coordinates; raises ValueError if they are not on the earth."""
    found = check_coordinates(lat, lon)
    if not isinstance(found, Coordinates):
        raise ValueError(f"coordinates {lat}, {lon}: {found}")
    return found


def _offset_px(camera: Coordinates, middle: Coordinates, zoom: int) -> tuple[float, float]:
    """Offset of the camera right of and below the center `middle` of a map, in pixels at `zoom`."""
    here, there = (mercator_tile_xy(at.lat, at.lon, zoom) for at in (camera, middle))
    return (here[0] - there[0]) * TILE_SIZE_PX, (here[1] - there[1]) * TILE_SIZE_PX


def _street_view(path: Path) -> tuple[re.Match[str], Coordinates]:
    """The parts of a street view's file name, and its coordinates; raises ValueError for any other name."""
    match = _STREET_VIEW.fullmatch(path.stem)
    if match is None:
        raise ValueError(f"{path.name} is not <lat>,<lon>_<YYYY-MM>_<pano>_d<deg>_z<n>")
    return match, _place(float(match["lat"]), float(match["lon"]))


def _split_in(path: Path, root: Path) -> str:
    """The split that a part of the path names; empty if none does."""
    return next((_SPLIT_OF[part] for part in path.relative_to(root).parts if part in _SPLIT_OF), "")


def _inside(root: Path, name: PurePosixPath) -> Path:
    """The file `name` in `root`; raises ValueError if the name leads out of it."""
    if name.is_absolute() or ".." in name.parts or "\0" in str(name):
        raise ValueError(f"{str(name)!r} leaves the folder of images")
    return root / name


def _images(folder: Path, *, deep: bool = False) -> Iterator[Path]:
    """The image files of a folder in sorted order; with `deep`, those of its subfolders as well."""
    found = folder.rglob("*") if deep else folder.iterdir()
    yield from sorted(path for path in found if path.suffix.lower() in _IMAGES and path.is_file())


def _first(root: Path, names: tuple[str, ...], what: str) -> Path:
    """The first file of `names` that exists in `root`. Raises ConfigError if none does."""
    for name in names:
        if (root / name).is_file():
            return root / name
    raise ConfigError(Problem("root", root, f"{what} are missing ({' or '.join(names)})", "give the download's folder"))


def _files(folder: Path, patterns: tuple[str, ...], what: str) -> list[Path]:
    """The files of a folder that match any pattern. Raises ConfigError if there are none."""
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise ConfigError(
            Problem(
                "root", folder.parent, f"{what} are missing ({folder.name}/{patterns[0]})", "give the download's folder"
            )
        )
    return found
