"""Reader of GeoX-Bench's index files (arXiv 2511.13259): each record becomes a `View` or is rejected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_builders.questions.placed_view import CROSS_MAP, LOCALIZATION, OWN_MAP
from data_builders.questions.sample import place_name
from data_builders.sources.rejected import RejectedRecordError
from geotune.errors import ConfigError, Problem
from geotune.system.image_names import name_on_disk
from geotune.tasks.coordinates import Coordinates, parse_coordinates
from geotune.tasks.cross_view import HEADINGS, N_CANDIDATES

POOL = "pool"
"""Kind of the training pool; each benchmark index has the kind of the questions that it serves."""
INDEX_NAMES = {
    OWN_MAP: "Orin4_SameLocation",
    LOCALIZATION: "Location4_50_in_range",
    CROSS_MAP: "LocationSelection",
    POOL: "Orin4",
}
"""Published name of the index of each kind."""
INDEX_FOLDERS: dict[str, tuple[str, ...]] = {
    OWN_MAP: ("Orin4_SameLocation",),
    LOCALIZATION: ("Location4_50_in_range", "Location4_80InRange"),
    CROSS_MAP: ("LocationSelection",),
    POOL: ("Sampled400Data/Orin4",),
}
"""Folder names under which each index was published; copies under two names are identical."""
FAMILIES = ("CVGloable", "CVUSA", "LMMGeo", "OmniCity", "VIGOR_Chicago")
_FAMILY_BY_NAME = {name.lower(): name for name in FAMILIES} | {"cvglobal": "CVGloable", "llmgeo": "LMMGeo"}
_STEM = re.compile(r"(?P<family>.+?)(?:_(?P<kind>zoom|view)(?P<number>\d+))?", re.IGNORECASE)
_VIEW_IN_PATH = re.compile(r"view(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MapRef:
    """One satellite map as an index names it."""

    name: str
    """Path of its file inside the family's folder of images."""
    path: Path
    zoom: int | None
    """Zoom level; None if the index does not state it."""
    scale: str
    """`zoom18`, or `view2` if only the path states it (OmniCity); empty if nothing states it."""


@dataclass(frozen=True, slots=True)
class View:
    """One validated index record: a ground view with its map or its candidate maps."""

    kind: str
    """Kind of the questions that it serves: OWN_MAP, LOCALIZATION or CROSS_MAP; POOL in the training pool."""
    index: str
    """Path of its index file relative to the folder of indices."""
    source: str
    """Stem of the index file in its canonical spelling."""
    family: str
    """The source without its scale."""
    image_id: str
    heading: str
    ground: Path
    panorama: str
    """Ground path without the heading, which all views of one panorama share."""
    lat: float
    lon: float
    fov_deg: float
    split: str
    original_id: str | None
    capture_time: str | None
    maps: tuple[MapRef, ...]
    true_map: int | None
    """Position of the true map in `maps`; None if it is not among them."""
    camera_offset_px: tuple[float, float]
    """Pixels by which the camera stands off the map's center, (x, y); only CVUSA states it, (0, 0) elsewhere."""

    @property
    def record_id(self) -> str:
        """Id under which the record is rejected."""
        return f"{self.index}/{self.image_id}/{self.heading}"

    @property
    def place(self) -> str:
        """Family and coordinates: the unit of splitting and grouping."""
        return place_name(self.family, self.lat, self.lon)

    @property
    def heading_deg(self) -> float:
        """Heading in degrees clockwise from north."""
        return HEADINGS[self.heading]


def canonical_names(stem: str) -> tuple[str, str]:
    """The (source, family) that the stem of an index file names: `OmniCity_View1` -> (`OmniCity_view1`, `OmniCity`).

    Unknown families keep their spelling.
    """
    match = _STEM.fullmatch(stem)
    assert match is not None  # the pattern matches any name
    family = _FAMILY_BY_NAME.get(match["family"].lower(), match["family"])
    suffix = f"_{match['kind'].lower()}{match['number']}" if match["kind"] else ""
    return family + suffix, family


