"""Stitches web-mercator tiles into one north-up image that is centered on a coordinate."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotune.geo import mercator_tile_xy
from geotune.system.images import load_image

TileReader = Callable[[int, int, int], NDArray[np.uint8]]
"""Maps (zoom, x, y) to the tile's pixels (tile_size, tile_size, 3)."""


class MissingTileError(LookupError):
    """Names a tile that an image needs and that does not exist."""


def image_from_tiles(
    read_tile: TileReader, lat: float, lon: float, zoom: int, *, size: int = 512, tile_size: int = 256
) -> NDArray[np.uint8]:
    """Return the image (size, size, 3) around (lat, lon), north up, at the tiles' own resolution.

    Pixels are copied without interpolation, so the coordinate lies within half a pixel of the image's center. The tiles
    wrap at the 180th meridian.

    Raises:
        MissingTileError: `read_tile` has no tile, or the window leaves the map at a pole.
        ValueError: A tile is not `tile_size` x `tile_size` RGB.
    """
    tiles = 2**zoom
    x, y = (float(value) * tile_size for value in mercator_tile_xy(lat, lon, zoom))
    left, top = round(x - size / 2), round(y - size / 2)
    image = np.empty((size, size, 3), np.uint8)
    for row in range(math.floor(top / tile_size), (top + size - 1) // tile_size + 1):
        if not 0 <= row < tiles:
            raise MissingTileError(f"({lat}, {lon}) at zoom {zoom}: {size} px reach beyond the web-mercator map")
        for column in range(left // tile_size, (left + size - 1) // tile_size + 1):
            tile = read_tile(zoom, column % tiles, row)
            if tile.shape != (tile_size, tile_size, 3):
                raise ValueError(f"tile {zoom}/{column % tiles}/{row} has shape {tile.shape}, not {tile_size} px RGB")
            # The tile's top left corner in the image, then the part of the tile that lies inside the image.
            tile_left, tile_top = column * tile_size - left, row * tile_size - top
            x0, x1 = max(tile_left, 0), min(tile_left + tile_size, size)
            y0, y1 = max(tile_top, 0), min(tile_top + tile_size, size)
            image[y0:y1, x0:x1] = tile[y0 - tile_top : y1 - tile_top, x0 - tile_left : x1 - tile_left]
    return image


def tile_folder(root: str | Path, pattern: str = "{zoom}/{x}/{y}.png") -> TileReader:
    """Return a reader of the tiles that are files under `root`, named by `pattern` (fields zoom, x, y).

    The reader raises MissingTileError for a file that does not exist, and BadRecord for one that can't be read.
    """
    base = Path(root)

    def read(zoom: int, x: int, y: int) -> NDArray[np.uint8]:
        path = base / pattern.format(zoom=zoom, x=x, y=y)
        if not path.is_file():
            raise MissingTileError(f"no tile {path}")
        return np.asarray(load_image(path, srgb=True))

    return read
