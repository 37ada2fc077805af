"""A procedural city: what stands at a place, drawn from above and from the ground.

Blocks of buildings stand on a square grid of streets, a plaza on every crossing. The camera stands on the
crossing next to the middle of the map. A ground view along a street shows its own plaza in the foreground, and the
blocks ahead left and ahead right; the map shows the same colours from above. Latitude decides the ground and the
sky, longitude the trim of the walls, so that a photo can be located.

A place has four maps: its own and three of other crossings in the same town (same ground, same palette). Of the
twelve plaza colours four are at the four middles, one each, and the other eight stand in all four maps, once in
every window of three by three crossings: no map can be told from the others without the view.

Units: one unit of length is one pixel of the 96 px map; grids are indexed [row from north, column from west].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotune.imagery.crops import LANDS_AT

Image = NDArray[np.uint8]
Grid = NDArray[np.int64]

CITY_VERSION = "4"
"""Changes whenever an image or a label would: the embedded backbone was trained on one version."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 225, 50),
    "green": (30, 135, 60),
    "cyan": (60, 205, 215),
    "blue": (40, 75, 215),
    "purple": (130, 45, 165),
    "white": (240, 240, 240),
    "pink": (245, 150, 190),
    "brown": (115, 70, 35),
    "lime": (160, 225, 60),
    "black": (25, 25, 25),
}
PLAZA_COLORS = tuple(COLORS)
WALL_COLORS = tuple(COLORS)[:8]
TRIM_COLORS = tuple(COLORS)[:8]

CLIMATES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "gravel": ((95, 95, 105), (120, 130, 150)),
    "meadow": ((120, 150, 110), (120, 170, 215)),
    "clay": ((180, 105, 85), (215, 180, 150)),
    "sand": ((225, 195, 145), (150, 200, 245)),
    "moss": ((70, 105, 75), (175, 195, 200)),
    "snow": ((205, 215, 230), (200, 210, 235)),
}
"""Ground and sky, from the southernmost band of latitude to the northernmost."""

LATITUDE_BANDS = tuple((-60 + 20 * i, -40 + 20 * i) for i in range(len(CLIMATES)))
LONGITUDE_BANDS = tuple((-180 + 45 * i, -135 + 45 * i) for i in range(len(TRIM_COLORS)))

BLOCKS = 6
PITCH = 16
MAP_UNITS = BLOCKS * PITCH
STREET = 6.0
PLAZA_HALF = 4.0
OFF_MIDDLE = 4.0
"""How far south-east of the map's middle the camera stands: a plaza then fills a patch of the embedded backbone."""
EYE = 2.2
WALL_HEIGHT = 9.0
TRIM_FROM = 7.0
MAP_CAST = 10.0
VIEW_CAST = 12.0
"""Spread of the colour casts of whole images: mean colours must not tell which map belongs to a view."""
MARGIN = 3
"""Blocks of city drawn around the map, so that streets go on beyond its edge."""

HEADINGS = {"N": 0.0, "E": 90.0, "S": 180.0, "W": 270.0}


@dataclass(frozen=True)
class Town:
    """One map's worth of city: wall colours (12, 12) and plaza colours (13, 13), as indices into the palettes."""

    walls: Grid
    plazas: Grid
    climate: int
    region: int

    @property
    def center_plaza(self) -> str:
        """Colour of the plaza at the middle of the map."""
        return self.plaza_at(0, 0)

    def plaza_at(self, south: int, east: int) -> str:
        """Colour of the plaza that many crossings south and east of the middle."""
        middle = MARGIN + BLOCKS // 2
        return PLAZA_COLORS[self.plazas[middle + south, middle + east]]

    def plazas_in(self, crop: str) -> dict[str, str]:
        """Colours of the nine plazas in a crop where the map's middle may lie, by position, row by row."""
        column, row = LANDS_AT[crop]
        by_row = sorted(LANDS_AT.items(), key=lambda position: position[1][::-1])
        return {at: self.plaza_at(south - row, east - column) for at, (east, south) in by_row}

    def around(self, south: int = 0, east: int = 0) -> dict[str, tuple[str, str]]:
        """For each heading at a crossing, the walls ahead (left, right)."""
        row, column = MARGIN + BLOCKS // 2 + south, MARGIN + BLOCKS // 2 + east
        nw, ne = WALL_COLORS[self.walls[row - 1, column - 1]], WALL_COLORS[self.walls[row - 1, column]]
        sw, se = WALL_COLORS[self.walls[row, column - 1]], WALL_COLORS[self.walls[row, column]]
        return {"N": (nw, ne), "E": (ne, se), "S": (se, sw), "W": (sw, nw)}


