"""The procedural city: its images show what the towns say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest

from data_builders.imagery.panorama import perspective_view
from data_builders.synthetic.city import (
    COLORS,
    HEADINGS,
    MAP_UNITS,
    OFF_MIDDLE,
    PITCH,
    color_balanced,
    draw_towns,
    panorama,
    satellite_image,
    with_cast,
)
from data_builders.synthetic.places import draw_places
from geotune.imagery.crops import CROPS, LANDS_AT, crop_box


def nearest_color(pixels: np.ndarray) -> str:
    """Name of the palette's color that is nearest to the mean of some pixels, whatever their brightness."""
    mean = pixels.reshape(-1, 3).mean(axis=0)
    direction = {n: np.array(c) / (np.linalg.norm(c) + 40) for n, c in COLORS.items()}
    return min(direction, key=lambda n: float(np.linalg.norm(direction[n] - mean / (np.linalg.norm(mean) + 40))))


@pytest.fixture(params=range(5))
def place(request):
    return list(islice(draw_places(3, "test"), 5))[request.param]


def test_views_show_what_the_town_says(place):
    image = panorama(place.towns[0], np.random.default_rng(0))
    views = {name: perspective_view(image, degrees, (64, 64)) for name, degrees in HEADINGS.items()}
    for heading, (left, right) in place.towns[0].around().items():
        view = views[heading]
        assert nearest_color(view[28:36, 2:12]) == left
        assert nearest_color(view[28:36, 52:62]) == right
        assert nearest_color(view[60:, 28:36]) == place.towns[0].center_plaza


def test_maps_show_what_the_towns_say(place):
    middle = MAP_UNITS // 2 + int(OFF_MIDDLE)
    for town in place.towns:
        image = satellite_image(town, np.random.default_rng(0))
        for south in (-1, 0, 1):
            for east in (-1, 0, 1):
                row, column = middle + south * PITCH, middle + east * PITCH
                assert nearest_color(image[row - 3 : row + 3, column - 3 : column + 3]) == town.plaza_at(south, east)
                (nw, ne) = town.around(south, east)["N"]
                assert nearest_color(image[row - 10 : row - 6, column - 10 : column - 6]) == nw
                assert nearest_color(image[row - 10 : row - 6, column + 6 : column + 10]) == ne


def test_maps_of_a_place_differ_in_cast_alone(place):
    """The four maps have one mean color before a random cast, which says nothing about their content, is added."""
    images = color_balanced([satellite_image(town, np.random.default_rng(0)) for town in place.towns])
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    assert np.ptp(means, axis=0).max() < 3
    assert np.abs(with_cast(images[0], np.random.default_rng(1), 0.0).astype(int) - images[0]).max() == 0


def test_a_crossing_looks_different_in_every_heading(place):
    for town in place.towns:
        for south in (-1, 0, 1):
            for east in (-1, 0, 1):
                walls = [left for left, _ in town.around(south, east).values()]
                assert len(set(walls)) == 4


def test_no_map_can_be_told_from_the_others_without_the_view(place):
    middles = [town.center_plaza for town in place.towns]
    assert len(set(middles)) == 4
    for town in place.towns:
        window = {town.plaza_at(south, east) for south in (-1, 0, 1) for east in (-1, 0, 1)}
        assert len(window) == 9
        assert window & set(middles) == {town.center_plaza}
        assert window - {town.center_plaza} == set(COLORS) - set(middles)


def test_a_crop_holds_every_plaza_once_inside(place):
    town = place.towns[0]
    for crop in CROPS:
        left, top, _, _ = crop_box(crop, MAP_UNITS, MAP_UNITS)
        (column, row) = LANDS_AT[crop]
        assert (MAP_UNITS // 2 - left, MAP_UNITS // 2 - top) == (PITCH * (column + 1), PITCH * (row + 1))
        inside = [town.plaza_at(south - row, east - column) for south in range(3) for east in range(3)]
        assert len(set(inside)) == 9


def test_panorama_shifts_with_heading(place):
    """North is at the center column: the view east is a quarter of the panorama further right."""
    image = panorama(place.towns[0], np.random.default_rng(0), noise=0)
    quarter = image.shape[1] // 4
    for step, (left, _) in enumerate(place.towns[0].around().values()):
        column = (image.shape[1] // 2 + step * quarter - quarter // 4) % image.shape[1]
        assert nearest_color(image[60:64, column - 1 : column + 2]) == left


def test_no_heading_differs_in_more_than_the_town(place):
    """A quarter turn of the town turns the panorama by a quarter: light and geometry are the same in every heading."""
    town, draw = place.towns[0], partial(panorama, rng=np.random.default_rng(0), noise=0)
    turned = replace(town, walls=np.rot90(town.walls, -1), plazas=np.rot90(town.plazas, -1))
    image = draw(town)
    differs = (draw(turned) != np.roll(image, image.shape[1] // 4, axis=1)).any(axis=-1)
    assert differs.mean() < 0.001
    assert turned.around()["E"] == town.around()["N"]


def test_the_satellite_image_keeps_its_content_at_any_size(place):
    town = place.towns[0]
    small = satellite_image(town, np.random.default_rng(0), 96, noise=0)
    large = satellite_image(town, np.random.default_rng(0), 192, noise=0)
    differs = np.abs(large.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3)) - small).max(axis=-1) > 1
    interior = np.abs(np.indices((96, 96)) % PITCH - PITCH / 2 + 0.5) < 2
    assert not (differs & interior.all(axis=0)).any()
    assert differs.mean() < 0.25


def test_towns_of_a_place_share_its_palette():
    towns = draw_towns(np.random.default_rng(0), climate=2, region=5)
    assert {(town.climate, town.region) for town in towns} == {(2, 5)}
    assert len(HEADINGS) == 4
