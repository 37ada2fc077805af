from __future__ import annotations

import math

import numpy as np
import pytest

from eval.metrics.distance import FARTHEST_KM, distance_metrics, geoscore


def test_by_hand() -> None:
    figures = distance_metrics([0.5, 1.0, 25.0, 2500.0, math.nan])
    assert figures["n"] == 5
    assert figures["coverage"] == 0.8
    # Thresholds hold with equality; the missing answer is beyond all of them.
    assert [figures[f"acc@{km}km"] for km in (1, 25, 200, 750, 2500)] == [0.4, 0.6, 0.6, 0.6, 0.8]
    assert figures["median_km"] == 25.0
    assert figures["mean_km"] == pytest.approx((2526.5 + FARTHEST_KM) / 5)
    scores = [5000 * math.exp(-d / 1492.7) for d in (0.5, 1, 25, 2500)]
    assert figures["geoscore"] == pytest.approx(sum(scores) / 5)
    answered = figures["answered_only"]
    assert answered["n"] == 4
    assert answered["acc@2500km"] == 1.0
    assert answered["median_km"] == 13.0
    assert answered["geoscore"] == pytest.approx(sum(scores) / 4)


def test_nothing_answered() -> None:
    figures = distance_metrics([math.nan, math.inf])
    assert (figures["coverage"], figures["acc@2500km"], figures["geoscore"]) == (0.0, 0.0, 0.0)
    assert figures["median_km"] == pytest.approx(20015.09, abs=0.01)
    assert set(figures["answered_only"].values()) == {0, None}


def test_geoscore_is_best_at_home() -> None:
    assert geoscore(np.array([0.0, 1492.7])) == pytest.approx([5000, 5000 / math.e])


def test_refuses_nothing() -> None:
    with pytest.raises(ValueError, match="shape"):
        distance_metrics([])
