"""Perspective views from equirectangular panoramas.

Headings are degrees clockwise from north, pitch is degrees up from the horizon. `centre_heading_deg` is the heading at
the panorama's center column (0: north is in the middle). Pixel i covers [i, i + 1); its center is i + 0.5.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
"""Horizontal and vertical extent of a panorama in degrees, centered on its center column and on the horizon.

Raw CVUSA panoramas span (308.57, 154.29); those of the common subset are resampled to the full sphere.
"""
FULL_SPAN: Span = (360.0, 180.0)


def perspective_view(
    panorama: NDArray[np.uint8],
    heading_deg: float,
    size: tuple[int, int],
    *,
    fov_deg: float = 90.0,
    pitch_deg: float = 0.0,
    centre_heading_deg: float = 0.0,
    span_deg: Span = FULL_SPAN,
    fill: int = 0,
) -> NDArray[np.uint8]:
    """Return the view of a pinhole camera at the panorama's position, interpolated bilinearly.

    The sampling grid of a view is cached, so that panoramas of the same geometry share one grid.

    Args:
        panorama: Pixels (H, W, C) or (H, W).
        size: Height and width of the view in pixels.
        fov_deg: Horizontal field of view, from edge to edge of the view; the pixels are square.
        span_deg: Extent that the panorama covers.
        fill: Value of the pixels that look beyond the panorama.

    Raises:
        ValueError: `fov_deg` does not lie between 0 and 180 degrees.
    """
    height, width = panorama.shape[:2]
    grid = _grid(height, width, (heading_deg - centre_heading_deg) % 360, pitch_deg, fov_deg, size, span_deg)
    corners, weights, outside = grid
    pixels = panorama.reshape(height * width, -1)
    # Gathering one corner at a time is several times faster than all four at once. The 0.5 makes truncation round.
    blend = np.full((corners.shape[1], pixels.shape[1]), 0.5, np.float32)
    for corner, weight in zip(corners, weights, strict=True):
        blend += pixels.take(corner, axis=0) * weight[:, None]
    view = blend.astype(panorama.dtype)
    if outside is not None:
        view[outside] = fill
    return view.reshape(*size, *panorama.shape[2:])


@lru_cache(maxsize=16)
def _grid(
    height: int,
    width: int,
    yaw_deg: float,
    pitch_deg: float,
    fov_deg: float,
    size: tuple[int, int],
    span_deg: Span,
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_] | None]:
    """Flat indices (4, P) of each view pixel's neighbors, their weights (4, P), and a mask of the pixels beyond."""
    if not 0 < fov_deg < 180:
        raise ValueError(f"fov_deg={fov_deg}: a perspective view spans more than 0 and less than 180 degrees")
    view_height, view_width = size
    half = np.tan(np.radians(fov_deg) / 2)
    right = ((np.arange(view_width) + 0.5) / view_width * 2 - 1) * half
    up = (1 - (np.arange(view_height) + 0.5) / view_height * 2) * half * view_height / view_width
    right, up = np.meshgrid(right, up)
    pitch = np.radians(pitch_deg)
    forward = np.cos(pitch) - up * np.sin(pitch)
    up = np.sin(pitch) + up * np.cos(pitch)
    yaw = np.degrees(np.arctan2(right, forward)) + yaw_deg
    elevation = np.degrees(np.arctan2(up, np.hypot(right, forward)))

    offset = (yaw + 180) % 360 - 180
    horizontal, vertical = span_deg
    x = (offset / horizontal + 0.5) * width - 0.5
    y = (0.5 - elevation / vertical) * height - 0.5
    outside = (np.abs(offset) > horizontal / 2) | (np.abs(elevation) > vertical / 2)

    x0, y0 = np.floor(x), np.floor(y)
    fraction_x, fraction_y = (x - x0).ravel(), (y - y0).ravel()
    corners, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            corners.append(_pixel_index(x0 + dx, y0 + dy, height, width, span_deg).ravel())
            across = fraction_x if dx else 1 - fraction_x
            weights.append(across * (fraction_y if dy else 1 - fraction_y))
    mask = outside.ravel() if outside.any() else None
    return np.stack(corners), np.stack(weights).astype(np.float32), mask


def _pixel_index(
    x: NDArray[np.float64], y: NDArray[np.float64], height: int, width: int, span_deg: Span
) -> NDArray[np.intp]:
    """Flat index of the pixel at column x and row y, each of which may lie one pixel beyond the image."""
    column, row = x.astype(np.intp), y.astype(np.intp)
    if span_deg[0] >= 360:
        if span_deg[1] >= 180:
            # Beyond a pole the image continues with the same row, half a turn away.
            column = np.where((row < 0) | (row >= height), column + width // 2, column)
        column %= width
    return np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
