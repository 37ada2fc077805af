"""Transformed images equal images rendered from the turned and mirrored city."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_builders.imagery.panorama import perspective_view
from data_builders.synthetic import city
from geotune.geo import COMPASS_POINTS
from geotune.imagery.crops import CROPS, crop_box
from geotune.imagery.symmetry import ALL_SYMMETRIES, IDENTITY, SYMMETRIES, Symmetry
from geotune.tasks.cross_view import HEADINGS
from tests.geotune.references import camera_in_crop


def turned(town: city.Town, symmetry: Symmetry) -> city.Town:
    """The town with mirrored and turned walls and plazas."""
    return replace(town, walls=symmetry.map(town.walls), plazas=symmetry.map(town.plazas))


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> city.Town:
    # The camera stands exactly at the center of the map, as in every dataset of real images.
    monkeypatch.setattr(city, "OFF_MIDDLE", 0.0)
    return city.draw_towns(np.random.default_rng(5), 1, 2)[0]


@pytest.mark.parametrize("symmetry", ALL_SYMMETRIES, ids=lambda s: s.name)
def test_maps_equal_those_of_the_turned_city(town: city.Town, symmetry: Symmetry) -> None:
    rng = np.random.default_rng(0)
    shown = symmetry.map(city.satellite_image(town, rng, noise=0))
    drawn = city.satellite_image(turned(town, symmetry), rng, noise=0)
    assert (shown != drawn).any(axis=-1).mean() < 0.02  # edges that fall on the middle of a pixel


@pytest.mark.parametrize("symmetry", ALL_SYMMETRIES, ids=lambda s: s.name)
def test_views_equal_those_of_the_turned_city(town: city.Town, symmetry: Symmetry) -> None:
    def views(of: city.Town) -> dict[str, np.ndarray]:
        panorama = city.panorama(of, np.random.default_rng(0), width=256, noise=0)
        return {name: perspective_view(panorama, h, (48, 48)).astype(int) for name, h in HEADINGS.items()}

    before, after = views(town), views(turned(town, symmetry))
    for heading, view in before.items():
        shown = symmetry.view(view)
        differences = {name: np.abs(shown - other).mean() for name, other in after.items()}
        assert min(differences, key=differences.__getitem__) == symmetry.heading(heading)
        assert differences[symmetry.heading(heading)] < 1 < 10 < sorted(differences.values())[1]


@pytest.mark.parametrize("symmetry", ALL_SYMMETRIES, ids=lambda s: s.name)
def test_crops_keep_what_they_show(symmetry: Symmetry) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)

    def cut(image: np.ndarray, name: str) -> np.ndarray:
        left, top, right, bottom = crop_box(name, 96, 96)
        return image[top:bottom, left:right]

    for name in CROPS:
        assert np.array_equal(cut(symmetry.map(whole), symmetry.crop(name)), symmetry.map(cut(whole, name)))
    assert {symmetry.crop(name) for name in CROPS} == set(CROPS)
    assert symmetry.crop("full") == "full"


def test_directions() -> None:
    quarter, mirror = Symmetry(1), Symmetry(0, True)
    assert [quarter.heading(name) for name in ("N", "E", "S", "W", "NE")] == ["E", "S", "W", "N", "SE"]
    assert [mirror.heading(name) for name in ("N", "E", "S", "W", "NE")] == ["N", "W", "S", "E", "NW"]
    assert quarter.crop("top_left") == "top_right"
    assert mirror.crop("left") == "right"
    assert camera_in_crop(quarter.crop("top"), 96, 96) == (0.75, 0.5)
    assert all({s.heading(name) for name in COMPASS_POINTS} == set(COMPASS_POINTS) for s in ALL_SYMMETRIES)
    assert len(set(ALL_SYMMETRIES)) == 8
    assert all(IDENTITY in group for group in SYMMETRIES.values())
