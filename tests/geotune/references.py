"""Slow and obvious twins of what the project computes, for tests to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from geotune.imagery.crops import crop_box


def tree_tokens(paths: Iterable[Sequence[int]], sizes: np.ndarray) -> int:
    """Number of tokens in the prefix tree of `paths`, each a sequence of segment numbers.

    sizes: number of tokens of each segment (segments,). This is the slow twin of `TreePlan.cost`.
    """
    seen: set[tuple[int, ...]] = set()
    total = 0
    for path in paths:
        prefix: tuple[int, ...] = ()
        for segment in path:
            prefix = (*prefix, segment)
            if prefix not in seen:
                seen.add(prefix)
                total += int(sizes[segment])
    return total


def camera_in_crop(name: str, width: int, height: int) -> tuple[float, float]:
    """Position of the map's center, where the camera stands, in a crop: (x, y) as fractions of the crop.

    Each is 1/4, 1/2 or 3/4, up to a pixel. Raises KeyError if `name` is not the name of a crop.
    """
    left, top, right, bottom = crop_box(name, width, height)
    return (width / 2 - left) / (right - left), (height / 2 - top) / (bottom - top)