def index_files(index_dir: Path, kind: str, sources: Sequence[str] | None = None) -> dict[str, Path]:
    """The files of one index by source, sorted by file name; empty if the index folder does not exist.

    Args:
        sources: Families or sources to keep, in any published spelling; None keeps all.

    Raises:
        ConfigError: Two files of the index belong to the same source.
    """
    wanted = None if sources is None else {canonical_names(name)[0] for name in sources}
    found: dict[str, Path] = {}
    folders = (index_dir / name for name in INDEX_FOLDERS[kind])
    folder = next((folder for folder in folders if folder.is_dir()), None)
    for path in sorted(folder.glob("*.json")) if folder else ():
        source, family = canonical_names(path.stem)
        if wanted is not None and not wanted & {source, family}:
            continue
        if source in found:
            raise ConfigError(
                Problem("index_dir", index_dir, f"{found[source]} and {path} both hold {source}", "remove one")
            )
        found[source] = path
    return found


def image_folder(image_root: Path, family: str) -> Path:
    """The folder of a family's images, in any published spelling.

    Raises:
        ConfigError: There is no such folder.
    """
    exact = image_root / family
    if exact.is_dir():
        return exact
    for folder in sorted(image_root.iterdir()):
        if folder.is_dir() and canonical_names(folder.name)[1] == family:
            return folder
    raise ConfigError(
        Problem(
            "image_root",
            image_root,
            f"there is no folder {family}",
            "put the images of that family there, or choose other sources with sources=",
        )
    )


