"""The task of giving the coordinates at which a photo was taken, and the canonical form of coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from geotune.geo import haversine_km
from geotune.tasks.base import GoldError, Parsed, Reason, Task, accepted, entry, rejected
from geotune.tasks.coordinates import CoordinateError, Coordinates, check_coordinates, parse_coordinates, read_fields

GEOSCORE_SCALE_KM = 1492.7
"""Distance at which the Geoscore, 5000 e^(-d/1492.7), falls to 1/e of its maximum."""
_GOLD_PREFIXES = ("gt_", "true_", "")
"""Beginnings of the names of a record's gold fields, in order of preference."""
_AXES = (("latitude", "lat"), ("longitude", "lon", "lng", "long"))


def read_coordinates(text: str, *, pair_order: Literal["lat_lon"] | None = None) -> Coordinates | CoordinateError:
    """Read coordinates like `parse_coordinates`, and round them to the six decimals (0.1 m) of the canonical form."""
    return _canonical(parse_coordinates(text, pair_order=pair_order))


def coordinates_json(at: Coordinates) -> str:
    """Return the canonical form of coordinates: a JSON object."""
    return f'{{"latitude": {degrees(at.lat)}, "longitude": {degrees(at.lon)}}}'


def degrees(value: float) -> str:
    """Format degrees with at most six decimals, never in exponent notation: `-27.385763`, `0.0`."""
    whole, fraction = f"{value:.6f}".split(".")
    text = f"{whole}.{fraction.rstrip('0') or '0'}"
    return "0.0" if text == "-0.0" else text


def closeness(distance_km: float) -> float:
    """Return the Geoscore as a fraction in [0, 1]: e^(-d/1492.7), 1 at the place itself, 0.5 at 1,035 km."""
    return math.exp(-distance_km / GEOSCORE_SCALE_KM)


def gold_coordinates(record: Mapping[str, Any]) -> Coordinates:
    """Return the coordinates of a record's photo; raises `GoldError` if it has none that are legal.

    They stand in two named fields (`gt_lat` and `gt_long`, `true_lat` and `true_lng`, `latitude` and `longitude`, and
    so on), or in the `real_location` ("lat,lon") of a GeoX record.
    """
    for prefix in _GOLD_PREFIXES:
        lat, lon = (
            next((record[key] for name in names for key in _cases(prefix + name) if record.get(key) is not None), None)
            for names in _AXES
        )
        if lat is not None and lon is not None:
            text = f"{lat}, {lon}"
            found = _canonical(read_fields(str(lat), str(lon)))
            break
    else:
        text = str(entry(record, "GroundImage", "real_location"))
        found = read_coordinates(text, pair_order="lat_lon")
    if not isinstance(found, Coordinates):
        raise GoldError(f"coordinates {found}", text)
    return found


def _canonical(found: Coordinates | CoordinateError) -> Coordinates | CoordinateError:
    return check_coordinates(round(found.lat, 6), round(found.lon, 6)) if isinstance(found, Coordinates) else found


def _cases(name: str) -> tuple[str, str]:
    return name, name.upper()


@dataclass(frozen=True)
class GeolocateTask(Task):
    """Asks for the coordinates of one photo, latitude first, so that a bare pair is read in this order."""

    def question(self) -> str:
        return "Where was this photo taken?"

    def form(self) -> str:
        return '{"latitude": ..., "longitude": ...}, latitude first, in decimal degrees, south and west negative.'

    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        return coordinates_json(gold_coordinates(record))

    def json(self, answer: str) -> str:
        return coordinates_json(self.coordinates(answer))

    def coordinates(self, answer: str) -> Coordinates:
        """Return the coordinates of a canonical answer; raises `ValueError` for a text without coordinates."""
        found = read_coordinates(answer)
        if not isinstance(found, Coordinates):
            raise ValueError(f"{self.name}: {answer!r} gives no coordinates: {found}")
        return found

    def parse(self, text: str) -> Parsed:
        if not text.strip():
            return rejected(Reason.EMPTY)
        found = read_coordinates(text, pair_order="lat_lon")
        return accepted(coordinates_json(found)) if isinstance(found, Coordinates) else rejected(found)

    def distance_km(self, parsed: Parsed, gold: str) -> float | None:
        """Return the great-circle distance in km between answer and gold; None without an answer."""
        if parsed.answer is None:
            return None
        here, there = self.coordinates(parsed.answer), self.coordinates(gold)
        return float(haversine_km(here.lat, here.lon, there.lat, there.lon))

    def score(self, parsed: Parsed, gold: str) -> float:
        """Return Geoscore / 5000: e^(-d/1492.7) with d the great-circle distance in km; 0 without an answer."""
        distance_km = self.distance_km(parsed, gold)
        return 0.0 if distance_km is None else closeness(distance_km)


GEOLOCATE = GeolocateTask("geolocate", ("latitude", "longitude", "lat", "lon"))
