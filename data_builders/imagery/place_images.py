"""Makes the images of places, each once and named by content: ground views by compass point, maps around the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from math import radians, tan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_builders.imagery.panorama import FULL_SPAN, Span, perspective_view
from data_builders.imagery.satellite import MissingTileError, image_from_tiles, tile_folder
from data_builders.imagery.writing import write_image
from geotune.errors import BadRecord
from geotune.geo import COMPASS_POINTS, compass_to_heading
from geotune.imagery.symmetry import IDENTITY, Symmetry
from geotune.system.image_names import missing_image
from geotune.system.images import load_image

IMAGE_VERSION = "places 2"
"""Part of the digest in every image's path: change it when an image would come out differently."""
_LEAST_ASPECT = 1.9
"""Width of a panorama divided by its height, at least."""
_MOST_ASPECT_OF_A_MAP = 1.5
"""Longer side of a satellite image divided by its shorter side, at most; polar-transformed ones are 5 times as wide."""
_TWO_TO_ONE = 0.02
"""Relative deviation from the aspect ratio 2:1 that still counts as 2:1."""
_SLACK_DEG = 0.5
"""Degrees of a view's width that may lie beyond the panorama on each side."""


@dataclass(frozen=True)
class ImageSettings:
    """The settings that all images of a build share."""

    view_size: int
    """Width of a view in pixels, and its largest height."""
    map_size: int
    """Side of a map in pixels."""
    fov_deg: float
    """Horizontal field of view of the views."""
    headings: tuple[str, ...]
    """Compass points that the views look towards."""
    max_pixels: int
    """Source images with more pixels are rejected."""
    heading_offset_deg: float = 0.0
    """Correction that is added to the source's heading of a panorama's center column."""
    span_deg: Span | None = None
    """Extent of the panoramas; None: derived from their aspect ratio."""
    tiles: Path | None = None
    """Folder of web-mercator tiles to stitch the maps from; None: the source has satellite images."""
    tile_pattern: str = "{zoom}/{x}/{y}.png"
    """Path of a tile below `tiles`."""
    tile_size: int = 256
    """Side of a tile in pixels."""
    stitched_px: int = 512
    """Side of the window that is stitched at the tiles' resolution before it is rescaled."""


@dataclass(frozen=True)
class ImageJob:
    """The source images of one place and where the camera stands in them."""

    key: str
    """Id of the source record."""
    ground: Path
    """File of the panorama or of the photo."""
    is_panorama: bool
    centre_heading_deg: float
    """Heading of a panorama's center column, or of a photo."""
    span_of_2_to_1: Span
    """Extent of a panorama that is twice as wide as high."""
    lat: float
    lon: float
    zoom: int | None
    """Zoom of the tiles that a map is stitched from."""
    satellite: Path | None
    """File of the satellite image, where the source has one."""
    camera_px: tuple[float, float]
    """Offset of the camera to the right of and below the satellite image's middle, for an image `nominal_px` wide."""
    nominal_px: int | None
    """Width that `camera_px` refers to; None: the image's own width."""
    keep: float
    """Share of the satellite image's side to keep around the camera."""
    mirrored: bool = False
    """Whether the views are mirrored left to right."""


@dataclass(frozen=True)
class PlaceImages:
    """The files of one place's images. `reason` is empty if they are usable."""

    key: str
    """Id of the source record."""
    views: dict[str, Path] = field(default_factory=dict)
    """File of each view by compass point; a view that the panorama does not cover is left out."""
    map: Path = Path()
    digest: str = ""
    """Digest of the map's content."""
    made: int = 0
    """Number of images that were made."""
    reused: int = 0
    """Number of images that existed already."""
    reason: str = ""
    """Why the place is rejected, in one word that is counted."""
    detail: str = ""
    """The reason in a sentence."""