def draw_towns(rng: np.random.Generator, climate: int, region: int) -> tuple[Town, Town, Town, Town]:
    """The town of a place and three others that share everything but the middle plaza and the arrangement."""
    colors = rng.permutation(len(PLAZA_COLORS))
    middles, common = colors[:4], colors[4:]
    towns = [Town(_walls(rng), _plazas(rng, middle, common), climate, region) for middle in middles]
    return towns[0], towns[1], towns[2], towns[3]


def _walls(rng: np.random.Generator) -> Grid:
    """Wall colours in which the four blocks around any crossing differ."""
    side = BLOCKS + 2 * MARGIN
    walls = np.full((side + 1, side + 2), -1)
    for row in range(1, side + 1):
        for column in range(1, side + 1):
            taken = {*walls[row - 1, column - 1 : column + 2], walls[row, column - 1]}
            walls[row, column] = rng.choice([c for c in range(len(WALL_COLORS)) if c not in taken])
    return walls[1:, 1:-1]


def _plazas(rng: np.random.Generator, middle: int, common: NDArray[np.int64]) -> Grid:
    """Plaza colours, repeating every three crossings, with `middle` at the middle."""
    tile = np.concatenate([rng.permutation(common), [middle]]).reshape(3, 3)
    index = (np.arange(BLOCKS + 2 * MARGIN + 1) - (MARGIN + BLOCKS // 2) + 2) % 3
    return tile[np.ix_(index, index)]


def _palette(names: tuple[str, ...]) -> NDArray[np.float32]:
    return np.array([COLORS[name] for name in names], dtype=np.float32)


def _ground(town: Town, east: NDArray[np.floating], south: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colour of the ground at points given in units from the middle of the map: plaza or street, (..., 3)."""
    nearest_row, nearest_column = np.rint(south / PITCH), np.rint(east / PITCH)
    on_plaza = np.maximum(np.abs(south - nearest_row * PITCH), np.abs(east - nearest_column * PITCH)) < PLAZA_HALF
    last = BLOCKS + 2 * MARGIN
    middle = MARGIN + BLOCKS // 2
    rows = np.clip(nearest_row + middle, 0, last).astype(np.int64)
    columns = np.clip(nearest_column + middle, 0, last).astype(np.int64)
    street = np.array(list(CLIMATES.values())[town.climate][0], dtype=np.float32)
    return np.where(on_plaza[..., None], _palette(PLAZA_COLORS)[town.plazas[rows, columns]], street)


def satellite_image(town: Town, rng: np.random.Generator, size: int = MAP_UNITS, noise: float = 4.0) -> Image:
    """The town from above, north up, (size, size, 3)."""
    axis = (np.arange(size) + 0.5) * MAP_UNITS / size - MAP_UNITS / 2 - OFF_MIDDLE
    east, south = np.meshgrid(axis, axis)
    image = _ground(town, east, south)
    on_plaza = np.maximum(np.abs(_to_crossing(south)), np.abs(_to_crossing(east))) < PLAZA_HALF
    built = (np.minimum(np.abs(_to_crossing(south)), np.abs(_to_crossing(east))) > STREET / 2) & ~on_plaza
    offset = MARGIN + BLOCKS // 2
    rows = (np.floor(south / PITCH) + offset).astype(np.int64)
    columns = (np.floor(east / PITCH) + offset).astype(np.int64)
    image = np.where(built[..., None], _palette(WALL_COLORS)[town.walls[rows, columns]], image)
    return _finish(image, rng, noise)


def with_cast(image: Image, rng: np.random.Generator, spread: float) -> Image:
    """An image in another light: one random colour added to all of it."""
    return np.clip(image + rng.normal(0, spread, 3), 0, 255).astype(np.uint8)


def color_balanced(images: list[Image]) -> list[Image]:
    """Images brought to one mean colour, as the tiles of a mosaic are."""
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    shifts = means.mean(axis=0) - means
    return [np.clip(p + s, 0, 255).astype(np.uint8) for p, s in zip(images, shifts, strict=True)]


def _to_crossing(units: NDArray[np.floating]) -> NDArray[np.floating]:
    return units - np.rint(units / PITCH) * PITCH


def panorama(town: Town, rng: np.random.Generator, width: int = 256, noise: float = 4.0) -> Image:
    """Equirectangular image from the middle of the map, north at the centre column, (width / 2, width, 3).

    Every column is a ray: its first wall comes from the slab test against all buildings; each pixel of the column is
    then sky, wall or ground by its elevation.
    """
    height = width // 2
    heading = ((np.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * math.pi
    distance, block, faces_east = _first_walls(heading)

    slope = np.tan(elevation)[:, None]
    z = EYE + slope * distance[None, :]
    _, sky_climate = list(CLIMATES.values())[town.climate]
    sky = np.array(sky_climate, dtype=np.float32)[None, None, :] * (1 - 0.25 * np.sin(np.abs(elevation)))[:, None, None]

    reach = EYE / np.maximum(-slope, 1e-3)
    image = _ground(town, reach * np.sin(heading)[None, :], -reach * np.cos(heading)[None, :])
    walls = _palette(WALL_COLORS)[town.walls.reshape(-1)[block]]
    shade = np.where(faces_east, 0.86, 1.0)[:, None]
    trim = _palette(TRIM_COLORS)[town.region]
    wall = np.where((z >= TRIM_FROM)[..., None], trim, (walls * shade)[None, :, :])
    image = np.where(((z >= 0) & (z < WALL_HEIGHT) & np.isfinite(distance))[..., None], wall, image)
    above = (z >= WALL_HEIGHT) | ((elevation[:, None] >= 0) & ~np.isfinite(distance)[None, :])
    image = np.where(above[..., None], np.broadcast_to(sky, image.shape), image)
    return _finish(image, rng, noise)


def _first_walls(heading: NDArray[np.floating]) -> tuple[NDArray[np.floating], Grid, NDArray[np.bool_]]:
    """Per ray: distance to the first building (inf: none), its flat block index, whether an east or west face."""
    side = BLOCKS + 2 * MARGIN
    low = (np.arange(side) - side // 2) * PITCH + STREET / 2
    high = low + PITCH - STREET
    rows, columns = (axis.reshape(-1) for axis in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    east, south = np.sin(heading)[:, None], -np.cos(heading)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.sort(np.stack([low[columns] / east, high[columns] / east]), axis=0)
        y = np.sort(np.stack([low[rows] / south, high[rows] / south]), axis=0)
    enter, leave = np.maximum(x[0], y[0]), np.minimum(x[1], y[1])
    hit = (enter <= leave) & (enter > 0)
    enter = np.where(hit, enter, np.inf)
    block = enter.argmin(axis=1)
    ray = np.arange(len(heading))
    return enter[ray, block], block, (x[0] > y[0])[ray, block]


def _finish(image: NDArray[np.floating], rng: np.random.Generator, noise: float) -> Image:
    grain = rng.normal(0, noise, image.shape[:2])[..., None]
    return np.clip(image + grain, 0, 255).astype(np.uint8)
