"""What a suite may measure: figures and rows that files and tables can hold."""

from __future__ import annotations

import math
from typing import Any

import pytest

from geotune.runs.suite_results import Cell, SuiteResult, SuiteRow, figure_at, headline_of, kind_of, rows_of

ROW = SuiteRow({"region": Cell("north"), "rank": Cell(2.5, "decimal")}, figure="north/rank", compared="rank", n=3)
FIGURES = {"north": {"rank": 2.5}, "none": None, "all_ci95": [0.0, 1.0], "table": [[1, 2], [3, 4]]}


def test_an_entry_holds_everything() -> None:
    entry = SuiteResult("ranks", [ROW], FIGURES).entry("north/rank")
    assert {key: entry[key] for key in FIGURES} == FIGURES
    assert (kind_of(entry), headline_of(entry), rows_of(entry)) == ("ranks", "north/rank", [ROW])
    with pytest.raises(ValueError, match="headline 'rank': there is no such figure"):
        SuiteResult("ranks", [ROW], FIGURES).entry("rank")
    assert headline_of(SuiteResult("ranks", [ROW], FIGURES | {"geoscore": 3.0}).entry()) is None, "it names none"


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"rate": math.nan}, "figure rate is nan"),
        ({"a": {"b": math.inf}}, "figure a/b is inf"),
        ({"a_ci95": [0.0, math.nan]}, "figure a_ci95 is nan"),
        ({"a/b": 1.0}, "figure 'a/b': a name is a text without a slash"),
        ({"a": {"": 1.0}}, "a name is a text without a slash"),
        ({3: 1.0}, "a name is a text without a slash"),
        ({"x": {1, 2}}, "can't be written as JSON"),
        ({"rows": 3, "kind": 2}, "kind, rows: these names are taken"),
    ],
)
def test_figures_that_a_file_can_not_hold(figures: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SuiteResult("own", [], figures)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([SuiteRow({})], "all rows have the columns of the first"),
        (
            [ROW, SuiteRow({"rank": Cell(1, "decimal"), "region": Cell("south")})],
            "all rows have the columns of the first",
        ),
        ([ROW, ROW], "a name stands twice"),
        ([SuiteRow({"a": Cell("x", "share")})], "column a: 'x' can't be written as share"),
        ([SuiteRow({"a": Cell(math.nan, "share")})], "column a: nan can't be written as share"),
        ([SuiteRow({"a": Cell(1.0)})], "column a: 1.0 can't be written as text"),
        ([SuiteRow({"a": Cell("x", "percent")})], "the format 'percent' is none of"),  # type: ignore[arg-type]
        ([SuiteRow({"a": Cell("x")}, compared="a")], "which is no column of numbers"),
        ([SuiteRow({"a": Cell("x")}, compared="b")], "which is no column of numbers"),
        ([SuiteRow({"a": Cell("x")}, figure="south/rank")], "there is no figure south/rank"),
        ([SuiteRow({"a": Cell("x")}, figure="none/deeper")], "there is no figure none/deeper"),
    ],
)
def test_rows_that_a_table_can_not_show(rows: list[SuiteRow], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SuiteResult("own", rows, FIGURES)


@pytest.mark.parametrize("kind", ["", "failed"])
def test_a_kind_is_a_word_of_its_own(kind: str) -> None:
    with pytest.raises(ValueError, match="choose a word"):
        SuiteResult(kind, [], {})


def test_a_source_has_any_name() -> None:
    by_source = {"": 0.5, "photos/2024": 1.0}
    figures = {"by_source": by_source, "tasks": {"judge": {"by_source": by_source}}}
    assert SuiteResult("own", [], figures).entry()["by_source"] == by_source
    with pytest.raises(ValueError, match="is nan"):
        SuiteResult("own", [], {"by_source": {"": math.nan}})


def test_a_figure_of_a_task_has_its_name_in_front() -> None:
    figures = {"mean_accuracy": 0.5, "tasks": {"pose_fixed": {"accuracy": 0.25}}}
    assert figure_at(figures, "pose_fixed/accuracy") == 0.25
    assert figure_at(figures, "mean_accuracy") == 0.5
    for name in ("accuracy", "mean_accuracy/x", "pose_fixed/rank"):
        with pytest.raises(KeyError):
            figure_at(figures, name)


@pytest.mark.parametrize(
    ("entry", "headline"),
    [({"mean_accuracy": 0.1, "tasks": {}}, "mean_accuracy"), ({"n": 1, "geoscore": 2.0}, "geoscore"), ({"n": 1}, None)],
)
def test_the_headline_of_an_older_entry(entry: dict[str, Any], headline: str | None) -> None:
    assert headline_of(entry) == headline
