"""Figures of drawn answers: by hand, on true posteriors, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.distance import FARTHEST_KM
from eval.metrics.draws import draw_metrics
from geotune.geo import geodesic_km
from geotune.tasks.coordinates import Coordinates

DEGREE_KM = geodesic_km(0, 0, 0, 1)
"""One degree of longitude on the equator."""


def east(*degrees: float | None) -> list[Coordinates | None]:
    """Places on the equator; None for a draw that could not be read."""
    return [None if at is None else Coordinates(0.0, at) for at in degrees]


def truths(*degrees: float) -> list[Coordinates]:
    return [Coordinates(0.0, at) for at in degrees]


def test_by_hand() -> None:
    """Four photos: within both radii, within the wider one, beyond both, and with too few readable draws."""
    draws = [
        east(-9, 1, None, 0, 3, -1),  # from the medoid, 0, it is 0, 1, 1, 3 and 9 degrees to the five
        east(10, 10, 10, 14),
        east(20, 20, 20, 20),
        east(0, 0, 0, None),
    ]
    figures = draw_metrics(truths(-1, 13, 21, 0), draws)
    assert figures["draws_read"] == 16 / 18
    assert figures["radius_50_km"] == pytest.approx(np.median([1, 0, 0]) * DEGREE_KM)
    assert figures["radius_90_km"] == pytest.approx(np.median([9, 4, 0]) * DEGREE_KM)
    assert figures["radius_coverage_50"] == 1 / 4, "the edge of a radius belongs to it"
    assert figures["radius_coverage_90"] == 2 / 4
    assert figures["medoid_median_km"] == pytest.approx(np.median([1, 3, 1, 0]) * DEGREE_KM)
    assert list(figures) == [
        *("draws_read", "medoid_median_km", "radius_coverage_50", "radius_coverage_90"),
        *("radius_50_km", "radius_90_km"),
    ]


def test_a_photo_without_a_readable_draw_is_as_far_as_can_be_and_not_covered() -> None:
    figures = draw_metrics(truths(0, 0, 0), [east(None, None, None, None), east(None, None), east(0, 0, 0, 0)])
    assert figures["medoid_median_km"] == FARTHEST_KM
    assert figures["radius_coverage_50"] == figures["radius_coverage_90"] == pytest.approx(1 / 3)
    assert (figures["radius_50_km"], figures["radius_90_km"]) == (0, 0), "of the photo that has radii"
    nothing = draw_metrics(truths(0), [east(None, 3, 3, 3)])
    assert nothing == {
        "draws_read": 0.75,
        "medoid_median_km": pytest.approx(3 * DEGREE_KM),
        "radius_coverage_50": 0.0,
        "radius_coverage_90": 0.0,
        "radius_50_km": None,
        "radius_90_km": None,
    }


def test_the_truth_and_the_radius_are_measured_alike() -> None:
    """A truth at the very place of the farthest draw lies within, although a sphere would put it 0.5% farther away."""
    far = Coordinates(60.0, 0.0)
    draws = [Coordinates(0.0, 0.0)] * 3 + [far]
    assert draw_metrics([far], [draws])["radius_coverage_90"] == 1.0


def test_what_draws_of_a_true_posterior_reach() -> None:
    """16 draws from the cells that a perfect reader of the synthetic city knows: covered .41 and .86."""
    random = np.random.default_rng(0)
    truth, draws = [], []
    for _ in range(1500):
        south, west = random.choice(6) * 20.0 - 60, random.choice(8) * 45.0 - 180
        lat, lon = south + 20 * random.random(17), west + 45 * random.random(17)
        truth.append(Coordinates(lat[0], lon[0]))
        draws.append([Coordinates(*at) for at in zip(lat[1:], lon[1:], strict=True)])
    figures = draw_metrics(truth, draws)
    assert figures["radius_coverage_50"] == pytest.approx(0.41, abs=0.04)
    assert figures["radius_coverage_90"] == pytest.approx(0.86, abs=0.04)
    assert figures["radius_90_km"] == pytest.approx(2104, rel=0.05)
    assert figures["draws_read"] == 1.0


PLACES = st.builds(Coordinates, st.floats(-90, 90), st.floats(-180, 180))
PHOTOS = st.lists(
    st.tuples(PLACES, st.lists(st.none() | PLACES, min_size=1, max_size=7), st.randoms()), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(PHOTOS)
def test_any_draws_give_figures_in_their_ranges_whatever_the_order_of_photos(photos: list[tuple[...]]) -> None:  # type: ignore[type-arg]
    truth, draws, _ = (list(column) for column in zip(*photos, strict=True))
    figures = draw_metrics(truth, draws)
    assert 0 <= figures["draws_read"] <= 1
    assert 0 <= figures["radius_coverage_50"] <= figures["radius_coverage_90"] <= 1
    assert 0 <= figures["medoid_median_km"] <= FARTHEST_KM
    assert (figures["radius_50_km"] is None) == (figures["radius_90_km"] is None)
    if figures["radius_50_km"] is not None:
        assert 0 <= figures["radius_50_km"] <= figures["radius_90_km"] <= FARTHEST_KM
    assert draw_metrics(truth[::-1], draws[::-1]) == pytest.approx(figures)


@pytest.mark.parametrize("draws", [[], [east(0), east(0)], [[]]])
def test_refuses_what_are_not_draws_of_the_photos(draws: list[list[Coordinates | None]]) -> None:
    with pytest.raises(ValueError, match="expected as many, each with draws"):
        draw_metrics(truths(0), draws)
    with pytest.raises(ValueError, match="0 photos"):
        draw_metrics([], [])
