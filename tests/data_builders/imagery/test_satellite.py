"""Stitching tiles: the right pixels, the 180th meridian, missing tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data_builders.imagery.satellite import MissingTileError, image_from_tiles, tile_folder
from geotune.geo import mercator_tile_xy

ZOOM = 16


def address_tile(zoom: int, x: int, y: int) -> NDArray[np.uint8]:
    """Pixels that hold their own position: column and row modulo 256, and the tile modulo 16."""
    column, row = np.meshgrid(np.arange(256), np.arange(256))
    return np.stack([column, row, np.full_like(column, (x % 16) * 16 + y % 16)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("lat", "lon"), [(41.88, -87.63), (-27.38576305, 153.00024686), (0.001, 0.001)])
@pytest.mark.parametrize("size", [512, 96])
def test_centered_on_the_coordinate(lat: float, lon: float, size: int) -> None:
    image = image_from_tiles(address_tile, lat, lon, ZOOM, size=size)
    assert image.shape == (size, size, 3)
    x, y = (256 * float(value) for value in mercator_tile_xy(lat, lon, ZOOM))
    left, top = round(x - size / 2), round(y - size / 2)
    columns, rows = left + np.arange(size), top + np.arange(size)
    assert np.array_equal(image[..., 0], np.broadcast_to(columns % 256, (size, size)))
    assert np.array_equal(image[..., 1], np.broadcast_to(rows[:, None] % 256, (size, size)))
    assert np.array_equal(image[..., 2], (columns // 256 % 16) * 16 + (rows[:, None] // 256 % 16))
    assert abs(left + size / 2 - x) <= 0.5
    assert abs(top + size / 2 - y) <= 0.5


def test_wraps_at_the_antimeridian() -> None:
    asked = set()

    def read(zoom: int, x: int, y: int) -> NDArray[np.uint8]:
        asked.add(x)
        return address_tile(zoom, x, y)

    image_from_tiles(read, 10, 179.9999, 4)
    assert asked == {14, 15, 0} or asked == {15, 0}


def test_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingTileError, match="beyond the web-mercator map"):
        image_from_tiles(address_tile, 85.05, 0, 3)
    with pytest.raises(MissingTileError, match="16/"):
        image_from_tiles(tile_folder(tmp_path), 41.88, -87.63, ZOOM)
    with pytest.raises(ValueError, match="not 512 px RGB"):
        image_from_tiles(address_tile, 41.88, -87.63, ZOOM, tile_size=512)


def test_reads_a_folder_of_tiles(tmp_path: Path) -> None:
    x, y = (int(value) for value in mercator_tile_xy(41.88, -87.63, ZOOM))
    for column in range(x - 2, x + 3):
        for row in range(y - 2, y + 3):
            path = tmp_path / f"{ZOOM}_{column}_{row}.png"
            Image.fromarray(address_tile(ZOOM, column, row)).save(path)
    image = image_from_tiles(tile_folder(tmp_path, "{zoom}_{x}_{y}.png"), 41.88, -87.63, ZOOM)
    assert np.array_equal(image, image_from_tiles(address_tile, 41.88, -87.63, ZOOM))
