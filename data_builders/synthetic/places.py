"""Where the places of a procedural city lie, and everything that is drawn of one of them.

Places are a pure function of (seed, split, index). The globe is cut into cells of a tenth of a degree, each of which
belongs to one split, and no cell is used twice: places of different splits never overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_builders.imagery.panorama import perspective_view
from data_builders.synthetic.city import (
    CLIMATES,
    HEADINGS,
    LATITUDE_BANDS,
    LONGITUDE_BANDS,
    MAP_UNITS,
    TRIM_COLORS,
    Image,
    Town,
    draw_towns,
    panorama,
    satellite_image,
)

SPLITS = ("train", "test", "validation", "pretrain")
CELL_DEG = 0.1


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

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that one more question changes no picture."""
        key = int.from_bytes(purpose.encode()[:8].ljust(8), "big")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), self.index, key])

    def views(self, size: int) -> dict[str, Image]:
        """The four 90-degree ground views, (size, size, 3) each."""
        picture = panorama(self.towns[0], self.rng("ground"), width=4 * size)
        return {name: perspective_view(picture, degrees, (size, size)) for name, degrees in HEADINGS.items()}

    def maps(self, size: int = MAP_UNITS) -> list[Image]:
        """The four north-up satellite images, (size, size, 3) each, the place's own first."""
        rng = self.rng("maps")
        return [satellite_image(town, rng, size) for town in self.towns]


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
