"""The places of the city: reproducible, separate by split, with colors that follow from their coordinates."""

from __future__ import annotations

from itertools import islice

from data_builders.synthetic.city import LATITUDE_BANDS, LONGITUDE_BANDS
from data_builders.synthetic.places import CELL_DEG, SPLITS, draw_places


def test_places_are_a_pure_function_of_seed_split_and_index():
    few, many = list(islice(draw_places(5, "train"), 3)), list(islice(draw_places(5, "train"), 9))
    assert few == many[:3]
    assert (few[2].views(32)["S"] == many[2].views(32)["S"]).all()
    assert draw_places(6, "train").__next__() != few[0]


def test_places_of_different_splits_never_overlap():
    seen = {}
    for split in SPLITS:
        for seed in (0, 1):
            for place in islice(draw_places(seed, split), 300):
                cell = (int((place.lat + 60) / CELL_DEG), int((place.lon + 180) / CELL_DEG))
                assert seen.setdefault(cell, split) == split


def test_coordinates_tell_ground_and_trim():
    for place in islice(draw_places(0, "train"), 200):
        low, high = LATITUDE_BANDS[place.climate]
        west, east = LONGITUDE_BANDS[place.region]
        assert low <= place.lat < high
        assert west <= place.lon < east
