"""The rows of a suite's table and their text: figures, changes since step 0, and the comparison with chance."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from geotune.runs.suite_results import DRAW_FIGURES, Cell, SuiteResult, distance_rows, rows_of, task_rows
from geotune.runs.suite_tables import cell_text, changes_since, is_comparable, table_of

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


def without(entry: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}


def as_new(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry of an older version as it is written now."""
    own = without(entry, "answer_mode", "samples_per_second")
    kind, rows = ("tasks", task_rows(own)) if "tasks" in own else ("distance", distance_rows(own))
    head = {key: entry[key] for key in ("answer_mode", "samples_per_second")}
    return json.loads(json.dumps(head | SuiteResult(kind, rows, own).entry()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("entry", [TASKS, DISTANCES])
def test_an_entry_of_an_older_version_has_the_same_rows(entry: dict[str, Any]) -> None:
    new = as_new(entry)
    assert without(new, "kind", "headline", "rows") == entry
    assert rows_of(new) == rows_of(entry)
    assert table_of(new) == table_of(entry)
    assert is_comparable(new, entry)


def test_one_row_per_task_and_their_mean() -> None:
    pose, intra, cross, mean = rows_of(TASKS)
    assert table_of(TASKS) == [
        ["task", "n", "accuracy", "95% from", "95% to", "chance", "parsed"],
        ["pose_fixed", "1,300", "58.3%", "52.0%", "64.0%", "25.0%", "100.0%"],
        ["intra_map", "20", "10.0%", "5.0%", "20.0%", "25.0%", "50.0%"],
        ["cross_map", "80", "30.0%", "20.0%", "40.0%", "25.0%", "90.0%"],
        ["mean", "1,400", "45.0%", "40.0%", "50.0%", "25.0%", "80.0%"],
    ]
    assert [row.side_of_chance for row in (pose, intra, cross)] == ["above", "below", None]
    assert [row.is_summary for row in (pose, intra, cross, mean)] == [False, False, False, True]
    assert [row.figure for row in (pose, mean)] == ["pose_fixed/accuracy", "mean_accuracy"]


def test_one_row_per_figure_of_distances() -> None:
    assert table_of(DISTANCES) == [
        ["figure", "all samples", "answered only"],
        ["n", "1,008", "882"],
        ["coverage", "87.5%", ""],
        ["acc@25km", "25.0%", "28.6%"],
        ["median_km", "1,812.3", ""],
        ["geoscore", "2,890.5", "3,303.4"],
        ["right_if_swapped", "0.1%", ""],
    ]
    assert [row.figure for row in rows_of(DISTANCES)][:2] == [None, "coverage"]


def changes(entry: dict[str, Any], baseline: dict[str, Any]) -> dict[str, str]:
    """The change of each row by its name; of entries as they are written now, too."""
    found = changes_since(entry, baseline)
    assert changes_since(as_new(entry), as_new(baseline)) == changes_since(as_new(entry), baseline) == found
    return dict(zip((row.name for row in rows_of(entry)), found, strict=True))


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


DRAWN: dict[str, Any] = {
    **DISTANCES,
    **{"draws": 16, "draw_temperature": 0.7, "draws_read": 0.995, "medoid_median_km": 1905.5},
    **{"radius_coverage_50": 0.41, "radius_coverage_90": 0.86, "radius_50_km": 1100.0, "radius_90_km": None},
}


def test_figures_of_draws_say_how_many_and_how_drawn() -> None:
    assert table_of(DRAWN)[:7] == table_of(DISTANCES)
    assert table_of(DRAWN)[7:] == [
        ["draws", "16", ""],
        ["draw_temperature", "0.700", ""],
        ["draws_read", "99.5%", ""],
        ["medoid_median_km", "1,905.5", ""],
        ["radius_coverage_50", "41.0%", ""],
        ["radius_coverage_90", "86.0%", ""],
        ["radius_50_km", "1,100.0", ""],
        ["radius_90_km", "", ""],
    ]
    assert [row.figure for row in rows_of(DRAWN)][7:10] == [None, "draws_read", "medoid_median_km"]


@pytest.mark.parametrize("other", [{"draws": 8}, {"draw_temperature": 1.0}, None])
def test_figures_of_draws_are_compared_only_with_those_drawn_alike(other: dict[str, Any] | None) -> None:
    later = {**DRAWN, "radius_coverage_90": 0.9, "median_km": 812.34}
    alike = changes(later, DRAWN)
    assert (alike["radius_coverage_90"], alike["median_km"], alike["draws"]) == ("+4.0", "-1,000.0", "")
    found = changes(later, DISTANCES if other is None else {**DRAWN, **other})
    assert found["median_km"] == "-1,000.0"
    assert {found[name] for name in DRAW_FIGURES} == {""}
    assert is_comparable(later, DISTANCES)


def test_other_tasks_are_not_compared() -> None:
    tasks = copy.deepcopy(TASKS)
    tasks["tasks"]["cross_map_random"] = tasks["tasks"].pop("cross_map")
    assert set(changes(tasks, TASKS).values()) == {""}


def test_text_of_a_cell() -> None:
    assert [cell_text(Cell(share, "share")) for share in (None, 0.0, 0.0349, 1.0)] == ["", "0.0%", "3.5%", "100.0%"]
    assert cell_text(Cell(-1234.56, "number")) == "-1,234.6"
    assert cell_text(Cell(1234.5678, "decimal")) == "1,234.568"
    assert cell_text(Cell(12345, "count")) == "12,345"
    assert cell_text(Cell("north")) == "north"
    assert table_of({"answer_mode": "generate", "kind": "own", "rows": []}) == []
