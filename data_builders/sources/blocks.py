"""Splits of places by blocks of the earth's surface, and the search for places by distance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from geotune.geo import EARTH_RADIUS_KM, haversine_km

_MARGIN = 1.001
"""Factor on a search radius, so that rounding leaves no place out."""
_SAMPLED = 1024
"""Number of places that are sampled before all places of a band are searched."""


@dataclass(frozen=True)
class Blocks:
    """The earth cut into blocks; the seed alone decides which blocks are held out.

    A place falls on the same side in every source and every build. The training places of one source are therefore
    farther than `guard_km` from every held-out place of any source that is built with the same blocks.
    """

    block_km: float
    """Side of a block in km."""
    guard_km: float
    """Largest distance in km to a held-out block at which a place belongs to neither side."""
    test_share: float
    """Share of the blocks that is held out."""
    seed: int
    _known: dict[tuple[int, int], bool] = field(default_factory=dict, compare=False, repr=False)

    def split(self, lat: float, lon: float) -> str:
        """The side of a place: `test` in a held-out block, `guard` within `guard_km` of one, `train` elsewhere."""
        row = self._row(lat)
        if self._held_out(row, self._column(row, lon)):
            return "test"
        return "guard" if self._near_held_out(lat, lon) else "train"

    def _near_held_out(self, lat: float, lon: float) -> bool:
        reach = self.guard_km * _MARGIN / EARTH_RADIUS_KM
        around = math.degrees(reach)
        sine = math.sin(min(reach, math.pi / 2)) / max(math.cos(math.radians(lat)), 1e-12)
        # If the circle contains a pole, every meridian is near.
        beside = math.degrees(math.asin(sine)) if sine < 1 else 180.0
        for row in range(self._row(max(lat - around, -90.0)), self._row(min(lat + around, 90.0)) + 1):
            columns = self._columns(row)
            first, last = (math.floor((lon + side + 180) / 360 * columns) for side in (-beside, beside))
            if any(self._held_out(row, column % columns) for column in range(first, min(last, first + columns) + 1)):
                return True
        return False

    @property
    def _height_deg(self) -> float:
        return math.degrees(self.block_km / EARTH_RADIUS_KM)

    def _row(self, lat: float) -> int:
        return math.floor((lat + 90.0) / self._height_deg)

    def _columns(self, row: int) -> int:
        middle = min((row + 0.5) * self._height_deg - 90.0, 90.0)
        return max(1, round(360.0 * math.cos(math.radians(middle)) / self._height_deg))

    def _column(self, row: int, lon: float) -> int:
        columns = self._columns(row)
        return math.floor((lon + 180.0) / 360.0 * columns) % columns

    def _held_out(self, row: int, column: int) -> bool:
        known = self._known.get((row, column))
        if known is None:
            digest = hashlib.blake2b(f"{self.seed}/{self.block_km}/{row}/{column}".encode(), digest_size=8).digest()
            known = self._known[row, column] = int.from_bytes(digest, "big") < self.test_share * 2**64
        return known


class PlaceIndex:
    """Finds places by distance.

    A place's number is its position in `lats` and `lons`, which have the shape (n,) and are in degrees.
    """

    def __init__(self, lats: NDArray[np.float64], lons: NDArray[np.float64]) -> None:
        self.order = np.argsort(lats, kind="stable")
        self.lats, self.lons = lats[self.order], lons[self.order]

    @classmethod
    def of(cls, places: Iterable[tuple[float, float]]) -> PlaceIndex:
        """An index of (lat, lon) pairs."""
        lats, lons = np.array(list(places), np.float64).reshape(-1, 2).T
        return cls(lats, lons)

    def between(
        self, lat: float, lon: float, low_km: float, high_km: float, *, enough: int, rng: Generator
    ) -> NDArray[np.intp]:
        """Numbers of the places at a distance in [low_km, high_km].

        If many places lie in the band of latitudes, a random sample of at least `enough` numbers may be returned.
        """
        first, last = self._band(lat, high_km)
        if last - first > _SAMPLED:
            sampled = np.unique(rng.integers(first, last, _SAMPLED))
            found = self._within(sampled, lat, lon, low_km, high_km)
            if len(found) >= enough:
                return found
        return self._within(np.arange(first, last), lat, lon, low_km, high_km)

    def nearest(self, lat: float, lon: float, within_km: float) -> tuple[int, float] | None:
        """Number of the nearest place and its distance in km; None if no place lies within `within_km`."""
        rows = np.arange(*self._band(lat, within_km))
        if not len(rows):
            return None
        distances = np.asarray(haversine_km(lat, lon, self.lats[rows], self.lons[rows]))
        closest = int(distances.argmin())
        return (int(self.order[rows[closest]]), float(distances[closest])) if distances[closest] <= within_km else None

    def _band(self, lat: float, reach_km: float) -> tuple[int, int]:
        """The range of rows, sorted by latitude, whose latitude lies within reach."""
        degrees = math.degrees(reach_km * _MARGIN / EARTH_RADIUS_KM)
        return int(np.searchsorted(self.lats, lat - degrees)), int(np.searchsorted(self.lats, lat + degrees, "right"))

    def _within(
        self, rows: NDArray[np.intp], lat: float, lon: float, low_km: float, high_km: float
    ) -> NDArray[np.intp]:
        distances = np.asarray(haversine_km(lat, lon, self.lats[rows], self.lons[rows]))
        return self.order[rows[(distances >= low_km) & (distances <= high_km)]]
