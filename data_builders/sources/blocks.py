"""Where places lie: splits blocked in space, and places near others."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from geotune.geo import EARTH_RADIUS_KM, haversine_km

_SURE = 1.001
"""Rounding must not put a place inside a guard."""
_GLANCE = 1024
"""So many places are looked at before all of them are."""


@dataclass(frozen=True)
class Blocks:
    """The earth cut into blocks, each of which is held out or not by seed alone.

    Whatever the source and whenever it is built, a place falls to the same side: training places of one source are
    farther than `guard_km` from every held-out place of any other that is built with the same blocks.
    """

    block_km: float
    guard_km: float
    test_share: float
    seed: int
    _known: dict[tuple[int, int], bool] = field(default_factory=dict, compare=False, repr=False)

    def split(self, lat: float, lon: float) -> str:
        """`test` inside a held-out block, `guard` within `guard_km` of one, else `train`."""
        row = self._row(lat)
        if self._held_out(row, self._column(row, lon)):
            return "test"
        return "guard" if self._near_held_out(lat, lon) else "train"

    def _near_held_out(self, lat: float, lon: float) -> bool:
        reach = self.guard_km * _SURE / EARTH_RADIUS_KM
        around = math.degrees(reach)
        sine = math.sin(min(reach, math.pi / 2)) / max(math.cos(math.radians(lat)), 1e-12)
        # Beyond this a circle of that radius holds the pole: every meridian is near.
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
    """Finds places by distance. Coordinates in degrees, (n,) each."""

    def __init__(self, lats: NDArray[np.float64], lons: NDArray[np.float64]) -> None:
        self.order = np.argsort(lats, kind="stable")
        self.lats, self.lons = lats[self.order], lons[self.order]

    def between(
        self, lat: float, lon: float, low_km: float, high_km: float, *, enough: int, rng: Generator
    ) -> NDArray[np.intp]:
        """Numbers of places at a distance in [low_km, high_km]: all of them, or a sample of at least `enough`."""
        first, last = self._band(lat, high_km)
        if last - first > _GLANCE:
            glance = np.unique(rng.integers(first, last, _GLANCE))
            found = self._within(glance, lat, lon, low_km, high_km)
            if len(found) >= enough:
                return found
        return self._within(np.arange(first, last), lat, lon, low_km, high_km)

    def nearest(self, lat: float, lon: float, within_km: float) -> tuple[int, float] | None:
        """Number and distance of the nearest place up to `within_km`; None when there is none."""
        rows = np.arange(*self._band(lat, within_km))
        if not len(rows):
            return None
        distances = np.asarray(haversine_km(lat, lon, self.lats[rows], self.lons[rows]))
        closest = int(distances.argmin())
        return (int(self.order[rows[closest]]), float(distances[closest])) if distances[closest] <= within_km else None

    def _band(self, lat: float, reach_km: float) -> tuple[int, int]:
        """Rows whose latitude lies within reach."""
        degrees = math.degrees(reach_km * _SURE / EARTH_RADIUS_KM)
        return int(np.searchsorted(self.lats, lat - degrees)), int(np.searchsorted(self.lats, lat + degrees, "right"))

    def _within(
        self, rows: NDArray[np.intp], lat: float, lon: float, low_km: float, high_km: float
    ) -> NDArray[np.intp]:
        distances = np.asarray(haversine_km(lat, lon, self.lats[rows], self.lons[rows]))
        return self.order[rows[(distances >= low_km) & (distances <= high_km)]]
