"""The places of a procedural city: where they lie, and all images of each.

A place is a pure function of (seed, split, index). The globe is divided into cells of a tenth of a degree. Each cell
belongs to one split and is used at most once, so that places of different splits never overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from data_builders.imagery.panorama import perspective_view
from data_builders.imagery.writing import write_image
from data_builders.synthetic.city import (
    CITY_VERSION,
    CLIMATES,
    HEADINGS,
    LATITUDE_BANDS,
    LONGITUDE_BANDS,
    MAP_CAST,
    MAP_UNITS,
    TRIM_COLORS,
    VIEW_CAST,
    Image,
    Town,
    color_balanced,
    draw_towns,
    panorama,
    satellite_image,
    with_cast,
)
from geotune.imagery.crops import CROPS, crop_box

SPLITS = ("train", "test", "validation", "pretrain")
CELL_DEG = 0.1
"""Side of a cell."""
FULL = "full"
"""Stands for a whole map where a crop could be named."""


def map_name(town: int, crop: str) -> str:
    """File name of the map of a town, by its index, or of a crop of that map."""
    return f"map{town}.png" if crop == FULL else f"map{town}_{crop}.png"


@dataclass(frozen=True)
class Place:
    """A camera on a crossing, with its coordinates and its four towns: its own and three of the neighborhood."""

    seed: int
    split: str
    index: int
    lat: float
    lon: float

    @cached_property
    def towns(self) -> tuple[Town, Town, Town, Town]:
        """The town around the camera, then those around three other crossings."""
        return draw_towns(self.rng("towns"), self.climate, self.region)

    @property
    def climate(self) -> int:
        """Index of the latitude band, which is that of the climate in `CLIMATES`."""
        return next(i for i, (low, high) in enumerate(LATITUDE_BANDS) if low <= self.lat < high)

    @property
    def region(self) -> int:
        """Index of the longitude band, which is that of the trim in `TRIM_COLORS`."""
        return next(i for i, (low, high) in enumerate(LONGITUDE_BANDS) if low <= self.lon < high)

    @property
    def ground(self) -> str:
        """Name of the ground at this latitude."""
        return tuple(CLIMATES)[self.climate]

    @property
    def trim(self) -> str:
        """Name of the color of the walls' upper edge at this longitude."""
        return TRIM_COLORS[self.region]

    @property
    def name(self) -> str:
        """Name that is unique over all seeds and splits."""
        return f"{self.split}_{self.seed}_{self.index:05d}"

    def group(self, source: str) -> str:
        """The `place` of this place's samples in the dataset `source`: the unit of grouping and splitting."""
        return f"{source}/{self.lat:.6f},{self.lon:.6f}"

    def rng(self, purpose: str) -> np.random.Generator:
        """A separate random stream for each purpose, so that an additional question changes no image."""
        key = int.from_bytes(purpose.encode()[:8].ljust(8), "big")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), self.index, key])

    def views(self, size: int) -> dict[str, Image]:
        """Draw the four 90-degree ground views by heading, (size, size, 3) each."""
        rng = self.rng("ground")
        image = panorama(self.towns[0], rng, width=4 * size)
        views = {name: perspective_view(image, degrees, (size, size)) for name, degrees in HEADINGS.items()}
        return {name: with_cast(view, rng, VIEW_CAST) for name, view in views.items()}

    def maps(self, size: int = MAP_UNITS) -> list[Image]:
        """Draw the four satellite images, north up, (size, size, 3) each, the place's own first."""
        rng = self.rng("maps")
        drawn = color_balanced([satellite_image(town, rng, size) for town in self.towns])
        return [with_cast(image, rng, MAP_CAST) for image in drawn]

    def images(self, view_size: int, map_size: int, *, maps: bool = True) -> dict[str, Image]:
        """Draw the images by file name: four views and, with `maps`, four maps and the nine crops of each map."""
        images = {f"{name}.png": view for name, view in self.views(view_size).items()}
        for town, image in enumerate(self.maps(map_size) if maps else ()):
            images[map_name(town, FULL)] = image
            for crop in CROPS:
                left, top, right, bottom = crop_box(crop, map_size, map_size)
                images[map_name(town, crop)] = image[top:bottom, left:right]
        return images


def draw_places(seed: int, split: str) -> Iterator[Place]:
    """Yield the places of a split in order, without end."""
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    rows, columns = (round((bands[-1][1] - bands[0][0]) / CELL_DEG) for bands in (LATITUDE_BANDS, LONGITUDE_BANDS))
    used: set[tuple[int, int]] = set()
    while True:
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        # Places lie in the middle half of their cell, which keeps neighbors kilometers apart.
        inside = rng.uniform(0.25, 0.75, size=2)
        if (row + 2 * column) % len(SPLITS) != SPLITS.index(split) or (row, column) in used:
            continue
        used.add((row, column))
        lat = LATITUDE_BANDS[0][0] + (row + inside[0]) * CELL_DEG
        lon = LONGITUDE_BANDS[0][0] + (column + inside[1]) * CELL_DEG
        yield Place(seed, split, len(used) - 1, round(float(lat), 6), round(float(lon), 6))


def place_folder(images: Path, place: Place, view_size: int, map_size: int) -> Path:
    """The folder of a place's images. Its path names all that they depend on, so that a rebuild can reuse them."""
    return images / f"city{CITY_VERSION}_{view_size}_{map_size}" / place.name


def write_images(images: dict[str, Image], folder: Path) -> int:
    """Write the images that `folder` does not hold yet. Returns their number."""
    missing = [name for name in images if not (folder / name).exists()]
    for name in missing:
        write_image(folder / name, PILImage.fromarray(images[name]))
    return len(missing)
