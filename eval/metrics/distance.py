"""Figures of answers that are coordinates.

Missing answers count: over all samples a missing one is beyond every threshold, scores 0, and is as far off as the
Earth allows. The published code of IMAGEO-Bench drops them; the figures over answered samples only stand beside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from geotune.geo import EARTH_RADIUS_KM
from geotune.tasks.geolocate import GEOSCORE_SCALE_KM

THRESHOLDS_KM = (1, 25, 200, 750, 2500)
FARTHEST_KM = math.pi * EARTH_RADIUS_KM


def distance_metrics(errors_km: npt.ArrayLike) -> dict[str, Any]:
    """Figures of (N,) errors in km, N >= 1; NaN or infinity where there is no answer.

    The key `answered_only` holds the same figures without the missing ones (None when all are missing).
    """
    errors = np.asarray(errors_km, dtype=np.float64)
    if errors.ndim != 1 or errors.size == 0:
        raise ValueError(f"errors of shape {errors.shape}: expected (N,), N >= 1")
    answered = np.isfinite(errors)
    everything = _figures(np.where(answered, errors, FARTHEST_KM), np.where(answered, geoscore(errors), 0.0))
    some = errors[answered]
    return {
        "n": int(errors.size),
        "coverage": float(answered.mean()),
        **everything,
        "answered_only": {"n": int(some.size), **_figures(some, geoscore(some))},
    }


def geoscore(errors_km: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """5000 e^(-d / 1492.7), elementwise."""
    return 5000.0 * np.exp(-errors_km / GEOSCORE_SCALE_KM)


def _figures(errors: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> dict[str, float | None]:
    empty = errors.size == 0
    figures: dict[str, float | None] = {
        f"acc@{km}km": None if empty else float((errors <= km).mean()) for km in THRESHOLDS_KM
    }
    figures["median_km"] = None if empty else float(np.median(errors))
    figures["mean_km"] = None if empty else float(errors.mean())
    figures["geoscore"] = None if empty else float(scores.mean())
    return figures
