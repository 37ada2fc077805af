"""The images of places, each made once and named by content: views towards the winds, maps around the camera."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from math import radians, tan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_builders.imagery.panorama import FULL_SPAN, Span, perspective_view
from data_builders.imagery.prepare import reason_word
from data_builders.imagery.satellite import MissingTileError, image_from_tiles, tile_folder
from geotune.errors import BadRecord
from geotune.geo import COMPASS_POINTS, compass_to_heading
from geotune.imagery.symmetry import IDENTITY, Symmetry
from geotune.system.images import load_image

# Part of every image's name: change it when an image would come out differently.
IMAGE_VERSION = "places 1"
_LEAST_ASPECT, _SLACK_DEG = 1.9, 0.5
_TWO_TO_ONE = 0.02


@dataclass(frozen=True)
class ImageSettings:
    """What all images of a build have in common."""

    view_size: int
    map_size: int
    fov_deg: float
    headings: tuple[str, ...]
    """Compass points to look towards."""
    max_pixels: int
    heading_offset_deg: float = 0.0
    """Added to the heading that the source gives for a panorama's centre column."""
    span_deg: Span | None = None
    """What panoramas cover; None: by their aspect ratio."""
    tiles: Path | None = None
    """Folder of web-mercator tiles; maps are then stitched from them."""
    tile_pattern: str = "{zoom}/{x}/{y}.png"
    tile_size: int = 256
    stitched_px: int = 512
    """Side of the window that is stitched at the tiles' resolution, before it is rescaled."""


@dataclass(frozen=True)
class ImageJob:
    """What is to be drawn of one place."""

    key: str
    ground: Path
    is_panorama: bool
    centre_heading_deg: float
    span_of_2_to_1: Span
    lat: float
    lon: float
    zoom: int | None
    satellite: Path | None
    camera_px: tuple[float, float]
    nominal_px: int | None
    keep: float
    mirrored: bool = False


@dataclass(frozen=True)
class PlaceImages:
    """Where the images of one place lie; `reason` is empty when they are usable."""

    key: str
    views: dict[str, Path] = field(default_factory=dict)
    """File by compass point; those that a panorama does not cover are left out."""
    map: Path = Path()
    digest: str = ""
    """Of the map's content."""
    made: int = 0
    reused: int = 0
    reason: str = ""
    detail: str = ""


class _UnusableError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def make_place_images(job: ImageJob, settings: ImageSettings, folder: Path) -> PlaceImages:
    """Make the images of one place that are not there yet; whatever is wrong with its sources is told."""
    try:
        made: list[bool] = []
        views = _views(job, settings, folder / "views", made)
        path, digest = _map(job, settings, folder / "maps", made)
    except _UnusableError as error:
        return PlaceImages(job.key, reason=error.reason, detail=error.detail)
    except BadRecord as error:
        missing = error.reason.endswith(("is missing", "is not a file"))
        return PlaceImages(job.key, reason="missing_image" if missing else reason_word(error), detail=error.reason)
    return PlaceImages(job.key, views, path, digest, sum(made), len(made) - sum(made))


def span_of(width: int, height: int, span_of_2_to_1: Span = FULL_SPAN) -> Span:
    """What a panorama covers, by its aspect ratio: one wider than 2:1 goes all round and was cut above and below."""
    if abs(width / height / 2 - 1) <= _TWO_TO_ONE:
        return span_of_2_to_1
    return 360.0, min(180.0, 360.0 * height / width)


def view_height(size: int, fov_deg: float, vertical_span_deg: float) -> int:
    """Pixels of the highest view, at most `size`, that a panorama of this vertical span fills."""
    if vertical_span_deg >= fov_deg:
        return size
    return max(1, int(size * tan(radians(vertical_span_deg / 2)) / tan(radians(fov_deg / 2))))


def is_covered(heading_deg: float, centre_heading_deg: float, fov_deg: float, horizontal_span_deg: float) -> bool:
    """Whether a panorama shows all of a view's width."""
    offset = abs((heading_deg - centre_heading_deg + 180) % 360 - 180)
    return horizontal_span_deg >= 360 or offset + fov_deg / 2 <= horizontal_span_deg / 2 + _SLACK_DEG


def turned_map(path: Path, symmetry: Symmetry) -> Path:
    """Where the map `path` lies under a symmetry."""
    return path if symmetry == IDENTITY else path.with_name(f"{path.stem}-{symmetry.name}{path.suffix}")


def draw_turned(job: tuple[Path, Symmetry]) -> bool:
    """Make the map under a symmetry unless it is there; returns whether it was made."""
    path, symmetry = job
    target = turned_map(path, symmetry)
    return _write(target, lambda: symmetry.map(np.asarray(load_image(path))))


