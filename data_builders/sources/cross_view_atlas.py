"""Search for the maps of other places that may stand beside a place's own map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data_builders.imagery.place_images import PlaceImages
from data_builders.sources.blocks import PlaceIndex
from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.cross_view_settings import CrossViewSettings
from geotune.geo import metres_per_pixel

ENOUGH_OTHERS = 64
"""A draw is made among at least this many other places, if there are so many."""


class MapAtlas:
    """The maps of some of the places (those of one source and scale), with their coordinates.

    Args:
        places: All places of the build.
        images: The images of each place.
        numbers: The positions in `places` of the places whose maps the atlas holds.
    """

    def __init__(
        self,
        settings: CrossViewSettings,
        places: Sequence[SourcePlace],
        images: Sequence[PlaceImages],
        numbers: Sequence[int],
    ) -> None:
        self.settings = settings
        self.places = places
        self.numbers = np.array(numbers)
        self.index = PlaceIndex.of((places[number].lat, places[number].lon) for number in numbers)
        # Numbered, because an array of digests takes far more memory.
        number_of: dict[str, int] = {}
        self.content = {number: number_of.setdefault(images[number].digest, len(number_of)) for number in numbers}
        self.contents = np.array(list(self.content.values()))

    def others(self, rng: np.random.Generator) -> Callable[[int], NDArray[np.intp]]:
        """A function that returns the numbers of the places whose maps may stand beside that of a given place.

        It samples with `rng` where places are dense, and answers once for consecutive questions about one place.
        """
        nearest_km, farthest_km = self.settings.negative_km

        @lru_cache(maxsize=1)
        def find(number: int) -> NDArray[np.intp]:
            place = self.places[number]
            low_km = max(nearest_km, self._reach_km(place))
            found = self.index.between(place.lat, place.lon, low_km, farthest_km, enough=ENOUGH_OTHERS, rng=rng)
            return self.numbers[found[self.contents[found] != self.content[number]]]

        return find

    def _reach_km(self, place: SourcePlace) -> float:
        """Half the diagonal of a place's map, within which another place's camera stands in it; 0 without a zoom."""
        if place.zoom is None:
            return 0.0
        settings = self.settings
        pixels = settings.stitched_px if settings.tiles else (place.nominal_px or settings.map_size) * place.keep
        return float(metres_per_pixel(place.lat, place.zoom)) * pixels / 2 * 2**0.5 / 1000
