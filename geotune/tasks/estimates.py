"""Estimating a position from several answers, with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geotune.geo import geodesic_km
from geotune.tasks.coordinates import Coordinates

FEWEST_FOR_RADIUS = 4
"""Number of readable answers below which their scatter says nothing, so that there is no radius."""


@dataclass(frozen=True)
class Estimate:
    """An estimated position, and how far the answers scatter around it."""

    at: Coordinates
    """The medoid of the answers: the one with the smallest sum of geodesic distances to the others."""
    radius_50_km: float | None
    """Radius around `at` that contains half of the answers, the medoid included; None below `FEWEST_FOR_RADIUS`."""
    radius_90_km: float | None
    """Radius around `at` that contains 90% of the answers; None below `FEWEST_FOR_RADIUS`."""


def estimate(answers: Sequence[Coordinates]) -> Estimate | None:
    """Return the medoid of `answers` (the first one of a tie) and the radii around it; None if there are no answers.

    There are no radii if there are fewer answers than `FEWEST_FOR_RADIUS`.
    """
    if not answers:
        return None
    lat, lon = np.array([[at.lat, at.lon] for at in answers]).T
    distances = geodesic_km(lat[:, None], lon[:, None], lat, lon)
    medoid = int(np.argmin(distances.sum(axis=1)))
    if len(answers) < FEWEST_FOR_RADIUS:
        return Estimate(answers[medoid], None, None)
    sorted_km = np.sort(distances[medoid])
    radius_50_km, radius_90_km = (float(sorted_km[math.ceil(share * len(answers)) - 1]) for share in (0.5, 0.9))
    return Estimate(answers[medoid], radius_50_km, radius_90_km)