def _views(job: ImageJob, settings: ImageSettings, folder: Path, made: list[bool]) -> dict[str, Path]:
    side = Symmetry(0, job.mirrored)
    if not job.is_panorama:
        name = next((p for p in COMPASS_POINTS if compass_to_heading(p) == job.centre_heading_deg), None)
        if name not in settings.headings:
            raise _UnusableError("heading_not_asked", f"{job.ground.name} looks towards {job.centre_heading_deg:g}")
        image = load_image(job.ground, max_pixels=settings.max_pixels)
        if not job.mirrored:
            return {name: job.ground}
        target = _named(folder, ("view",), job.ground.read_bytes()) / f"{name}-{side.name}.png"
        made.append(_write(target, lambda: side.view(np.asarray(image))))
        return {name: target}
    opened: list[NDArray[np.uint8]] = []

    def panorama() -> NDArray[np.uint8]:
        if not opened:
            opened.append(np.asarray(load_image(job.ground, max_pixels=settings.max_pixels)))
        return opened[0]

    if not job.ground.is_file():
        raise _UnusableError("missing_image", str(job.ground))
    with _checked_open(job.ground) as header:
        width, height = header.size
    if width / height < _LEAST_ASPECT:
        raise _UnusableError("not_a_panorama", f"{job.ground} has {width} x {height} pixels")
    span = settings.span_deg or span_of(width, height, job.span_of_2_to_1)
    centre = (job.centre_heading_deg + settings.heading_offset_deg) % 360
    size = view_height(settings.view_size, settings.fov_deg, span[1]), settings.view_size
    facts = ("panorama", size, settings.fov_deg, centre, span)
    base = _named(folder, facts, job.ground.read_bytes())
    views: dict[str, Path] = {}
    for name in settings.headings:
        heading = compass_to_heading(name)
        if is_covered(heading, centre, settings.fov_deg, span[0]):
            views[name] = base / f"{name}{f'-{side.name}' if job.mirrored else ''}.jpg"

            def draw(heading: float = heading) -> NDArray[np.uint8]:
                seen = perspective_view(
                    panorama(),
                    heading,
                    size,
                    fov_deg=settings.fov_deg,
                    centre_heading_deg=centre,
                    span_deg=span,
                )
                return side.view(seen)

            made.append(_write(views[name], draw))
    if not views:
        raise _UnusableError("no_view_covered", f"{job.ground} spans {span[0]:g} degrees")
    return views


def _map(job: ImageJob, settings: ImageSettings, folder: Path, made: list[bool]) -> tuple[Path, str]:
    if settings.tiles is not None:
        if job.zoom is None:
            raise _UnusableError("no_zoom", "the source does not say the zoom of its maps; set zoom=")
        read = tile_folder(settings.tiles, settings.tile_pattern)
        try:
            stitched = image_from_tiles(
                read, job.lat, job.lon, job.zoom, size=settings.stitched_px, tile_size=settings.tile_size
            )
        except MissingTileError as error:
            raise _UnusableError("missing_tile", str(error)) from error
        except (ValueError, OSError) as error:
            raise _UnusableError("broken_image", f"tiles at {job.lat}, {job.lon}: {error}") from error
        base = _named(folder, ("tiles", settings.map_size), stitched.tobytes())
        path = base.with_name(f"{base.name}.png")
        made.append(_write(path, lambda: _rescaled(Image.fromarray(stitched), settings.map_size)))
        return path, base.name
    if job.satellite is None:
        raise _UnusableError("no_satellite_image", "the source publishes none; give tiles=<folder> and zoom=")
    if not job.satellite.is_file():
        raise _UnusableError("missing_image", str(job.satellite))
    with _checked_open(job.satellite) as header:
        box = _window(header.size, job)
    base = _named(folder, ("satellite", settings.map_size, box), job.satellite.read_bytes())
    path = base.with_name(f"{base.name}.png")
    source = job.satellite

    def draw() -> NDArray[np.uint8]:
        whole = load_image(source, max_pixels=settings.max_pixels)
        return _rescaled(whole.crop(box), settings.map_size)

    made.append(_write(path, draw))
    return path, base.name


def _window(size: tuple[int, int], job: ImageJob) -> tuple[int, int, int, int]:
    """The square around the camera; of one size for all places, or its scale would tell them apart."""
    width, height = size
    scale = width / job.nominal_px if job.nominal_px else 1.0
    side = round(min(width, height) * job.keep)
    left = round(width / 2 + job.camera_px[0] * scale - side / 2)
    top = round(height / 2 + job.camera_px[1] * scale - side / 2)
    if left < 0 or top < 0 or left + side > width or top + side > height:
        across, down = (round(value * scale) for value in job.camera_px)
        raise _UnusableError(
            "out_of_frame",
            f"the camera stands {across}, {down} px off the middle of {width} x {height}; {side} px are kept",
        )
    return left, top, left + side, top + side


def _rescaled(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS))


def _checked_open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _UnusableError("broken_image", f"{path}: {error}") from error


def _named(folder: Path, facts: tuple[object, ...], content: bytes) -> Path:
    """A path named by what an image is made of."""
    digest = hashlib.blake2b(f"{IMAGE_VERSION} {facts!r}\n".encode(), digest_size=16)
    digest.update(content)
    name = digest.hexdigest()
    return folder / name[:2] / name


def _write(path: Path, draw: Callable[[], NDArray[np.uint8]]) -> bool:
    """Write the image that `draw` gives unless it is there; returns whether it was written."""
    if path.exists():
        return False
    image = Image.fromarray(draw())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.suffix == ".png":
        image.save(temporary, format="PNG", compress_level=1)
    else:
        image.save(temporary, format="JPEG", quality=95, subsampling=0)
    temporary.replace(path)
    return True
