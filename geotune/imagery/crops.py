"""The nine crops of a map: each covers 2/3 x 2/3 of it and is named by where the map's center lies in the crop."""

from __future__ import annotations

LANDS_AT: dict[str, tuple[int, int]] = {
    "center": (1, 1),
    "left": (0, 1),
    "right": (2, 1),
    "top": (1, 0),
    "bottom": (1, 2),
    "top_left": (0, 0),
    "top_right": (2, 0),
    "bottom_left": (0, 2),
    "bottom_right": (2, 2),
}
"""Cell of the map's center by the name of the crop, as (column, row) of a 3 x 3 grid over the crop.

The window lies on the opposite side of the map: in the crop "left" the center is on the left, so the window is on the
right.
"""
CROPS: tuple[str, ...] = tuple(LANDS_AT)
"""Names of the crops, in the order of the legal answers."""


def _window(length: int, cell: int) -> tuple[int, int]:
    """Start and size of a crop, in pixels along an axis of `length` pixels, whose center of the map lies in `cell`."""
    size = 2 * length // 3
    # All crops have the same size. If each edge were rounded by itself, the size would give away the answer.
    start = (length - size, (length - size) // 2, 0)[cell]
    return start, size


def crop_box(name: str, width: int, height: int) -> tuple[int, int, int, int]:
    """Box (left, top, right, bottom) of a crop, in pixels of a map of `width` x `height` pixels.

    Raises KeyError if `name` is not the name of a crop.
    """
    column, row = LANDS_AT[name]
    left, crop_width = _window(width, column)
    top, crop_height = _window(height, row)
    return left, top, left + crop_width, top + crop_height
