"""The nine crops of a map: 2/3 x 2/3 of it, all of one size, named by where the map's centre lands in them."""

from __future__ import annotations

# Name -> where the map's centre lands, as (column, row) of a 3 x 3 grid. The window moves the other way.
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
CROPS: tuple[str, ...] = tuple(LANDS_AT)


def _window(length: int, cell: int) -> tuple[int, int]:
    """Start and size in pixels of a crop along one axis of `length` pixels."""
    size = 2 * length // 3
    # The size is the same for every cell: rounding each edge by itself would let the size tell the answer.
    start = (length - size, (length - size) // 2, 0)[cell]
    return start, size


def crop_box(name: str, width: int, height: int) -> tuple[int, int, int, int]:
    """The crop's (left, top, right, bottom) in a map of `width` x `height` pixels. KeyError for an unknown name."""
    column, row = LANDS_AT[name]
    left, crop_width = _window(width, column)
    top, crop_height = _window(height, row)
    return left, top, left + crop_width, top + crop_height


def camera_in_crop(name: str, width: int, height: int) -> tuple[float, float]:
    """Where the map's centre lands in the crop: (x, y) as fractions of the crop, within a pixel of 1/4, 1/2 or 3/4."""
    left, top, right, bottom = crop_box(name, width, height)
    return (width / 2 - left) / (right - left), (height / 2 - top) / (bottom - top)
