"""The eight exact symmetries of a question: quarter turns of its map, and view and map mirrored together.

A camera that sees what it saw, on a map turned by a quarter, faces another side of that map; mirrored images are
those of the mirrored world. No pixel is interpolated, so labels stay true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotune.geo import compass_to_heading, heading_to_compass
from geotune.imagery.crops import LANDS_AT

_NAME_AT = {cell: name for name, cell in LANDS_AT.items()}


@dataclass(frozen=True, slots=True)
class Symmetry:
    """First mirrored left to right, if so, then the map turned clockwise by `quarters`."""

    quarters: int = 0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """Part of a file name: `r1` is a quarter turn, `m0` mirrored only."""
        return f"{'m' if self.mirrored else 'r'}{self.quarters}"

    def heading(self, name: str) -> str:
        """The compass point (of eight) on the new map that the camera faces."""
        degrees = compass_to_heading(name)
        return heading_to_compass((-degrees if self.mirrored else degrees) + 90.0 * self.quarters, 8)

    def crop(self, name: str) -> str:
        """The crop of the new map that shows what the crop `name` shows of the old one; "full" stays."""
        if name not in LANDS_AT:
            return name
        column, row = LANDS_AT[name]
        column = 2 - column if self.mirrored else column
        for _ in range(self.quarters):
            column, row = 2 - row, column
        return _NAME_AT[column, row]

    def map(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The map (H, W, C) as it is shown."""
        return np.ascontiguousarray(np.rot90(self.view(image), -self.quarters))

    def view(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The ground view (H, W, C) as it is shown."""
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image


IDENTITY = Symmetry()
TURNS = tuple(Symmetry(quarters) for quarters in range(4))
MIRRORS = (IDENTITY, Symmetry(0, True))
ALL = tuple(Symmetry(quarters, mirrored) for mirrored in (False, True) for quarters in range(4))
SYMMETRIES: dict[str, tuple[Symmetry, ...]] = {"none": (IDENTITY,), "turn": TURNS, "mirror": MIRRORS, "both": ALL}
"""The symmetries of each way of augmenting."""
