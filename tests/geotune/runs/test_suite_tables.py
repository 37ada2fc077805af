"""The rows of a suite's table: every figure of the entry, the changes since step 0, and the comparison with chance."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from geotune.runs.suite_tables import is_comparable, percent, suite_rows

TASKS: dict[str, Any] = {
    "answer_mode": "choice",
    "samples_per_second": 12.0,
    "mean_accuracy": 0.45,
    "mean_ci95": [0.4, 0.5],
    "tasks": {
        "pose_fixed": {"n": 1300, "accuracy": 0.583, "ci95": [0.52, 0.64], "chance": 0.25, "parse_rate": 1.0},
        "intra_map": {"n": 20, "accuracy": 0.1, "ci95": [0.05, 0.2], "chance": 0.25, "parse_rate": 0.5},
        "cross_map": {"n": 80, "accuracy": 0.3, "ci95": [0.2, 0.4], "chance": 0.25, "parse_rate": 0.9},
    },
}
DISTANCES: dict[str, Any] = {
    "answer_mode": "generate",
    "samples_per_second": 1.0,
    "n": 1008,
    "coverage": 0.875,
    "acc@25km": 0.25,
    "median_km": 1812.34,
    "geoscore": 2890.5,
    "answered_only": {"n": 882, "acc@25km": 2 / 7, "median_km": None, "geoscore": 3303.4},
    "right_if_swapped": 0.001,
}


def test_one_row_per_task_and_their_mean() -> None:
    pose, intra, cross, mean = suite_rows(TASKS)
    assert pose.cells == {
        "task": "pose_fixed",
        "n": "1,300",
        "chance": "25.0%",
        "accuracy": "58.3%",
        "95% from": "52.0%",
        "95% to": "64.0%",
        "since step 0": "",
        "parsed": "100.0%",
    }
    assert [row.chance for row in (pose, intra, cross)] == ["above", "below", None]
    assert [row.is_mean for row in (pose, intra, cross, mean)] == [False, False, False, True]
    assert mean.cells == {
        "task": "mean",
        "n": "1,400",
        "chance": "25.0%",
        "accuracy": "45.0%",
        "95% from": "40.0%",
        "95% to": "50.0%",
        "since step 0": "",
        "parsed": "80.0%",
    }


def test_one_row_per_figure_of_distances() -> None:
    rows = [tuple(row.cells.values()) for row in suite_rows(DISTANCES)]
    assert rows == [
        ("n", "1,008", "", "882"),
        ("coverage", "87.5%", "", ""),
        ("acc@25km", "25.0%", "", "28.6%"),
        ("median_km", "1,812.3", "", ""),
        ("geoscore", "2,890.5", "", "3,303.4"),
        ("right_if_swapped", "0.1%", "", ""),
    ]
    assert list(suite_rows(DISTANCES)[0].cells) == ["figure", "all samples", "since step 0", "answered only"]


def changes(entry: dict[str, Any], baseline: dict[str, Any]) -> dict[str, str]:
    """The column `since step 0` by the first column."""
    rows = [row.cells for row in suite_rows(entry, baseline)]
    return {cells.get("task") or cells["figure"]: cells["since step 0"] for cells in rows}


def test_changes_since_step_0() -> None:
    later = copy.deepcopy(TASKS)
    later["tasks"]["pose_fixed"]["accuracy"] += 0.125
    later["mean_accuracy"] -= 0.01
    assert changes(later, TASKS) == {"pose_fixed": "+12.5", "intra_map": "+0.0", "cross_map": "+0.0", "mean": "-1.0"}
    later = {**DISTANCES, "median_km": 812.34, "geoscore": 4000.5, "coverage": 0.9}
    assert changes(later, DISTANCES) == {
        "n": "",
        "coverage": "+2.5",
        "acc@25km": "+0.0",
        "median_km": "-1,000.0",
        "geoscore": "+1,110.0",
        "right_if_swapped": "+0.0",
    }


def test_a_figure_that_step_0_did_not_have_shows_no_change() -> None:
    baseline = {key: value for key, value in DISTANCES.items() if key != "right_if_swapped"} | {"median_km": None}
    assert {name for name, change in changes(DISTANCES, baseline).items() if not change} == {
        "n",
        "median_km",
        "right_if_swapped",
    }


@pytest.mark.parametrize("entry", [TASKS, DISTANCES])
def test_entries_of_another_mode_or_size_are_not_compared(entry: dict[str, Any]) -> None:
    other_mode = {**entry, "answer_mode": "explain_choice"}
    fewer = copy.deepcopy(entry)
    (fewer["tasks"]["intra_map"] if "tasks" in entry else fewer)["n"] = 7
    assert is_comparable(entry, copy.deepcopy(entry))
    for baseline in (other_mode, fewer):
        assert not is_comparable(entry, baseline)
        assert set(changes(entry, baseline).values()) == {""}


def test_percent() -> None:
    assert [percent(share) for share in (None, 0.0, 0.0349, 1.0)] == ["", "0.0%", "3.5%", "100.0%"]
