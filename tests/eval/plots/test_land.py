"""The outlines of the land."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest

from eval.plots.land import land_rings
from geotune.gazetteer import entries


def winding_number(lat: float, lon: float) -> int:
    """Turns to the right that the outlines make around a place, in all."""
    turns = 0.0
    for ring in land_rings():
        x, y = ring[:, 1] - lon, ring[:, 0] - lat
        angles = np.arctan2(y, x)
        turns += ((angles - np.roll(angles, -1) + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi)
    return round(turns)


def test_the_outlines_are_package_data_with_their_provenance() -> None:
    assets = importlib.resources.files("geotune") / "assets"
    table = (assets / "land.csv").read_bytes()
    assert len(table) < 60_000
    assert table.count(b"\n") - 1 == sum(map(len, land_rings())) == 3959
    provenance = (assets / "land.txt").read_text(encoding="utf-8")
    assert all(word in provenance for word in ("Natural Earth", "public domain", "ne_110m_land", "3,959"))


def test_every_ring_is_an_outline_on_the_globe() -> None:
    assert len(land_rings()) == 128
    for ring in land_rings():
        assert ring.shape == (len(ring), 2)
        assert len(ring) >= 3
        assert (np.abs(ring) <= (90, 180)).all()
        assert (ring != np.roll(ring, 1, axis=0)).any(axis=1).all(), "no point twice in a row"
        assert np.allclose(ring, ring.round(1))


@pytest.mark.parametrize(
    ("place", "lat", "lon", "is_land"),
    [
        *(("Madrid", 40.4, -3.7, 1), ("Ulaanbaatar", 47.9, 106.9, 1), ("Alice Springs", -23.7, 133.9, 1)),
        *(("Brasilia", -15.8, -47.9, 1), ("South Pole", -89.9, 0.0, 1), ("Greenland", 72.0, -40.0, 1)),
        *(
            ("Madagascar", -19.0, 46.5, 1),
            ("Chukotka, beyond the date line", 66.5, -175.0, 1),
            ("Tasmania", -42, 146.5, 1),
        ),
        *(("Gulf of Guinea", 0.0, 0.0, 0), ("Caspian Sea", 42.0, 50.5, 0), ("Mediterranean", 34.5, 18.0, 0)),
        *(("Hudson Bay", 59.5, -86.0, 0), ("Pacific", 0.0, -150.0, 0), ("North Pole", 89.9, 0.0, 0)),
        *(("Black Sea", 43.0, 34.0, 0), ("Sea of Japan", 40.0, 135.0, 0), ("Weddell Sea", -70.0, -40.0, 0)),
    ],
)
def test_land_is_land_and_sea_is_sea(place: str, lat: float, lon: float, is_land: int) -> None:
    assert winding_number(lat, lon) == is_land, place


def test_large_towns_lie_on_land() -> None:
    """All towns of the gazetteer but those on small islands and at coasts, which outlines of 1:110m simplify."""
    towns = entries()[::50]
    assert np.mean([winding_number(town.lat, town.lon) == 1 for town in towns]) > 0.85
