"""A procedural city: the layout of a town, drawn from above and from the ground.

Blocks of buildings stand on a square grid of streets with a plaza on every crossing. The camera stands on the
crossing next to the middle of the map. A ground view along a street shows the camera's plaza in the foreground and the
blocks ahead on the left and on the right; the map shows the same colors from above. Latitude decides the colors of the
ground and the sky, and longitude decides the trim of the walls, so that a photo can be located.

A place has four maps: its own and three of other crossings in the same town (same ground, same palette). Of the
twelve plaza colors, four stand at the four maps' cameras, one each. The other eight stand in all four maps, once in
every window of three by three crossings, so that no map can be told from the others without the view.

Units: one unit of length is one pixel of the 96 px map; grids are indexed [row from north, column from west].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotune.imagery.crops import LANDS_AT

Image = NDArray[np.uint8]
CityGrid = NDArray[np.int64]

CITY_VERSION = 7
"""Increase it when an image or a text would change: the embedded backbone was trained on one version."""

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
"""Colors of the ground and the sky by climate, from the southernmost band of latitude to the northernmost."""

LATITUDE_BANDS = tuple((-60 + 20 * i, -40 + 20 * i) for i in range(len(CLIMATES)))
LONGITUDE_BANDS = tuple((-180 + 45 * i, -135 + 45 * i) for i in range(len(TRIM_COLORS)))

BLOCKS = 6
"""Blocks along a side of the map."""
PITCH = 16
"""Distance between two crossings."""
MAP_UNITS = BLOCKS * PITCH
STREET = 6.0
"""Width of a street."""
PLAZA_HALF = 4.0
"""Half the side of a plaza."""
OFF_MIDDLE = 4.0
"""Distance of the camera south and east of the map's middle: a plaza then fills a patch of the embedded backbone."""
EYE = 2.2
"""Height of the camera."""
WALL_HEIGHT = 9.0
TRIM_FROM = 7.0
"""Height at which the trim of a wall begins."""
MAP_CAST = 10.0
VIEW_CAST = 12.0
"""Spread of the color casts of maps and of views: mean colors must not tell which map belongs to a view."""
MARGIN = 3
"""Blocks of city around the map, so that streets continue beyond its edge."""
SIDE = BLOCKS + 2 * MARGIN
"""Blocks along a side of the city that is drawn."""
MIDDLE = MARGIN + BLOCKS // 2
"""Row and column of the camera's plaza in its grid, and of the block south-east of the camera in the grid of walls."""

HEADINGS = {"N": 0.0, "E": 90.0, "S": 180.0, "W": 270.0}


@dataclass(frozen=True)
class Town:
    """The part of the city that one map shows, with a margin.

    Wall colors (12, 12) and plaza colors (13, 13) are indices into `WALL_COLORS` and `PLAZA_COLORS`.
    """

    walls: CityGrid
    plazas: CityGrid
    climate: int
    """Index into `CLIMATES`."""
    region: int
    """Index into `TRIM_COLORS`."""

    @property
    def center_plaza(self) -> str:
        """Color of the plaza at the camera, next to the middle of the map."""
        return self.plaza_at(0, 0)

    def plaza_at(self, south: int, east: int) -> str:
        """Color of the plaza `south` and `east` crossings from the camera."""
        return PLAZA_COLORS[self.plazas[MIDDLE + south, MIDDLE + east]]

    def plazas_in(self, crop: str) -> dict[str, str]:
        """Colors of a crop's nine plazas at which a map's camera may stand, by position, row by row."""
        column, row = LANDS_AT[crop]
        by_row = sorted(LANDS_AT.items(), key=lambda position: position[1][::-1])
        return {at: self.plaza_at(south - row, east - column) for at, (east, south) in by_row}

    def around(self, south: int = 0, east: int = 0) -> dict[str, tuple[str, str]]:
        """The colors of the walls ahead (left, right) by heading, at the crossing `south` and `east` of the camera."""
        row, column = MIDDLE + south, MIDDLE + east
        nw, ne = WALL_COLORS[self.walls[row - 1, column - 1]], WALL_COLORS[self.walls[row - 1, column]]
        sw, se = WALL_COLORS[self.walls[row, column - 1]], WALL_COLORS[self.walls[row, column]]
        return {"N": (nw, ne), "E": (ne, se), "S": (se, sw), "W": (sw, nw)}


def draw_towns(rng: np.random.Generator, climate: int, region: int) -> tuple[Town, Town, Town, Town]:
    """Draw the town of a place and three others that differ in the center plaza and the arrangement only."""
    colors = rng.permutation(len(PLAZA_COLORS))
    centers, common = colors[:4], colors[4:]
    towns = [Town(_walls(rng), _plazas(rng, center, common), climate, region) for center in centers]
    return towns[0], towns[1], towns[2], towns[3]


def _walls(rng: np.random.Generator) -> CityGrid:
    """Draw wall colors such that the four blocks around any crossing differ."""
    walls = np.full((SIDE + 1, SIDE + 2), -1)
    for row in range(1, SIDE + 1):
        for column in range(1, SIDE + 1):
            taken = {*walls[row - 1, column - 1 : column + 2], walls[row, column - 1]}
            walls[row, column] = rng.choice([c for c in range(len(WALL_COLORS)) if c not in taken])
    return walls[1:, 1:-1]


def _plazas(rng: np.random.Generator, center: int, common: NDArray[np.int64]) -> CityGrid:
    """Draw plaza colors that repeat every three crossings, with `center` at the camera's crossing."""
    tile = np.concatenate([rng.permutation(common), [center]]).reshape(3, 3)
    index = (np.arange(SIDE + 1) - MIDDLE + 2) % 3
    return tile[np.ix_(index, index)]