class _UnusableError(Exception):
    """Says why a place is rejected: a reason that is counted, and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Maker:
    """Makes images that do not exist yet, and counts new and existing ones."""

    def __init__(self) -> None:
        self.made = 0
        self.reused = 0

    def make(self, path: Path, draw: Callable[[], NDArray[np.uint8]]) -> None:
        """Write the pixels that `draw` returns to `path`, unless that file exists."""
        if path.exists():
            self.reused += 1
            return
        write_image(path, Image.fromarray(draw()))
        self.made += 1


def make_place_images(job: ImageJob, settings: ImageSettings, folder: Path) -> PlaceImages:
    """Make the images of one place that `folder` does not hold yet; the result says what is wrong with the sources."""
    maker = _Maker()
    make_views = _panorama_views if job.is_panorama else _photo_view
    try:
        views = make_views(job, settings, folder / "views", maker)
        path, digest = _map(job, settings, folder / "maps", maker)
    except _UnusableError as error:
        return PlaceImages(job.key, reason=error.reason, detail=error.detail)
    except BadRecord as error:
        return PlaceImages(job.key, reason=error.code, detail=error.reason)
    return PlaceImages(job.key, views, path, digest, maker.made, maker.reused)


def span_of(width: int, height: int, span_of_2_to_1: Span = FULL_SPAN) -> Span:
    """Return the extent of a panorama by its aspect ratio; one wider than 2:1 is a full circle, cut above and below."""
    if abs(width / height / 2 - 1) <= _TWO_TO_ONE:
        return span_of_2_to_1
    return 360.0, min(180.0, 360.0 * height / width)


def view_height(size: int, fov_deg: float, vertical_span_deg: float) -> int:
    """Return the height of the tallest view, at most `size` pixels, that a panorama of this vertical span fills."""
    if vertical_span_deg >= fov_deg:
        return size
    return max(1, int(size * tan(radians(vertical_span_deg / 2)) / tan(radians(fov_deg / 2))))


def is_covered(heading_deg: float, centre_heading_deg: float, fov_deg: float, horizontal_span_deg: float) -> bool:
    """Return whether a panorama covers the whole width of a view."""
    offset = abs((heading_deg - centre_heading_deg + 180) % 360 - 180)
    return horizontal_span_deg >= 360 or offset + fov_deg / 2 <= horizontal_span_deg / 2 + _SLACK_DEG


def turned_map(path: Path, symmetry: Symmetry) -> Path:
    """Return the path of the map `path` under a symmetry."""
    return path if symmetry == IDENTITY else path.with_name(f"{path.stem}-{symmetry.name}{path.suffix}")


def draw_turned(job: tuple[Path, Symmetry]) -> bool:
    """Make the map of `job` under its symmetry unless the file exists. Returns whether it was made."""
    path, symmetry = job
    maker = _Maker()
    maker.make(turned_map(path, symmetry), lambda: symmetry.map(np.asarray(load_image(path))))
    return maker.made == 1


def _photo_view(job: ImageJob, settings: ImageSettings, folder: Path, maker: _Maker) -> dict[str, Path]:
    """The only view of a place whose source is a photo: the photo itself, or its mirrored copy."""
    name = next((point for point in COMPASS_POINTS if compass_to_heading(point) == job.centre_heading_deg), None)
    if name not in settings.headings:
        raise _UnusableError("heading_not_asked", f"{job.ground.name} looks towards {job.centre_heading_deg:g}")
    image = load_image(job.ground, max_pixels=settings.max_pixels, srgb=True)
    if not job.mirrored:
        return {name: job.ground}
    symmetry = Symmetry(0, mirrored=True)
    target = _named(folder, ("view",), job.ground.read_bytes()) / f"{name}-{symmetry.name}.png"
    maker.make(target, lambda: symmetry.view(np.asarray(image)))
    return {name: target}


def _panorama_views(job: ImageJob, settings: ImageSettings, folder: Path, maker: _Maker) -> dict[str, Path]:
    """The views of a panorama towards the compass points of `settings` that it covers."""
    if not job.ground.is_file():
        raise missing_image(job.ground)
    with _checked_open(job.ground) as header:
        width, height = header.size
    if width / height < _LEAST_ASPECT:
        raise _UnusableError("not_a_panorama", f"{job.ground} has {width} x {height} pixels")
    span = settings.span_deg or span_of(width, height, job.span_of_2_to_1)
    centre = (job.centre_heading_deg + settings.heading_offset_deg) % 360
    size = view_height(settings.view_size, settings.fov_deg, span[1]), settings.view_size
    base = _named(folder, ("panorama", size, settings.fov_deg, centre, span), job.ground.read_bytes())
    symmetry = Symmetry(0, job.mirrored)

    @cache
    def panorama() -> NDArray[np.uint8]:
        return np.asarray(load_image(job.ground, max_pixels=settings.max_pixels, srgb=True))

    def draw(heading_deg: float) -> NDArray[np.uint8]:
        view = perspective_view(
            panorama(), heading_deg, size, fov_deg=settings.fov_deg, centre_heading_deg=centre, span_deg=span
        )
        return symmetry.view(view)

    views: dict[str, Path] = {}
    for name in settings.headings:
        heading_deg = compass_to_heading(name)
        if is_covered(heading_deg, centre, settings.fov_deg, span[0]):
            views[name] = base / f"{name}{f'-{symmetry.name}' if job.mirrored else ''}.jpg"
            maker.make(views[name], partial(draw, heading_deg))
    if not views:
        raise _UnusableError("no_view_covered", f"{job.ground} spans {span[0]:g} degrees")
    return views


def _map(job: ImageJob, settings: ImageSettings, folder: Path, maker: _Maker) -> tuple[Path, str]:
    """The map around the camera, stitched from tiles or cut from the satellite image; its file and its digest."""
    if settings.tiles is not None:
        stitched = _stitched(job, settings, settings.tiles)
        base = _named(folder, ("tiles", settings.map_size), stitched.tobytes())
        path = base.with_name(f"{base.name}.png")
        maker.make(path, lambda: _rescaled(Image.fromarray(stitched), settings.map_size))
        return path, base.name
    if job.satellite is None:
        raise _UnusableError("no_satellite_image", "the source publishes none; give tiles=<folder> and zoom=")
    satellite = job.satellite
    if not satellite.is_file():
        raise missing_image(satellite)
    with _checked_open(satellite) as header:
        box = _window(header.size, job)
    base = _named(folder, ("satellite", settings.map_size, box), satellite.read_bytes())
    path = base.with_name(f"{base.name}.png")

    def draw() -> NDArray[np.uint8]:
        whole = load_image(satellite, max_pixels=settings.max_pixels, srgb=True)
        return _rescaled(whole.crop(box), settings.map_size)

    maker.make(path, draw)
    return path, base.name


def _stitched(job: ImageJob, settings: ImageSettings, tiles: Path) -> NDArray[np.uint8]:
    """The tiles around the camera as one image, at their own resolution."""
    if job.zoom is None:
        raise _UnusableError("no_zoom", "the source does not say the zoom of its maps; set zoom=")
    read = tile_folder(tiles, settings.tile_pattern)
    try:
        return image_from_tiles(
            read, job.lat, job.lon, job.zoom, size=settings.stitched_px, tile_size=settings.tile_size
        )
    except MissingTileError as error:
        raise _UnusableError("missing_tile", str(error)) from error
    except (ValueError, OSError) as error:
        raise _UnusableError("broken_image", f"tiles at {job.lat}, {job.lon}: {error}") from error


def _window(size: tuple[int, int], job: ImageJob) -> tuple[int, int, int, int]:
    """The square around the camera. Its side is the same for all places, so that the scale can't identify any."""
    width, height = size
    if max(size) > _MOST_ASPECT_OF_A_MAP * min(size):
        raise _UnusableError(
            "not_a_map",
            f"{job.satellite} has {width} x {height} pixels; a map is square, as it was before a polar transform",
        )
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
    """The pixels of a square image, rescaled to `size` x `size`."""
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS))


def _checked_open(path: Path) -> Image.Image:
    """Open an image without decoding it."""
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _UnusableError("broken_image", f"{path}: {error}") from error


def _named(folder: Path, facts: tuple[object, ...], content: bytes) -> Path:
    """A path below `folder` that is named by a digest of an image's source and of the facts that shape it."""
    digest = hashlib.blake2b(f"{IMAGE_VERSION} {facts!r}\n".encode(), digest_size=16)
    digest.update(content)
    name = digest.hexdigest()
    return folder / name[:2] / name
