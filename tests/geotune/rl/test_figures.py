"""Figures of a rollout, on rows made by hand."""

from __future__ import annotations

import math

import pytest

from geotune.geo import haversine_km
from geotune.rl.figures import CompletionRow, rollout_figures
from geotune.tasks.coordinates import Coordinates

PARIS, LYON, TOKYO = Coordinates(48.86, 2.35), Coordinates(45.76, 4.84), Coordinates(35.68, 139.69)
KM = haversine_km(PARIS.lat, PARIS.lon, LYON.lat, LYON.lon)


def row(
    slot: int, number: int, guess: Coordinates | None, truth: Coordinates | None = PARIS, **changes: object
) -> CompletionRow:
    reward = 0.5 if guess is None else 1.0
    fields = {
        "slot": slot,
        "draw": 0,
        "id": f"s{slot}",
        "number": number,
        "tokens": 10 + number,
        "stopped": number != 3,
        "reward": reward,
        "terms": {"geodesic": reward, "format": 1.0},
        "reasons": ("missing",) if guess is None else (),
        "guess": guess,
        "truth": truth,
        "is_dead": False,
    }
    return CompletionRow(**(fields | changes))  # type: ignore[arg-type]


def test_the_figures_of_two_groups() -> None:
    """Group 0, of Paris: Paris three times and one unread. Group 1, of Tokyo: Lyon four times, dead."""
    rows = [row(0, n, PARIS) for n in range(3)] + [row(0, 3, None)]
    rows += [row(1, n, LYON, TOKYO, is_dead=True) for n in range(4)]
    found = rollout_figures(rows)
    assert found["reward"] == pytest.approx(7.5 / 8)
    assert found["reward_std"] == pytest.approx((0.5 * math.sqrt(3 / 16) + 0) / 2)
    assert found["term_geodesic"] == found["reward"]
    assert found["term_format"] == 1
    assert found["dead_groups"] == 0.5
    assert found["length"] == 11.5
    assert found["unfinished"] == 0.25
    assert found["reason_missing"] == 1 / 8
    assert found["read_rate"] == 7 / 8
    far = haversine_km(LYON.lat, LYON.lon, TOKYO.lat, TOKYO.lon)
    assert (found["km_10"], found["km_50"], found["km_90"]) == (0, pytest.approx(far), pytest.approx(far))
    assert found["commonest_guess"] == pytest.approx(4 / 7)
    assert found["commonest_truth"] == 0.5
    # Guesses about the other photo: Paris for Tokyo three times, and Lyon for Paris four times.
    assert found["prior_km_50"] == pytest.approx(KM)
    # Three guesses are too few for a radius, and Tokyo is not in Lyon.
    assert (found["coverage_50"], found["coverage_90"]) == (0, 0)


def test_coverage_is_of_the_radii_of_a_group() -> None:
    covered = [row(0, n, PARIS) for n in range(4)]
    half = [row(1, n, at, LYON) for n, at in enumerate([PARIS, PARIS, PARIS, LYON])]
    found = rollout_figures([*covered, *half])
    assert found["coverage_50"] == 0.5
    assert found["coverage_90"] == 1


def test_answers_that_are_no_places_have_no_figures_of_places() -> None:
    found = rollout_figures([row(0, n, None, None) for n in range(4)])
    assert "km_50" not in found
    assert "read_rate" not in found


def test_figures_without_a_value_are_nan() -> None:
    found = rollout_figures([row(0, n, None) for n in range(4)])
    assert math.isnan(found["km_50"])
    assert math.isnan(found["commonest_guess"])
    assert math.isnan(found["prior_km_50"])
    assert found["read_rate"] == 0
