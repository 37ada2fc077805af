"""The tables of an evaluation in the terminal."""

from __future__ import annotations

import copy
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.evaluator import Evaluator
from eval.report.terminal import evaluation_tables
from eval.suites import CrossViewSuite, DistanceSuite
from geotune.config.parts import EvaluatorConfig
from geotune.runs.suite_results import Cell, SuiteResult, SuiteRow, rows_of
from geotune.runs.suite_tables import cell_text, changes_since
from geotune.sample import Sample
from geotune.tasks import CROSS_VIEW_TASKS, get_task


def shown(*arguments: Any) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(evaluation_tables(*arguments))
    return console.export_text()


@pytest.fixture
def result(city: Path, fake: Any) -> dict[str, Any]:
    def say(question: Sample) -> str:
        if question.task == "geolocate":
            return '{"latitude": 10, "longitude": 20}' if "/3/" in question.id else "?"
        return get_task(question.task).target(get_task(question.task).options[1])

    suites = {"geox": CrossViewSuite(path=str(city)), "geolocate": DistanceSuite(path=str(city))}
    return Evaluator(EvaluatorConfig(suites=suites)).run(fake(say), 0)[0]


def test_table_shows_figures_of_every_suite(result: dict[str, Any]) -> None:
    text = shown(result)
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    low, high = (f"{100 * bound:.1f}%" for bound in result["suites"]["geox"]["tasks"]["pose_fixed"]["ci95"])
    assert lines["pose_fixed"].split() == ["pose_fixed", "48", "25.0%", low, high, "25.0%", "100.0%"]
    assert "30.2%" in lines["mean"]
    assert "geox at step 0: generate" in text
    assert "8.3%" in lines["coverage"]
    assert "100.0%" not in lines["coverage"]
    assert all(len(line) <= 100 for line in text.splitlines())


def test_change_since_the_start(result: dict[str, Any]) -> None:
    later = copy.deepcopy(result) | {"step": 100}
    later["suites"]["geox"]["rows"][0]["cells"]["accuracy"]["value"] += 0.125
    later["suites"]["geolocate"]["rows"][9]["cells"]["all samples"]["value"] += 250
    text = shown(later, result)
    assert "+12.5" in text
    assert "+250" in text
    other_mode = copy.deepcopy(result)
    other_mode["suites"]["geox"]["answer_mode"] = "choice"
    assert "+12.5" not in shown(later, other_mode)
    fewer = copy.deepcopy(result)
    fewer["suites"]["geox"]["rows"][0]["n"] = 7
    assert "+12.5" not in shown(later, fewer)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_title_or_figure_is_cut(width: int) -> None:
    """All tasks over many questions, with the changes since the start, and a suite of distances with its draws."""
    task = {"n": 12_345, "accuracy": 1.0, "ci95": [0.9987, 1.0], "chance": 0.25, "parse_rate": 1.0}
    tasks = dict.fromkeys((*CROSS_VIEW_TASKS, "a_task_of_somebody_else_with_a_name_that_is_very_long"), task)
    geox = {"tasks": tasks, "mean_accuracy": 1.0, "mean_ci95": [0.9987, 1.0]}
    names = ["n", "coverage", "acc@1km", "median_km", "geoscore", "medoid_median_km", "radius_coverage_50"]
    geolocate = {"answered_only": dict.fromkeys(names, 20_015.1), **dict.fromkeys(names, 20_015.1)}
    head = {"answer_mode": "explain_choice", "samples_per_second": 12_345.6}
    suites = {"geox": head | geox, "a_suite_of_somebody_else_with_a_long_name": head | geolocate}
    later = {"step": 123_456, "suites": suites}
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(evaluation_tables(later, {"step": 0, "suites": suites}))
    text = console.export_text()
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    shown = Counter(text.split())
    cells = [item for entry in suites.values() for row in rows_of(entry) for item in row.cells.items()]
    assert all(Counter(column.split()) <= shown for column, _ in cells)
    expected = Counter(cell_text(cell) for _, cell in cells)
    for value in ("100.0%", "99.9%", "25.0%", "12,345"):
        assert shown[value] == expected[value]
    changes = sum(change != "" for entry in suites.values() for change in changes_since(entry, entry))
    assert shown["+0.0"] == changes == 9 + 6


def test_a_suite_with_a_kind_of_its_own_has_its_own_columns() -> None:
    rows = [
        SuiteRow(
            {"region": Cell("north"), "rank": Cell(2.25, "decimal"), "photos": Cell(1200, "count")},
            compared="rank",
        ),
        SuiteRow(
            {"region": Cell("south"), "rank": Cell(None, "decimal"), "photos": Cell(0, "count")},
            compared="rank",
        ),
    ]
    head = {"answer_mode": "generate", "samples_per_second": 3.0}
    own = head | SuiteResult("ranks", rows, {}).entry()
    before = head | SuiteResult("ranks", [SuiteRow(rows[0].cells | {"rank": Cell(2.5, "decimal")})], {}).entry()
    text = shown({"step": 4, "suites": {"own": own}}, {"step": 0, "suites": {"own": before}})
    lines = [line.split() for line in text.splitlines() if line.strip() and "─" not in line]
    assert lines[-3:] == [
        ["region", "rank", "since", "step", "0", "photos"],
        ["north", "2.250", "-0.250", "1,200"],
        ["south", "0"],
    ]
    empty = head | SuiteResult("ranks", [], {"rank": 3}).entry()
    assert "own at step 4" in shown({"step": 4, "suites": {"own": empty}})


def test_a_suite_that_could_not_be_measured_says_so(result: dict[str, Any]) -> None:
    failed = copy.deepcopy(result)
    failed["suites"]["geox"] = {
        "answer_mode": "generate",
        "samples_per_second": 2.0,
        "kind": "failed",
        "headline": None,
        "failed": "KeyError: 'x'",
        "rows": [],
    }
    assert "could not be measured: KeyError: 'x'" in shown(failed, result)
    assert "pose_fixed" in shown(result, failed)
