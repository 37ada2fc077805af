"""The images of an exercise and the material that it is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_builders.synthetic.city import HEADINGS, Town
from data_builders.synthetic.places import FULL, Place, map_name
from geotune.imagery.crops import CROPS, LANDS_AT

SceneImage = tuple[int, str]
"""File name of an image, after 0 for the place that the maps show or 1 for the place that the view shows."""


@dataclass(frozen=True)
class Scene:
    """The images of a record: at most one view, then maps, which show a different place than the view."""

    heading: str | None = None
    """Heading of the view; None if there is no view."""
    crop: str | None = None
    """Crop that the maps show, or `full`; None if there are no maps."""
    towns: tuple[int, ...] = ()
    """Index of the town of each map, in order."""

    @property
    def images(self) -> tuple[SceneImage, ...]:
        """The images in order."""
        views = () if self.heading is None else ((1, f"{self.heading}.png"),)
        return (*views, *((0, map_name(town, self.crop or FULL)) for town in self.towns))

    @property
    def one_map(self) -> bool:
        """Whether the place's own map is the only map."""
        return self.towns == (0,)

    @property
    def cropped(self) -> bool:
        """Whether the maps are crops."""
        return self.crop not in (None, FULL)


@dataclass(frozen=True)
class Context:
    """The material of an exercise: a place for its maps, another place for its view, and a random stream."""

    place: Place
    """The place that the maps show."""
    other: Place
    """The place that the view shows."""
    rng: np.random.Generator
    beside: bool = True
    """Whether a view and maps may stand in one record."""

    @property
    def town(self) -> Town:
        """The own town of the place that the maps show."""
        return self.place.towns[0]

    def pick(self, options: Sequence[str]) -> str:
        """Draw one of `options`."""
        return options[int(self.rng.integers(len(options)))]

    def pick_several(self, options: Sequence[str], count: int) -> list[str]:
        """Draw `count` of `options` without replacement, in random order."""
        return [options[int(i)] for i in self.rng.permutation(len(options))[:count]]

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.rng.random() < probability)

    def degrees(self, most: int) -> float:
        """Draw degrees between -`most` and `most`: whole ones half of the time, else with one decimal."""
        tenths = int(self.rng.integers(-10 * most, 10 * most + 1))
        return float(round(tenths / 10)) if self.chance(0.5) else tenths / 10

    def order(self) -> tuple[int, ...]:
        """Draw an order of the four towns."""
        return tuple(int(i) for i in self.rng.permutation(4))

    def offset(self, crop: str, at: str) -> tuple[int, int]:
        """Crossings (south, east) from the map's camera to the position `at` of a crop."""
        (column, row), (middle_column, middle_row) = LANDS_AT[at], LANDS_AT[crop]
        return row - middle_row, column - middle_column

    def scene(self, skill: str) -> Scene:
        """Draw the images for a skill; most scenes begin with a view, as the tasks begin with the photo."""
        # The skills that show maps, with the probability of a full map.
        full = {"around": 0.4, "find": 0.25, "list_walls": 0.3, "list_plazas": 0.0, "which_map": 0.0, "centers": 1.0}
        if skill in ("view", "ground"):
            towns = ((), (0,), self.order())[int(self.rng.choice(3, p=[0.25, 0.5, 0.25]))] if self.beside else ()
            crop = self.pick((FULL, *CROPS)) if towns else None
            return Scene(self.pick(tuple(HEADINGS)), crop, towns)
        if skill not in full:
            return Scene()
        heading = self.pick(tuple(HEADINGS)) if self.beside and self.chance(0.75) else None
        crop = FULL if self.chance(full[skill]) and self.beside else self.pick(CROPS)
        return Scene(heading, crop, self.order() if skill in ("centers", "which_map") else (0,))
