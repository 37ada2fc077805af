"""Distances, bearings, compass points and web mercator, against published figures and pyproj."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from geotune.geo import (
    COMPASS_POINTS,
    compass_to_heading,
    geodesic_km,
    haversine_km,
    heading_to_compass,
    initial_bearing_deg,
    mercator_lat_lon,
    mercator_tile_xy,
    metres_per_pixel,
    wrap_longitude,
)

unhurried = settings(deadline=None)  # machines share their cores
LATS = st.floats(-90, 90)
LONS = st.floats(-180, 180)
PARIS, NEW_YORK, SYDNEY = (48.8566, 2.3522), (40.7128, -74.0060), (-33.8688, 151.2093)


def test_importing_needs_neither_pyproj_nor_a_model_library() -> None:
    program = (
        "import sys, geotune.geo, geotune.sample; "
        "print(sorted({'torch', 'transformers', 'pyproj', 'torchvision'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("here", "there"), [(PARIS, NEW_YORK), (NEW_YORK, SYDNEY), (SYDNEY, PARIS), (PARIS, PARIS)])
def test_geodesic_is_the_wgs84_distance(here: tuple[float, float], there: tuple[float, float]) -> None:
    _, _, metres = Geod(a=6378137.0, rf=298.257223563).inv(here[1], here[0], there[1], there[0])
    assert geodesic_km(*here, *there) == pytest.approx(metres / 1000, rel=1e-12, abs=1e-12)


def test_geodesic_of_known_arcs() -> None:
    # One degree along the equator, and the quarter meridian of WGS84.
    assert geodesic_km(0, 0, 0, 1) == pytest.approx(111.319491, abs=1e-6)
    assert geodesic_km(0, 0, 90, 0) == pytest.approx(10001.965729, abs=1e-6)


def test_haversine_of_known_arcs() -> None:
    degree = math.pi * 6371.0 / 180
    assert haversine_km(0, 0, 0, 1) == pytest.approx(degree)
    assert haversine_km(-45, 7, 45, 7) == pytest.approx(90 * degree)
    assert haversine_km(0, 0, 0, 180) == pytest.approx(180 * degree)
    assert haversine_km(60, 179.5, 60, -179.5) == pytest.approx(haversine_km(60, -0.5, 60, 0.5))


@unhurried
@given(LATS, LONS, LATS, LONS)
def test_haversine_is_a_bounded_symmetric_distance(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    distance = haversine_km(lat1, lon1, lat2, lon2)
    assert 0 <= distance <= math.pi * 6371.0 + 1e-9
    assert distance == pytest.approx(haversine_km(lat2, lon2, lat1, lon1), abs=1e-9)
    assert distance == pytest.approx(haversine_km(lat1, lon1 + 360, lat2, lon2), abs=1e-4)


@unhurried
@given(LATS, LONS, LATS, LONS)
def test_haversine_stays_near_the_geodesic(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    geodesic = geodesic_km(lat1, lon1, lat2, lon2)
    assert haversine_km(lat1, lon1, lat2, lon2) == pytest.approx(geodesic, rel=6e-3, abs=1e-6)


@pytest.mark.parametrize("distance", [haversine_km, geodesic_km, initial_bearing_deg])
def test_arrays_broadcast_and_equal_single_points(distance) -> None:
    lats, lons = np.array([[10.0], [-20.0], [80.0]]), np.array([5.0, -170.0])
    table = distance(lats, lons, 48.0, 2.0)
    assert table.shape == (3, 2)
    assert table.dtype == np.float64
    singles = [[distance(float(lat), float(lon), 48.0, 2.0) for lon in lons] for lat in lats[:, 0]]
    np.testing.assert_array_equal(table, singles)
    assert isinstance(distance(1, 2, 3, 4), float)
    assert distance([], [], [], []).shape == (0,)


def test_inputs_are_left_alone() -> None:
    lat, lon = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    geodesic_km(lat, lon, lat[::-1], lon[::-1])
    assert lat.tolist() == [1.0, 2.0]
    assert lon.tolist() == [3.0, 4.0]


def test_a_missing_coordinate_gives_nan_not_an_error() -> None:
    assert math.isnan(haversine_km(math.nan, 0, 0, 0))
    assert np.isnan(geodesic_km([1.0, math.nan], 0, 0, 0)).tolist() == [False, True]


@pytest.mark.parametrize(("there", "bearing"), [((1, 0), 0), ((0, 1), 90), ((-1, 0), 180), ((0, -1), 270), ((0, 0), 0)])
def test_bearing_of_the_cardinal_directions(there: tuple[float, float], bearing: float) -> None:
    assert initial_bearing_deg(0, 0, *there) == pytest.approx(bearing)


def test_bearing_crosses_the_date_line_and_matches_the_geodesic() -> None:
    assert initial_bearing_deg(0, 179.5, 0, -179.5) == pytest.approx(90)
    for here, there in ((PARIS, NEW_YORK), (SYDNEY, PARIS)):
        azimuth, _, _ = Geod(ellps="WGS84").inv(here[1], here[0], there[1], there[0])
        assert initial_bearing_deg(*here, *there) == pytest.approx(azimuth % 360, abs=0.3)


@unhurried
@given(LATS, LONS, LATS, LONS)
def test_bearing_is_below_360(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    assert 0 <= initial_bearing_deg(lat1, lon1, lat2, lon2) < 360


def test_headings_and_compass_points_agree() -> None:
    for i, point in enumerate(COMPASS_POINTS):
        assert compass_to_heading(point) == 45.0 * i
        assert heading_to_compass(45.0 * i, 8) == point
    assert [heading_to_compass(h) for h in (0, 90, 180, 270)] == ["N", "E", "S", "W"]


@pytest.mark.parametrize(
    ("heading", "of_4", "of_8"),
    [
        (44.9, "N", "NE"),
        (45, "E", "NE"),
        (22.4, "N", "N"),
        (22.5, "N", "NE"),
        (314.9, "W", "NW"),
        (315, "N", "NW"),
        (337.5, "N", "N"),
        (359.9, "N", "N"),
        (-90, "W", "W"),
        (-1e-15, "N", "N"),
        (810, "E", "E"),
    ],
)
def test_a_heading_belongs_to_the_nearest_point(heading: float, of_4: str, of_8: str) -> None:
    assert heading_to_compass(heading) == of_4
    assert heading_to_compass(heading, 8) == of_8


@unhurried
@given(st.floats(-1e6, 1e6), st.sampled_from([4, 8]))
def test_no_compass_point_is_farther_than_half_a_step(heading: float, points) -> None:
    away = abs(heading - compass_to_heading(heading_to_compass(heading, points)))
    assert min(away % 360, 360 - away % 360) <= 180 / points + 1e-6


@pytest.mark.parametrize("name", ["NE", "ne", "North-East", "northeast", "north east", " NORTH_EAST "])
def test_spellings_of_a_compass_point(name: str) -> None:
    assert compass_to_heading(name) == 45.0


@pytest.mark.parametrize("name", ["", "NNE", "EN", "up", "N, E", "90"])
def test_other_names_are_no_compass_points(name: str) -> None:
    with pytest.raises(ValueError, match="compass point"):
        compass_to_heading(name)


def test_a_compass_has_4_or_8_points_and_a_heading_is_finite() -> None:
    with pytest.raises(ValueError, match="points=16"):
        heading_to_compass(0, 16)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a heading"):
        heading_to_compass(math.inf)


def test_longitudes_wrap_into_the_half_open_range() -> None:
    wrapped = wrap_longitude([0, 179.5, 180, -180, 181, -181, 540, 720.25, -180 - 1e-14])
    np.testing.assert_allclose(wrapped, [0, 179.5, -180, -180, -179, 179, -180, 0.25, -180])
    assert isinstance(wrap_longitude(10), float)


@unhurried
@given(st.floats(-1e5, 1e5))
def test_wrapping_keeps_the_meridian_and_happens_once(lon: float) -> None:
    wrapped = wrap_longitude(lon)
    assert -180 <= wrapped < 180
    assert wrap_longitude(wrapped) == wrapped
    assert abs((wrapped - lon) / 360 - round((wrapped - lon) / 360)) < 1e-9
    if -180 <= lon < 180:
        assert wrapped == lon


def test_ground_resolution_has_its_published_figures() -> None:
    assert metres_per_pixel(0, 18) == pytest.approx(0.5972, abs=5e-5)
    assert metres_per_pixel(41.88, 20) == pytest.approx(0.1112, abs=5e-5)
    assert metres_per_pixel([0.0, 60.0], 0).tolist() == pytest.approx([156543.0339, 78271.5170], abs=1e-4)


def test_tiles_are_cut_from_epsg_3857() -> None:
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-85, 85, 200), rng.uniform(-180, 180, 200)
    east, north = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    x, y = mercator_tile_xy(lat, lon, 18)
    metres_per_tile = metres_per_pixel(0, 18) * 256
    half = math.pi * 6378137.0
    np.testing.assert_allclose(x * metres_per_tile - half, east, atol=1e-5)
    np.testing.assert_allclose(half - y * metres_per_tile, north, atol=1e-5)


def test_a_pixel_spans_its_ground_resolution() -> None:
    lat, lon, zoom = 41.88, -87.63, 20
    x, y = mercator_tile_xy(lat, lon, zoom)
    east_lat, east_lon = mercator_lat_lon(x + 1 / 256, y, zoom)
    assert geodesic_km(lat, lon, east_lat, east_lon) * 1000 == pytest.approx(metres_per_pixel(lat, zoom), rel=4e-3)


def test_corners_of_the_world() -> None:
    edge = 85.0511287798066
    np.testing.assert_allclose(mercator_tile_xy(edge, -180, 3), (0, 0), atol=1e-9)
    np.testing.assert_allclose(mercator_tile_xy(-edge, 180, 3), (8, 8), atol=1e-9)
    np.testing.assert_allclose(mercator_tile_xy(0, 0, 3), (4, 4))


@unhurried
@given(st.floats(-85, 85), LONS, st.integers(0, 22))
def test_mercator_and_back(lat: float, lon: float, zoom: int) -> None:
    there_and_back = mercator_lat_lon(*mercator_tile_xy(lat, lon, zoom), zoom)
    assert there_and_back == pytest.approx((lat, lon), abs=1e-8)