def _palette(names: tuple[str, ...]) -> NDArray[np.float32]:
    """The RGB values of named colors, (N, 3)."""
    return np.array([COLORS[name] for name in names], dtype=np.float32)


def _ground(town: Town, east: NDArray[np.floating], south: NDArray[np.floating]) -> NDArray[np.float32]:
    """Color of the ground, plaza or street, (..., 3), at points (...) given in units from the camera's crossing."""
    nearest_row, nearest_column = np.rint(south / PITCH), np.rint(east / PITCH)
    on_plaza = np.maximum(np.abs(south - nearest_row * PITCH), np.abs(east - nearest_column * PITCH)) < PLAZA_HALF
    rows = np.clip(nearest_row + MIDDLE, 0, SIDE).astype(np.int64)
    columns = np.clip(nearest_column + MIDDLE, 0, SIDE).astype(np.int64)
    street = np.array(list(CLIMATES.values())[town.climate][0], dtype=np.float32)
    return np.where(on_plaza[..., None], _palette(PLAZA_COLORS)[town.plazas[rows, columns]], street)


def satellite_image(town: Town, rng: np.random.Generator, size: int = MAP_UNITS, noise: float = 4.0) -> Image:
    """Draw the town from above, north up, (size, size, 3)."""
    axis = (np.arange(size) + 0.5) * MAP_UNITS / size - MAP_UNITS / 2 - OFF_MIDDLE
    east, south = np.meshgrid(axis, axis)
    image = _ground(town, east, south)
    on_plaza = np.maximum(np.abs(_to_crossing(south)), np.abs(_to_crossing(east))) < PLAZA_HALF
    built = (np.minimum(np.abs(_to_crossing(south)), np.abs(_to_crossing(east))) > STREET / 2) & ~on_plaza
    rows = (np.floor(south / PITCH) + MIDDLE).astype(np.int64)
    columns = (np.floor(east / PITCH) + MIDDLE).astype(np.int64)
    image = np.where(built[..., None], _palette(WALL_COLORS)[town.walls[rows, columns]], image)
    return _finish(image, rng, noise)


def with_cast(image: Image, rng: np.random.Generator, spread: float) -> Image:
    """Add one random color, of standard deviation `spread`, to all pixels of an image, as a change of light does."""
    return np.clip(image + rng.normal(0, spread, 3), 0, 255).astype(np.uint8)


def color_balanced(images: list[Image]) -> list[Image]:
    """Shift the images to one mean color, as the tiles of a satellite mosaic are balanced."""
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    shifts = means.mean(axis=0) - means
    return [np.clip(image + shift, 0, 255).astype(np.uint8) for image, shift in zip(images, shifts, strict=True)]


def _to_crossing(units: NDArray[np.floating]) -> NDArray[np.floating]:
    """Signed distance along one axis to the nearest crossing."""
    return units - np.rint(units / PITCH) * PITCH


def panorama(town: Town, rng: np.random.Generator, width: int = 256, noise: float = 4.0) -> Image:
    """Draw the equirectangular image at the camera, north at the center column, (width / 2, width, 3).

    Every column is a ray. The slab test against all buildings finds its first wall; each pixel of the column is then
    sky, wall or ground, depending on its elevation. The sun stands overhead: if some faces lay in the shade, the views
    along the streets from north to south would differ from the others in more than the town, and compress otherwise.
    """
    height = width // 2
    heading = ((np.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * math.pi
    distance, block = _first_walls(heading)

    slope = np.tan(elevation)[:, None]
    z = EYE + slope * distance[None, :]
    _, sky_color = list(CLIMATES.values())[town.climate]
    sky = np.array(sky_color, dtype=np.float32)[None, None, :] * (1 - 0.25 * np.sin(np.abs(elevation)))[:, None, None]

    reach = EYE / np.maximum(-slope, 1e-3)
    image = _ground(town, reach * np.sin(heading)[None, :], -reach * np.cos(heading)[None, :])
    walls = _palette(WALL_COLORS)[town.walls.reshape(-1)[block]]
    trim = _palette(TRIM_COLORS)[town.region]
    wall = np.where((z >= TRIM_FROM)[..., None], trim, walls[None, :, :])
    image = np.where(((z >= 0) & (z < WALL_HEIGHT) & np.isfinite(distance))[..., None], wall, image)
    above = (z >= WALL_HEIGHT) | ((elevation[:, None] >= 0) & ~np.isfinite(distance)[None, :])
    image = np.where(above[..., None], np.broadcast_to(sky, image.shape), image)
    return _finish(image, rng, noise)


def _first_walls(heading: NDArray[np.floating]) -> tuple[NDArray[np.floating], CityGrid]:
    """Per ray (R,): distance to the first building (inf: none) and its flat block index."""
    low = (np.arange(SIDE) - SIDE // 2) * PITCH + STREET / 2
    high = low + PITCH - STREET
    rows, columns = (axis.reshape(-1) for axis in np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"))
    east, south = np.sin(heading)[:, None], -np.cos(heading)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.sort(np.stack([low[columns] / east, high[columns] / east]), axis=0)
        y = np.sort(np.stack([low[rows] / south, high[rows] / south]), axis=0)
    enter, leave = np.maximum(x[0], y[0]), np.minimum(x[1], y[1])
    hit = (enter <= leave) & (enter > 0)
    enter = np.where(hit, enter, np.inf)
    block = enter.argmin(axis=1)
    ray = np.arange(len(heading))
    return enter[ray, block], block


def _finish(image: NDArray[np.floating], rng: np.random.Generator, noise: float) -> Image:
    """Add gray noise of standard deviation `noise` and round to 8 bits."""
    grain = rng.normal(0, noise, image.shape[:2])[..., None]
    return np.clip(image + grain, 0, 255).astype(np.uint8)
