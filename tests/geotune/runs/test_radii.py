"""What an evaluation measured of radii, in words."""

from __future__ import annotations

from typing import Any

import pytest

from geotune.runs.radii import MeasuredRadii, measured_radii

ENTRY: dict[str, Any] = {
    **{"kind": "distance", "n": 1400, "draws": 16, "draw_temperature": 0.7},
    **{"radius_coverage_50": 0.408, "radius_coverage_90": 0.864},
}


def test_in_words() -> None:
    suites = {"geox": {"mean_accuracy": 0.5}, "far": ENTRY, "near": {**ENTRY, "draw_temperature": 1.0}}
    far, near = measured_radii({"suites": suites})
    assert far == MeasuredRadii("far", 1400, 16, 0.7, 0.408, 0.864)
    assert far.told() == (
        "on far (n=1,400) the 50% radius held the truth for 41% of the photos and the 90% radius for 86%, "
        "with 16 draws at temperature 0.7"
    )
    assert near.told().endswith("at temperature 1")
    assert near.differences(16, 1.0, 1.0) == []
    assert far.differences(8, 1.0, 0.9) == [
        "samples=8 instead of 16",
        "temperature=1 instead of 0.7",
        "top_p=0.9 instead of 1",
    ]


@pytest.mark.parametrize(
    "evaluation",
    [
        None,
        {},
        {"suites": None},
        {"suites": [ENTRY]},
        {"suites": {"far": None, "near": []}},
        {"suites": {"far": {"failed": "KeyError", "kind": "failed"}}},
        {"suites": {"far": {**ENTRY, "radius_coverage_90": "high"}}},
        {"suites": {"far": {key: value for key, value in ENTRY.items() if key != "draws"}}},
    ],
)
def test_what_measured_nothing(evaluation: Any) -> None:
    assert measured_radii(evaluation) == []