def read_views(path: Path, kind: str, index_dir: Path, image_root: Path) -> Iterator[View | RejectedRecordError]:
    """Yield each record of one index file, in file order, as a view or as its rejection.

    Raises:
        ConfigError: The file is not a JSON array.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            Problem("index_dir", index_dir, f"{path} is not JSON ({error})", "download it again")
        ) from error
    if not isinstance(records, list):
        raise ConfigError(Problem("index_dir", index_dir, f"{path} holds no list of records", "download it again"))
    source, family = canonical_names(path.stem)
    index = path.relative_to(index_dir).as_posix()
    images = image_folder(image_root, family)
    seen: set[str] = set()
    for number, record in enumerate(records):
        try:
            view = _view(record, f"{index}/{number}", kind, index, source, family, images)
            if view.record_id in seen:
                raise RejectedRecordError(view.record_id, "duplicate_record", "the file describes this view twice")
            seen.add(view.record_id)
            yield view
        except RejectedRecordError as rejected:
            yield rejected


class _Fields:
    """Typed access to the fields of a record; a missing or wrong field rejects the record."""

    def __init__(self, values: Any, record_id: str, where: str = "") -> None:
        self.record_id = record_id
        self.where = where
        if not isinstance(values, Mapping):
            raise self.wrong(f"{where or 'the record'} is not an object")
        self.values = values

    def wrong(self, detail: str, reason: str = "invalid_record") -> RejectedRecordError:
        return RejectedRecordError(self.record_id, reason, detail)

    def get(self, key: str, *kinds: type) -> Any:
        value = self.values.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(f"{self.where}{key}={value!r}")
        return value

    def section(self, key: str) -> _Fields:
        return _Fields(self.values.get(key), self.record_id, f"{key}.")


def _view(record: Any, fallback_id: str, kind: str, index: str, source: str, family: str, images: Path) -> View:
    fields = _Fields(record, fallback_id)
    image_id = fields.get("image_id", str, int)
    ground = fields.section("GroundImage")
    heading = ground.get("orientation", str)
    if heading not in HEADINGS:
        raise ground.wrong(f"orientation={heading}: not one of {', '.join(HEADINGS)}")
    for section in (fields, ground):
        section.record_id = f"{index}/{image_id}/{heading}"
    name = _inside(ground)
    degree = ground.get("degree", int, float)
    heading_in_path, panorama = _heading_in_path(name, family)
    if degree % 360 != HEADINGS[heading] or heading_in_path not in (heading, f"{HEADINGS[heading]:.0f}"):
        raise ground.wrong(f"orientation {heading}, degree {degree}, file {name}", reason="heading_mismatch")
    place = parse_coordinates(ground.get("real_location", str), pair_order="lat_lon")
    if not isinstance(place, Coordinates):
        raise ground.wrong(f"real_location={ground.values['real_location']!r} ({place})")
    fov = ground.get("fov", int, float)
    if not 0 < fov < 180:
        raise ground.wrong(f"fov={fov}")
    maps, true_map = _maps(fields, ground, kind, images)
    return View(
        kind=kind,
        index=index,
        source=source,
        family=family,
        image_id=str(image_id),
        heading=heading,
        ground=name_on_disk(images / name),
        panorama=panorama,
        lat=place.lat,
        lon=place.lon,
        fov_deg=fov,
        split=fields.get("source", str),
        original_id=fields.get("original_id", str, type(None)),
        capture_time=ground.get("capture_time", str, type(None)),
        maps=maps,
        true_map=true_map,
        camera_offset_px=_camera_offset(fields),
    )


def _maps(fields: _Fields, ground: _Fields, kind: str, images: Path) -> tuple[tuple[MapRef, ...], int | None]:
    """The maps of a record, and the position of the true map among them (None if it is not there)."""
    if kind == CROSS_MAP:
        # `in_range` is always false in this index and means nothing: `is_original` marks the true map.
        sections = [_Fields(entry, fields.record_id, "candidate.") for entry in fields.get("AerialCandidates", list)]
        maps = tuple(_map(section, images) for section in sections)
        original = [number for number, section in enumerate(sections) if section.get("is_original", bool)]
        if len(maps) != N_CANDIDATES or len(original) != 1:
            raise fields.wrong(f"{len(maps)} candidates, {len(original)} of them true; expected {N_CANDIDATES} and 1")
        if sum(candidate.path == maps[original[0]].path for candidate in maps) > 1:
            raise fields.wrong(f"the true map is listed twice: {maps[original[0]].name}", reason="ambiguous_candidates")
        return maps, original[0]
    true = ground.get("in_range", bool) if kind == LOCALIZATION else True
    return (_map(fields, images),), 0 if true else None


def _map(parent: _Fields, images: Path) -> MapRef:
    fields = parent.section("AerialImage")
    name = _inside(fields)
    zoom = fields.get("zoom_level", int, type(None))
    in_path = _VIEW_IN_PATH.search(name)
    scale = f"zoom{zoom}" if zoom is not None else f"view{in_path[1]}" if in_path else ""
    return MapRef(name, name_on_disk(images / name), zoom, scale)


def _inside(fields: _Fields) -> str:
    """The section's file path without `./`; a path that leaves the folder of images rejects the record."""
    name = fields.get("file_path", str)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in name:
        raise fields.wrong(f"file_path={name!r} leaves the folder of images")
    return str(path)


def _heading_in_path(name: str, family: str) -> tuple[str, str]:
    """The heading that a file's path states, and the path without it.

    In LMMGeo the heading is a directory named by degrees; elsewhere it is the last letter of the file's stem.
    """
    path = PurePosixPath(name)
    if family == "LMMGeo":
        return path.parent.name, str(path.parent.parent / path.name)
    return path.stem[-1:], str(path.with_name(path.stem[:-1] + path.suffix)) if len(path.stem) > 1 else name


def _camera_offset(fields: _Fields) -> tuple[float, float]:
    """Pixels by which the camera stands off the map's center, (x, y); (0, 0) if the record does not state it."""
    offset = fields.values.get("pixel distance", [0.0, 0.0])
    match offset:
        case [int() | float() as across, int() | float() as down]:
            return float(across), float(down)
    raise fields.wrong(f"pixel distance={offset!r}")
