"""Figures of tasks whose answers are coordinates.

Figures over all samples count a missing answer as beyond every threshold, as a score of 0, and as an error of half the
Earth's circumference. The published code of IMAGEO-Bench drops missing answers, so figures over the answered samples
only are given as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from geotune.geo import EARTH_RADIUS_KM
from geotune.tasks.geolocate import GEOSCORE_SCALE_KM

THRESHOLDS_KM = (1, 25, 200, 750, 2500)
"""Distances within which an answer counts as accurate."""
FARTHEST_KM = math.pi * EARTH_RADIUS_KM
"""Greatest possible error: half the Earth's circumference."""


def distance_metrics(errors_km: npt.ArrayLike) -> dict[str, Any]:
    """Compute figures from errors (N,) in km, N >= 1, with NaN or infinity for a missing answer.

    The key `answered_only` holds the same figures over the answered samples (None if there are none). Raises ValueError
    for errors of any other shape.
    """
    errors = np.asarray(errors_km, dtype=np.float64)
    if errors.ndim != 1 or errors.size == 0:
        raise ValueError(f"errors of shape {errors.shape}: expected (N,), N >= 1")
    answered = np.isfinite(errors)
    everything = _figures(np.where(answered, errors, FARTHEST_KM), np.where(answered, geoscore(errors), 0.0))
    answered_errors = errors[answered]
    return {
        "n": int(errors.size),
        "coverage": float(answered.mean()),
        **everything,
        "answered_only": {
            "n": int(answered_errors.size),
            **_figures(answered_errors, geoscore(answered_errors)),
        },
    }


def geoscore(errors_km: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Geoscore, 5000 e^(-d / 1492.7), of each error d in km."""
    return 5000.0 * np.exp(-errors_km / GEOSCORE_SCALE_KM)


def _figures(errors: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Compute the figures of (N,) errors in km and their scores; all are None if N = 0."""
    empty = errors.size == 0
    figures: dict[str, float | None] = {
        f"acc@{km}km": None if empty else float((errors <= km).mean()) for km in THRESHOLDS_KM
    }
    figures["median_km"] = None if empty else float(np.median(errors))
    figures["mean_km"] = None if empty else float(errors.mean())
    figures["geoscore"] = None if empty else float(scores.mean())
    return figures
