"""The eight exact symmetries of a cross-view question: quarter turns of the map, and mirroring of view and map.

On a map turned by a quarter, the same ground view faces another direction; mirrored images show a mirrored world. No
pixel is interpolated, so the transformed labels are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotune.geo import compass_to_heading, heading_to_compass
from geotune.imagery.crops import LANDS_AT

_CROP_AT = {cell: name for name, cell in LANDS_AT.items()}


@dataclass(frozen=True, slots=True)
class Symmetry:
    """A transformation of a question: mirror map and view left to right if `mirrored`, then turn the map clockwise.

    quarters: number of quarter turns, 0 to 3.
    """

    quarters: int = 0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """Short name for file names: `r1` is one quarter turn, `m0` mirrors only."""
        return f"{'m' if self.mirrored else 'r'}{self.quarters}"

    def heading(self, name: str) -> str:
        """Compass point (of eight) that the camera faces on the transformed map if it faces `name` on the original."""
        degrees = compass_to_heading(name)
        return heading_to_compass((-degrees if self.mirrored else degrees) + 90.0 * self.quarters, 8)

    def crop(self, name: str) -> str:
        """Name of the crop of the transformed map that shows what the crop `name` shows of the original.

        A name that belongs to no crop, for example "full", is returned unchanged.
        """
        if name not in LANDS_AT:
            return name
        column, row = LANDS_AT[name]
        column = 2 - column if self.mirrored else column
        for _ in range(self.quarters):
            column, row = 2 - row, column
        return _CROP_AT[column, row]

    def map(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transform the map (H, W, C); an odd number of quarter turns swaps H and W."""
        return np.ascontiguousarray(np.rot90(self.view(image), -self.quarters))

    def view(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transform the ground view (H, W, C), which is mirrored but never turned."""
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image


IDENTITY = Symmetry()
"""The symmetry that changes nothing."""
_TURNS = tuple(Symmetry(quarters) for quarters in range(4))
_MIRRORS = (IDENTITY, Symmetry(0, True))
ALL_SYMMETRIES = tuple(Symmetry(quarters, mirrored) for mirrored in (False, True) for quarters in range(4))
SYMMETRIES: dict[str, tuple[Symmetry, ...]] = {
    "none": (IDENTITY,),
    "turn": _TURNS,
    "mirror": _MIRRORS,
    "both": ALL_SYMMETRIES,
}
"""The symmetries that augmentation draws from, by the name of the setting."""
