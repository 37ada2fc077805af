"""What the readers of cross-view datasets share: finding a download's files, checking names and coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.rejected import RejectedRecordError
from geotune.errors import ConfigError, Problem
from geotune.geo import TILE_SIZE_PX, mercator_tile_xy
from geotune.system.image_names import name_on_disk
from geotune.tasks.coordinates import Coordinates, check_coordinates

Records = Iterator[SourcePlace | RejectedRecordError]
_IMAGES = (".jpg", ".jpeg", ".png")
_NAMES_SHOWN = 8
"""Number of names in a folder that a message lists."""


def find_files(root: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """The files or folders in `root` that match any pattern, pattern by pattern and sorted.

    Raises ConfigError if there are none; it says what was expected, and what `root` holds.
    """
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    if found:
        return found
    names = sorted(path.name for path in root.iterdir())
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    held = f"{', '.join(names[:_NAMES_SHOWN])}{more}" if names else "nothing"
    folders = [root / name for name in names if (root / name).is_dir()]
    inner = next((folder for pattern in patterns for folder in folders if any(folder.glob(pattern))), None)
    remedy = "give the download's folder" if inner is None else f"give root={inner}"
    text = f"{what} are missing: expected {' or '.join(patterns)}, but this folder holds {held}"
    raise ConfigError(Problem("root", root, text, remedy))


def list_images(folder: Path, *, deep: bool = False) -> Iterator[Path]:
    """The image files of a folder in sorted order; with `deep`, those of its subfolders as well."""
    found = folder.rglob("*") if deep else folder.iterdir()
    yield from sorted(path for path in found if path.suffix.lower() in _IMAGES and path.is_file())


def place_or_rejection(record_id: str, read: Callable[[], SourcePlace]) -> SourcePlace | RejectedRecordError:
    """The place that `read` returns, or a rejection if it raises IndexError or ValueError."""
    try:
        return read()
    except IndexError:
        return RejectedRecordError(record_id, "invalid_record", "it has too few fields, or no coordinates")
    except ValueError as error:
        return RejectedRecordError(record_id, "invalid_record", str(error))


def place_at(lat: float, lon: float) -> Coordinates:
    """The checked coordinates; raises ValueError if they are not on the earth."""
    found = check_coordinates(lat, lon)
    if not isinstance(found, Coordinates):
        raise ValueError(f"coordinates {lat}, {lon}: {found}")
    return found


def offset_px(camera: Coordinates, middle: Coordinates, zoom: int) -> tuple[float, float]:
    """Offset of the camera right of and below the center `middle` of a map, in pixels at `zoom`."""
    here, there = (mercator_tile_xy(at.lat, at.lon, zoom) for at in (camera, middle))
    return (here[0] - there[0]) * TILE_SIZE_PX, (here[1] - there[1]) * TILE_SIZE_PX


def path_inside(root: Path, name: PurePosixPath) -> Path:
    """The file `name` in `root`; raises ValueError if the name leads out of it."""
    if name.is_absolute() or ".." in name.parts or "\0" in str(name):
        raise ValueError(f"{str(name)!r} leaves the folder of images")
    return name_on_disk(root / name)
