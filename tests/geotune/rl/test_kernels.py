"""Kernels of distance: bounds, monotony, distances anywhere on Earth, positive definiteness, and how theta tightens."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.geo import EARTH_RADIUS_KM, haversine_km
from geotune.rl.kernels import (
    KERNELS,
    MULTISCALE_KM,
    POSITIVE_DEFINITE,
    SCALED,
    Tightening,
    exponential,
    kernel,
    multiscale,
    piecewise,
    sigmoid,
    steps,
)

unhurried = settings(deadline=None)  # machines share their cores
NAMES = st.sampled_from(sorted(KERNELS))
DISTANCES = st.floats(0, math.inf)
THETAS = st.floats(1e-300, 1e300)
LATS, LONS = st.floats(-90, 90), st.floats(-180, 180)
HALF_WAY_ROUND_KM = math.pi * EARTH_RADIUS_KM


@pytest.fixture(autouse=True)
def _no_warnings() -> object:
    """Overflows and invalid operations of numpy are errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@unhurried
@given(NAMES, DISTANCES, DISTANCES, THETAS)
def test_values_lie_between_0_and_1_and_never_grow_with_the_distance(
    name: str, one: float, other: float, theta: float
) -> None:
    near, far = kernel(name, sorted((one, other)), theta)
    assert 0 <= far <= 1
    assert 0 <= near <= 1
    assert far <= near + 1e-15  # numpy's exp is right to an ulp, not monotone to an ulp


@given(NAMES, THETAS)
def test_the_place_itself_is_worth_exactly_1(name: str, theta: float) -> None:
    assert kernel(name, 0.0, theta) == 1.0


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("theta", [5e-324, 1.0, 750.0, 1.7e308])
def test_no_distance_overflows(name: str, theta: float) -> None:
    """Failure (b) of released code: e^(d/theta) overflows beyond d/theta = 709."""
    values = kernel(name, [0.0, 5e-324, 709.0, 710.0, 1e6, 1e300, 1.7e308, math.inf], theta)
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) <= 0)


def test_the_stable_sigmoid_is_the_published_one() -> None:
    ratios = np.array([0.0, 1e-9, 0.3, 1.0, 36.0, 700.0])
    assert sigmoid(ratios * 750, 750.0) == pytest.approx(2 / (1 + np.exp(ratios)), rel=1e-14)


@given(st.floats(1e-3, 2e4))
def test_a_small_theta_leaves_only_the_place_itself_and_a_large_one_the_whole_earth(d_km: float) -> None:
    for scaled in (exponential, sigmoid):
        assert scaled(d_km, 1e-12) == 0.0
        assert scaled(d_km, 1e15) == pytest.approx(1.0, abs=1e-10)
        assert scaled(d_km, 2.0 * 750) >= scaled(d_km, 750.0)


@unhurried
@given(NAMES, LATS, LONS, LATS, LONS)
def test_two_places_are_worth_the_same_in_both_directions(
    name: str, lat1: float, lon1: float, lat2: float, lon2: float
) -> None:
    there, back = haversine_km(lat1, lon1, lat2, lon2), haversine_km(lat2, lon2, lat1, lon1)
    values = kernel(name, [there, back], 750.0)
    assert np.all((values >= 0) & (values <= 1))
    assert abs(there - back) < 1e-6
    if name != "steps":  # a step may lie between two distances that differ by rounding
        assert values[0] == pytest.approx(values[1], abs=1e-6)


@unhurried
@given(NAMES, LATS, LONS)
def test_the_date_line_and_the_poles_are_places_like_others(name: str, lat: float, lon: float) -> None:
    def worth(*places: float) -> float:
        return float(kernel(name, haversine_km(*places), 750.0))

    assert worth(lat, 180.0, lat, -180.0) == pytest.approx(1.0, abs=1e-9)
    assert worth(90.0, lon, 90.0, -lon) == pytest.approx(1.0, abs=1e-9)
    assert worth(-90.0, lon, -90.0, 0.0) == pytest.approx(1.0, abs=1e-9)
    # An arc of 0.2 degrees at most, whether the date line lies in it or not; 7e-8 km is what haversine can lose.
    across, beside = (haversine_km(lat, west, lat, east) for west, east in ((179.9, -179.9), (10.0, 10.2)))
    assert across == pytest.approx(beside, abs=1e-6)


@unhurried
@given(NAMES, LATS, LONS)
def test_nothing_is_worth_less_than_the_antipode(name: str, lat: float, lon: float) -> None:
    antipode = (-lat, lon - 180 if lon > 0 else lon + 180)
    d_km = haversine_km(lat, lon, *antipode)
    assert d_km == pytest.approx(HALF_WAY_ROUND_KM, abs=1e-3)
    assert kernel(name, d_km, 750.0) <= kernel(name, 0.999 * HALF_WAY_ROUND_KM, 750.0)


def test_published_values() -> None:
    assert piecewise([375, 750, 1625, 2500, 11250, 20000, 20015]) == pytest.approx([0.75, 0.5, 0.35, 0.2, 0.1, 0, 0])
    limits = np.array([0.5, 2, 10, 25, 200, 750])
    assert steps(limits).tolist() == [1, 0.8, 0.6, 0.4, 0.2, 0.1]
    assert steps(np.nextafter(limits, np.inf)).tolist() == [0.8, 0.6, 0.4, 0.2, 0.1, 0]
    assert multiscale(100.0) == pytest.approx(np.mean([math.exp(-100 / scale) for scale in MULTISCALE_KM]))


