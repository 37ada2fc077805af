"""Splits by blocks, anywhere on earth, and the search for places by distance."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from data_builders.sources.blocks import Blocks, PlaceIndex
from geotune.geo import haversine_km

CORNERS = {"city": (41.8, -87.7), "antimeridian": (-17.0, 179.9), "pole": (89.7, 10.0), "equator": (0.0, 0.0)}


def around(lat: float, lon: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lats = np.clip(lat + rng.uniform(-0.3, 0.3, n), -90, 90)
    lons = (lon + rng.uniform(-0.3, 0.3, n) / max(np.cos(np.radians(lat)), 0.01) + 180) % 360 - 180
    return lats, lons


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("guard_km", [0.3, 7.0])
def test_no_training_place_is_near_a_held_out_one(corner: str, guard_km: float) -> None:
    """Two sources are split independently; one gives training places and the other held-out places."""
    sides = []
    for seed in (1, 2):
        blocks = Blocks(5.0, guard_km, 0.2, seed=0)
        lats, lons = around(*CORNERS[corner], 1500, seed)
        sides.append((lats, lons, np.array([blocks.split(*at) for at in zip(lats, lons, strict=True)])))
    (lats, lons, one), (other_lats, other_lons, other) = sides
    assert (one == "test").any()
    assert (other == "train").any() or guard_km > 5
    held, kept = one == "test", other == "train"
    km = haversine_km(lats[held][:, None], lons[held][:, None], other_lats[kept], other_lons[kept])
    assert km.size == 0 or km.min() > guard_km


def test_the_share_and_the_seed() -> None:
    rng = np.random.default_rng(0)
    lats, lons = rng.uniform(-70, 70, 4000), rng.uniform(-180, 180, 4000)
    counts = [
        Counter(Blocks(5.0, 0.0, 0.25, seed).split(*at) for at in zip(lats, lons, strict=True)) for seed in (0, 0, 1)
    ]
    assert counts[0] == counts[1] != counts[2]
    assert counts[0]["test"] == pytest.approx(1000, abs=100)


@pytest.mark.parametrize("corner", CORNERS)
def test_places_between_two_distances(corner: str) -> None:
    lats, lons = around(*CORNERS[corner], 800, 3)
    index = PlaceIndex(lats, lons)
    rng = np.random.default_rng(0)
    for number in range(0, 800, 97):
        km = haversine_km(lats[number], lons[number], lats, lons)
        found = index.between(lats[number], lons[number], 0.5, 6.0, enough=3, rng=rng)
        assert set(found.tolist()) == set(np.flatnonzero((km >= 0.5) & (km <= 6.0)).tolist())
        nearest = index.nearest(lats[number] + 0.001, lons[number], 6.0)
        assert nearest is not None
        km = haversine_km(lats[number] + 0.001, lons[number], lats, lons)
        assert nearest == (int(km.argmin()), pytest.approx(km.min()))
    assert index.nearest(-40.0, 60.0, 1.0) is None


def test_a_crowd_is_sampled() -> None:
    lats, lons = around(*CORNERS["city"], 20_000, 4)
    found = PlaceIndex(lats, lons).between(41.8, -87.7, 0.3, 5.0, enough=64, rng=np.random.default_rng(0))
    km = haversine_km(41.8, -87.7, lats[found], lons[found])
    assert 64 <= len(found) < 1024
    assert km.min() >= 0.3
    assert km.max() <= 5
