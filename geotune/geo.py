"""Pure functions for distances, bearings, compass points and the web mercator projection.

All angles are in degrees (WGS84), latitude comes before longitude, and distances are in kilometers. Functions of arrays
broadcast their arguments and return float64; functions of numbers return a float.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from pyproj import Geod


EARTH_RADIUS_KM = 6371.0
"""Mean Earth radius that the published distances of the field use (IMAGEO-Bench)."""
MERCATOR_RADIUS_M = 6378137.0
"""Radius of the sphere of web mercator (EPSG:3857)."""
TILE_SIZE_PX = 256
"""Width and height of a map tile."""
FloatArray = NDArray[np.float64]


@overload
def haversine_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...


@overload
def haversine_km(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> FloatArray: ...


def haversine_km(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Any:
    """Return the great-circle distance in km on a sphere of `EARTH_RADIUS_KM`; it is within 0.6% of the geodesic."""
    phi1, lambda1, phi2, lambda2 = (np.radians(np.asarray(x, dtype=np.float64)) for x in (lat1, lon1, lat2, lon2))
    a = np.sin((phi2 - phi1) / 2) ** 2 + np.cos(phi1) * np.cos(phi2) * np.sin((lambda2 - lambda1) / 2) ** 2
    # Rounding can put antipodes slightly above 1.
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(a, 1.0)))


@functools.cache
def _wgs84() -> Geod:
    from pyproj import Geod

    return Geod(ellps="WGS84")


@overload
def geodesic_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...


@overload
def geodesic_km(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> FloatArray: ...


def geodesic_km(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Any:
    """Return the shortest distance in km on the WGS84 ellipsoid (Karney's algorithm, from pyproj)."""
    arrays = (np.asarray(x, dtype=np.float64) for x in (lon1, lat1, lon2, lat2))
    points = np.broadcast_arrays(*arrays)
    # pyproj writes into its arguments, and broadcast views are read-only, so it gets flat copies.
    x1, y1, x2, y2 = (x.flatten() for x in points)
    _, _, metres = _wgs84().inv(x1, y1, x2, y2)
    return np.asarray(metres, dtype=np.float64).reshape(points[0].shape)[()] / 1000.0


@overload
def initial_bearing_deg(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...


@overload
def initial_bearing_deg(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> FloatArray: ...


def initial_bearing_deg(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Any:
    """Return the heading in [0, 360), clockwise from north, at which the great circle to point 2 leaves point 1."""
    phi1, lambda1, phi2, lambda2 = (np.radians(np.asarray(x, dtype=np.float64)) for x in (lat1, lon1, lat2, lon2))
    east = np.sin(lambda2 - lambda1) * np.cos(phi2)
    north = np.cos(phi1) * np.sin(phi2) - np.sin(phi1) * np.cos(phi2) * np.cos(lambda2 - lambda1)
    bearing = np.mod(np.degrees(np.arctan2(east, north)), 360.0)
    # A bearing slightly west of north can round up to 360.
    return np.where(bearing >= 360.0, 0.0, bearing)[()]


@overload
def wrap_longitude(lon: float) -> float: ...


@overload
def wrap_longitude(lon: ArrayLike) -> FloatArray: ...


def wrap_longitude(lon: ArrayLike) -> Any:
    """Return the same meridian in [-180, 180); a longitude that is already in this range is returned unchanged."""
    given = np.asarray(lon, dtype=np.float64)
    wrapped = np.mod(given + 180.0, 360.0) - 180.0
    wrapped = np.where(wrapped >= 180.0, -180.0, wrapped)
    return np.where((given >= -180.0) & (given < 180.0), given, wrapped)[()]


COMPASS_POINTS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
"""The eight compass points, clockwise from north."""
_COMPASS_WORDS = {"n": "north", "e": "east", "s": "south", "w": "west"}
_COMPASS_HEADINGS = {
    spelling: 45.0 * i
    for i, point in enumerate(COMPASS_POINTS)
    for spelling in (point.lower(), "".join(_COMPASS_WORDS[letter] for letter in point.lower()))
}


def heading_to_compass(heading_deg: float, points: Literal[4, 8] = 4) -> str:
    """Return the nearest of 4 or 8 compass points; a heading midway between two points gives the clockwise one.

    Raises ValueError for a heading that is not finite and for any other number of points.
    """
    if points not in (4, 8):
        raise ValueError(f"points={points}: a compass here has 4 or 8 points")
    if not math.isfinite(heading_deg):
        raise ValueError(f"heading_deg={heading_deg}: not a heading")
    step = 360.0 / points
    return COMPASS_POINTS[int((heading_deg % 360.0) / step + 0.5) % points * (8 // points)]


def compass_to_heading(name: str) -> float:
    """Return the heading in degrees of a compass point, given by letters or words ("NE", "north-east", "Northeast").

    Raises ValueError for any other name.
    """
    spelling = re.sub(r"[\s_-]", "", name).lower()
    if spelling not in _COMPASS_HEADINGS:
        raise ValueError(f"{name!r} is not a compass point; known: {', '.join(COMPASS_POINTS)}")
    return _COMPASS_HEADINGS[spelling]


@overload
def metres_per_pixel(lat_deg: float, zoom: float) -> float: ...


@overload
def metres_per_pixel(lat_deg: ArrayLike, zoom: ArrayLike) -> FloatArray: ...


def metres_per_pixel(lat_deg: ArrayLike, zoom: ArrayLike) -> Any:
    """Return the ground distance in meters that one pixel of a 256 px tile spans."""
    lat, level = np.asarray(lat_deg, dtype=np.float64), np.asarray(zoom, dtype=np.float64)
    return np.cos(np.radians(lat)) * 2 * np.pi * MERCATOR_RADIUS_M / (TILE_SIZE_PX * 2.0**level)


@overload
def mercator_tile_xy(lat: float, lon: float, zoom: float) -> tuple[float, float]: ...


@overload
def mercator_tile_xy(lat: ArrayLike, lon: ArrayLike, zoom: ArrayLike) -> tuple[FloatArray, FloatArray]: ...


def mercator_tile_xy(lat: ArrayLike, lon: ArrayLike, zoom: ArrayLike) -> tuple[Any, Any]:
    """Return fractional tile coordinates (x, y) in web mercator.

    x grows east from 180 W and y grows south; both span [0, 2^zoom] between 85.0511 N and 85.0511 S.
    """
    tiles = 2.0 ** np.asarray(zoom, dtype=np.float64)
    x = (np.asarray(lon, dtype=np.float64) + 180.0) / 360.0 * tiles
    y = (1.0 - np.arcsinh(np.tan(np.radians(np.asarray(lat, dtype=np.float64)))) / np.pi) / 2.0 * tiles
    return x, y


@overload
def mercator_lat_lon(x: float, y: float, zoom: float) -> tuple[float, float]: ...


@overload
def mercator_lat_lon(x: ArrayLike, y: ArrayLike, zoom: ArrayLike) -> tuple[FloatArray, FloatArray]: ...


def mercator_lat_lon(x: ArrayLike, y: ArrayLike, zoom: ArrayLike) -> tuple[Any, Any]:
    """Return the latitude and longitude of fractional tile coordinates: the inverse of `mercator_tile_xy`."""
    tiles = 2.0 ** np.asarray(zoom, dtype=np.float64)
    lon = np.asarray(x, dtype=np.float64) / tiles * 360.0 - 180.0
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1.0 - 2.0 * np.asarray(y, dtype=np.float64) / tiles))))
    return lat, lon
