"""How precisely an answer states its coordinates."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_builders.sources.gre_rounding import rounding_deg, states_the_truth
from geotune.tasks.coordinates import Coordinates

latitudes = st.floats(-89, 89)
longitudes = st.floats(-179, 179)
FORMS = (
    "{lat}, {lon}",
    "{lat},{lon}",
    "Latitude: {lat}, longitude: {lon}",
    '{{"latitude": {lat}, "longitude": {lon}}}',
)


@given(latitudes, longitudes, st.integers(0, 6), st.integers(0, 6), st.sampled_from(FORMS))
def test_a_rounded_truth_is_the_truth(lat: float, lon: float, lat_digits: int, lon_digits: int, form: str) -> None:
    truth = Coordinates(lat, lon)
    text = form.format(lat=f"{lat:.{lat_digits}f}", lon=f"{lon:.{lon_digits}f}")
    stated = Coordinates(round(lat, lat_digits), round(lon, lon_digits))
    assume(not re.search(r"\d,0+(?!\.)\b", text))  # 1,0 may be a decimal comma
    assume(abs(abs(stated.lat) - abs(stated.lon)) > 1e-4)
    assert states_the_truth(text, stated, truth)
    unit = 10.0**-lat_digits
    assert states_the_truth(text, stated, Coordinates(stated.lat + 0.4 * unit, lon))
    assert not states_the_truth(text, stated, Coordinates(round(stated.lat + 0.6 * unit, 6) + 7e-6, lon))
    assert not states_the_truth(text, stated, Coordinates(lat, round(stated.lon - 0.6 * 10.0**-lon_digits, 6) - 7e-6))


@given(latitudes, longitudes, st.integers(2, 5))
def test_a_truth_may_be_rounded_too(lat: float, lon: float, digits: int) -> None:
    text, stated = f"{lat:.6f}, {lon:.6f}", Coordinates(round(lat, 6), round(lon, 6))
    truth = Coordinates(round(lat, digits), round(lon, digits))
    assume(any(len(f"{value:.6f}".rstrip("0").partition(".")[2]) == digits for value in (truth.lat, truth.lon)))
    assert states_the_truth(text, stated, truth)
    assert not states_the_truth(text, stated, Coordinates(truth.lat + 1.2 * 10.0**-digits, truth.lon))


def test_a_truth_that_may_have_lost_its_zeros_is_exact() -> None:
    assert not states_the_truth("48.9, 2.4", Coordinates(48.9, 2.4), Coordinates(48.5, 2))
    assert not states_the_truth("48.900000, 2.400000", Coordinates(48.9, 2.4), Coordinates(49, 2))


@pytest.mark.parametrize(
    ("text", "stated", "truth"),
    [
        ("<answer>2.000000, 48.858400</answer> about 2 km from the coast", (2, 48.8584), (2.4, 48.8584)),
        ("35.000000, 139.000000 (Tokyo, 35 N 139 E)", (35, 139), (35.4, 139.1234)),
        ('{"latitude": 35.00, "longitude": 139.00, "confidence": 35}', (35, 139), (35.4, 139.1234)),
        ("Near 10. <answer>10.000000, 20.5</answer>", (10, 20.5), (10.04, 20.5123)),
    ],
)
def test_a_coarse_number_elsewhere_excuses_nothing(
    text: str, stated: tuple[float, float], truth: tuple[float, float]
) -> None:
    assert not states_the_truth(text, Coordinates(*stated), Coordinates(*truth))


@given(st.integers(1, 88), st.integers(0, 59), st.integers(0, 59), st.integers(0, 2))
def test_minutes_and_seconds_have_their_own_rounding(degrees: int, minutes: int, seconds: int, digits: int) -> None:
    for text, value, unit in (
        (
            f"{degrees}\u00b0{minutes}'{seconds:.{digits}f}\"N",
            degrees + minutes / 60 + seconds / 3600,
            3600 * 10**digits,
        ),
        (
            f"{degrees} degrees, {minutes} minutes, {seconds:.{digits}f} seconds",
            degrees + minutes / 60 + seconds / 3600,
            3600 * 10**digits,
        ),
        (f"{degrees} deg {minutes:.{digits}f} min N", degrees + minutes / 60, 60 * 10**digits),
    ):
        assert rounding_deg(f"The tower is at {text}, 2.5 E", round(value, 6)) == pytest.approx(0.5 / unit)


def test_the_finest_rounding_counts_and_unknown_digits_are_exact() -> None:
    assert rounding_deg("About 49. <answer>49.0, 2.3</answer>", 49) == pytest.approx(0.05)
    assert rounding_deg("48,86; 2,29", 48.86) == pytest.approx(0.005)
    assert rounding_deg("no digits", 48.86) == 0
    assert not states_the_truth("no digits", Coordinates(1, 2), Coordinates(1.001, 2))
    assert states_the_truth("10, 180", Coordinates(10, 180), Coordinates(10, -179.7))
