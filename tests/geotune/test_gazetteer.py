"""The nearest named town."""

from __future__ import annotations

import numpy as np
import pytest

from geotune.gazetteer import Entry, entries, nearest_entry
from geotune.geo import geodesic_km

KNOWN = {
    ("Paris", "France"): (48.857, 2.352),
    ("Tokyo", "Japan"): (35.68, 139.75),
    ("New York", "United States of America"): (40.71, -74.01),
    ("Sydney", "Australia"): (-33.87, 151.21),
    ("São Paulo", "Brazil"): (-23.55, -46.63),
    ("Nairobi", "Kenya"): (-1.286, 36.817),
    ("Reykjavík", "Iceland"): (64.147, -21.94),
    ("Ushuaia", "Argentina"): (-54.8, -68.3),
    ("Suva", "Fiji"): (-18.14, 178.44),
    ("Taipei", "Taiwan"): (25.03, 121.56),
}
"""Latitude and longitude of well-known towns, from an atlas."""


def test_well_known_towns_have_their_coordinates() -> None:
    listed = {(place.name, place.country): place for place in entries()}
    for name, (lat, lon) in KNOWN.items():
        place = listed[name]
        assert geodesic_km(lat, lon, place.lat, place.lon) < 15, name


def test_the_gazetteer_is_complete_and_valid() -> None:
    assert len(entries()) == len(set(entries())) == 7342
    assert all(abs(place.lat) <= 90 and abs(place.lon) <= 180 and place.name and place.country for place in entries())
    assert len({place.country for place in entries()}) > 190
    assert not any(place.lat == place.lon == 0 for place in entries())


@pytest.mark.parametrize(
    ("lat", "lon", "name", "within_km"),
    [
        (48.8584, 2.2945, "Paris", 6),
        (-33.8568, 151.2153, "Sydney", 4),
        (-17.0, -179.99, "Labasa", 120),  # beyond the date line
        (0.0, 0.0, "Sekondi", 700),
    ],
)
def test_nearest_by_geodesic_distance(lat: float, lon: float, name: str, within_km: float) -> None:
    place, distance_km = nearest_entry(lat, lon)
    assert place.name == name
    assert distance_km < within_km
    assert distance_km == pytest.approx(geodesic_km(lat, lon, place.lat, place.lon))


@pytest.mark.parametrize("seed", range(3))
def test_no_place_lies_nearer(seed: int) -> None:
    random = np.random.default_rng(seed)
    lat, lon = np.degrees(np.arcsin(random.uniform(-1, 1))), random.uniform(-180, 180)
    _, distance_km = nearest_entry(lat, lon)
    everywhere = geodesic_km(lat, lon, [place.lat for place in entries()], [place.lon for place in entries()])
    assert distance_km <= everywhere.min() * 1.006, "the sphere is within 0.6% of the geodesic"


def test_the_poles_and_a_full_turn() -> None:
    assert nearest_entry(-90.0, 12.0)[0].country == "Antarctica"
    assert nearest_entry(48.86, 2.35)[0] == Entry("Paris", "France", 48.858, 2.353)
