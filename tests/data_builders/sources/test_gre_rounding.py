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
    assert not states_the_truth(text, stated, Coordinates(stated.lat + 0.6 * unit + 5e-6, lon))
    assert not states_the_truth(text, stated, Coordinates(lat, stated.lon - 0.6 * 10.0**-lon_digits - 5e-6))


@given(st.integers(1, 88), st.integers(0, 59), st.integers(0, 59), st.integers(0, 2))
def test_minutes_and_seconds_have_their_own_rounding(degrees: int, minutes: int, seconds: int, digits: int) -> None:
    for text, value, unit in (
        (
            f"{degrees}\u00b0{minutes}'{seconds:.{digits}f}\"N",
            degrees + minutes / 60 + seconds / 3600,
            3600 * 10**digits,
        ),
        (f"{degrees} deg {minutes:.{digits}f} min N", degrees + minutes / 60, 60 * 10**digits),
    ):
        assert rounding_deg(f"The tower is at {text}, 2.5 E", round(value, 6)) == pytest.approx(0.5 / unit)


def test_the_last_place_decides_and_unknown_digits_are_exact() -> None:
    assert rounding_deg("About 49. <answer>49.0, 2.3</answer>", 49) == pytest.approx(0.05)
    assert rounding_deg("48,86; 2,29", 48.86) == pytest.approx(0.005)
    assert rounding_deg("no digits", 48.86) == 0
    assert not states_the_truth("no digits", Coordinates(1, 2), Coordinates(1.001, 2))
    assert states_the_truth("10, 180", Coordinates(10, 180), Coordinates(10, -179.7))
