"""Where the places of a procedural city lie, and everything that is drawn of one of them.

Places are a pure function of (seed, split, index). The globe is cut into cells of a tenth of a degree, each of which
belongs to one split, and no cell is used twice: places of different splits never overlap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from data_builders.imagery.panorama import perspective_view
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
FULL = "full"


def map_name(town: int, crop: str) -> str:
    """File of one of a place's satellite images or crops."""
    return f"map{town}.png" if crop == FULL else f"map{town}_{crop}.png"


@dataclass(frozen=True)
class Place:
    """A camera on a crossing: its coordinates and its four towns (its own first, then three of the neighbourhood)."""

    seed: int
    split: str
    index: int
    lat: float
    lon: float

    @cached_property
    def towns(self) -> tuple[Town, Town, Town, Town]:
        """What stands there, and on three other crossings of the same town."""
        return draw_towns(self.rng("towns"), self.climate, self.region)

    @property
    def climate(self) -> int:
        """Index of the band of latitude."""
        return next(i for i, (low, high) in enumerate(LATITUDE_BANDS) if low <= self.lat < high)

    @property
    def region(self) -> int:
        """Index of the band of longitude."""
        return next(i for i, (low, high) in enumerate(LONGITUDE_BANDS) if low <= self.lon < high)

    @property
    def ground(self) -> str:
        """What the ground is made of here."""
        return tuple(CLIMATES)[self.climate]

    @property
    def trim(self) -> str:
        """Colour of the walls' upper edge here."""
        return TRIM_COLORS[self.region]

    @property
    def name(self) -> str:
        """What tells it from every other place of any seed or split."""
        return f"{self.split}_{self.seed}_{self.index:05d}"

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that one more question changes no image."""
        key = int.from_bytes(purpose.encode()[:8].ljust(8), "big")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), self.index, key])

    def views(self, size: int) -> dict[str, Image]:
        """The four 90-degree ground views, (size, size, 3) each."""
        rng = self.rng("ground")
        image = panorama(self.towns[0], rng, width=4 * size)
        views = {name: perspective_view(image, degrees, (size, size)) for name, degrees in HEADINGS.items()}
        return {name: with_cast(view, rng, VIEW_CAST) for name, view in views.items()}

    def maps(self, size: int = MAP_UNITS) -> list[Image]:
        """The four north-up satellite images, (size, size, 3) each, the place's own first."""
        rng = self.rng("maps")
        drawn = color_balanced([satellite_image(town, rng, size) for town in self.towns])
        return [with_cast(image, rng, MAP_CAST) for image in drawn]

    def images(self, view_size: int, map_size: int) -> dict[str, Image]:
        """All 44 images by file name: the views, the four maps, and the nine crops of each."""
        images = {f"{name}.png": view for name, view in self.views(view_size).items()}
        for town, image in enumerate(self.maps(map_size)):
            images[map_name(town, FULL)] = image
            for crop in CROPS:
                left, top, right, bottom = crop_box(crop, map_size, map_size)
                images[map_name(town, crop)] = image[top:bottom, left:right]
        return images


def draw_places(seed: int, split: str) -> Iterator[Place]:
    """The places of a split, one after another, without end."""
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    rows, columns = (round((bands[-1][1] - bands[0][0]) / CELL_DEG) for bands in (LATITUDE_BANDS, LONGITUDE_BANDS))
    used: set[tuple[int, int]] = set()
    while True:
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        # The middle half of a cell keeps neighbours kilometres apart.
        inside = rng.uniform(0.25, 0.75, size=2)
        if (row + 2 * column) % len(SPLITS) != SPLITS.index(split) or (row, column) in used:
            continue
        used.add((row, column))
        lat = LATITUDE_BANDS[0][0] + (row + inside[0]) * CELL_DEG
        lon = LONGITUDE_BANDS[0][0] + (column + inside[1]) * CELL_DEG
        yield Place(seed, split, len(used) - 1, round(float(lat), 6), round(float(lon), 6))


def place_folder(images: Path, place: Place, view_size: int, map_size: int) -> Path:
    """Where a place's images lie: the path names all that they depend on, so that a rebuild can reuse them."""
    return images / f"city{CITY_VERSION}_{view_size}_{map_size}" / place.name


def write_images(images: dict[str, Image], folder: Path) -> int:
    """Write those that are not there yet; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in images if not (folder / name).exists()]
    for name in missing:
        temporary = folder / f".{name}.{os.getpid()}"
        PILImage.fromarray(images[name]).save(temporary, format="PNG", compress_level=1)
        temporary.replace(folder / name)
    return len(missing)