@pytest.mark.parametrize(("name", "flat"), [("multiscale", False), ("steps", True)])
def test_the_default_tells_distances_apart_at_every_range(name: str, flat: bool) -> None:
    """Failure (d) of released code: no gradient at long range. A guess 1% nearer must earn measurably more."""
    d_km = np.geomspace(0.1, HALF_WAY_ROUND_KM, 60)
    gains = kernel(name, 0.99 * d_km, 750.0) - kernel(name, d_km, 750.0)
    assert (gains.min() > 1e-4) is not flat
    assert flat is bool(np.any(gains[d_km > 1000] == 0))


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("bad", [math.nan, -1.0, [0.0, math.nan], [[1.0, -1e-9]]])
def test_what_is_no_distance_is_refused(name: str, bad: object) -> None:
    with pytest.raises(ValueError, match="is no distance"):
        kernel(name, bad, 750.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(SCALED))
@pytest.mark.parametrize("theta", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_scale_is_refused(name: str, theta: float) -> None:
    with pytest.raises(ValueError, match="theta_km="):
        kernel(name, 1.0, theta)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_shape_stays(name: str) -> None:
    assert kernel(name, np.zeros((2, 0, 3)), 1.0).shape == (2, 0, 3)
    assert kernel(name, np.ones((2, 3), dtype=np.float32), 1.0).dtype == np.float64
    assert kernel(name, 3, 1.0).shape == ()


def legendre_coefficients(values: Callable[[np.ndarray], np.ndarray], degrees: int = 200) -> np.ndarray:
    """Return c_l = (2l+1)/2 times the integral of k(R a) P_l(cos a) sin a over the angles a, for l = 0 ... `degrees`.

    The kernel is positive definite on the sphere if and only if none of them is negative (Schoenberg 1942). Panels with
    24 Gauss nodes each, narrower towards angle 0, resolve a scale of 1 km as well as P_200.
    """
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = np.concatenate([[0], np.geomspace(1e-6, 0.02, 60), np.linspace(0.02, math.pi, 401)[1:]])
    half, middle = np.diff(edges)[:, None] / 2, (edges[:-1] + edges[1:])[:, None] / 2
    angles = (half * nodes + middle).ravel()
    polynomials = np.polynomial.legendre.legvander(np.cos(angles), degrees)
    integrals = (values(EARTH_RADIUS_KM * angles) * np.sin(angles) * (half * weights).ravel()) @ polynomials
    return np.asarray((2 * np.arange(degrees + 1) + 1) / 2 * integrals)


@pytest.mark.parametrize("theta", [1.0, 25.0, 200.0, 750.0, 5000.0, 1e5])
@pytest.mark.parametrize("name", sorted(POSITIVE_DEFINITE))
def test_the_kernels_of_proper_scores_are_positive_definite_on_the_sphere(name: str, theta: float) -> None:
    """The smallest true coefficient of all these is 8e-9 (sigmoid of 100,000 km); the quadrature errs by 1e-14."""
    coefficients = legendre_coefficients(lambda d: kernel(name, d, theta))
    assert coefficients.min() > 1e-12
    assert coefficients.sum() < 1  # the sum over all degrees is k(0) = 1: the normalisation is right


@pytest.mark.parametrize(("name", "lowest"), [("piecewise", -1.17e-3), ("steps", -2.87e-3)])
def test_the_other_kernels_are_not(name: str, lowest: float) -> None:
    assert name not in POSITIVE_DEFINITE
    assert legendre_coefficients(lambda d: kernel(name, d, 750.0)).min() == pytest.approx(lowest, rel=0.02)


def tightened(means: list[float], tightening: Tightening | None = None) -> Tightening:
    tightening = tightening or Tightening(800.0, 50.0)
    for mean in means:
        tightening.note(mean)
    return tightening


def test_theta_is_halved_once_the_reward_has_settled() -> None:
    assert tightened([0.5] * 39).theta_km == 800
    assert tightened([0.5] * 40).theta_km == 400
    assert tightened([0.5] * 20 + [0.5049] * 20).theta_km == 400
    assert tightened([0.5] * 20 + [0.5051] * 20).theta_km == 800
    assert tightened([0.5] * 20 + [0.4] * 20).theta_km == 400  # a reward that falls does not rise


def test_theta_stays_while_the_reward_rises_and_then_tightens() -> None:
    rising = [0.1 * 1.005**update for update in range(200)]  # 10% in 20 updates
    tightening = tightened(rising)
    assert tightening.theta_km == 800
    assert tightened([rising[-1]] * 19, tightening).theta_km == 800
    assert tightened([rising[-1]] * 19, tightening).theta_km == 400


def test_the_window_starts_anew_and_the_least_theta_holds() -> None:
    tightening, thetas = Tightening(800.0, 150.0), []
    for _ in range(5):
        thetas.append(tightened([0.5] * 40, tightening).theta_km)
    assert thetas == [400, 200, 150, 150, 150]
    assert len(tightening.recent) <= 40


def test_a_reward_of_0_has_not_settled() -> None:
    assert tightened([0.0] * 100).theta_km == 800


@given(st.lists(st.floats(0, 1), max_size=150), st.integers(0, 150))
def test_its_state_survives_json_at_any_point(means: list[float], cut: int) -> None:
    whole, first = tightened(means), tightened(means[:cut])
    resumed = Tightening(800.0, 50.0)
    resumed.load_state(json.loads(json.dumps(first.state())))
    assert tightened(means[cut:], resumed) == whole


def test_a_mean_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="no mean reward"):
        Tightening(800.0, 50.0).note(math.nan)
