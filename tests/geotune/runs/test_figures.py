"""The one grammar of figures' names, and the figures that loggers, tables and the best checkpoint take."""

from __future__ import annotations

from typing import Any

import pytest

from geotune.config.figure_names import direction_of
from geotune.errors import ConfigError
from geotune.runs.figures import figure, figures, headline, logged_figures, table_figures
from geotune.runs.suite_results import Cell, SuiteResult, SuiteRow

JUDGE = {"n": 8, "accuracy": 0.5, "ci95": [0.25, 1.0], "chance": 0.5, "parse_rate": 1.0, "by_source": {"a/b": 0.5}}
HEAD = {"answer_mode": "choice", "samples_per_second": 2.0}
OLD: dict[str, Any] = {
    "step": 4,
    "suites": {
        "geox": {**HEAD, "mean_accuracy": 0.5, "mean_ci95": [0.0, 1.0], "tasks": {"judge": JUDGE}},
        "far": {**HEAD, "n": 3, "coverage": 0.0, "median_km": None, "answered_only": {"n": 0, "median_km": 7.0}},
    },
}
FAILED = {**HEAD, "kind": "failed", "headline": "mean_accuracy", "failed": "KeyError: 'x'", "rows": []}


def own(headline: str | None = None) -> dict[str, Any]:
    rows = [SuiteRow({"part": Cell("north"), "rank": Cell(2.5, "decimal")}, figure="north/rank")]
    figures = {"north": {"rank": 2.5, "is_best": True, "note": "x", "hits": [1, 2, 3]}, "empty_ci95": [None, 1.0]}
    return {"step": 4, "suites": {"own": HEAD | SuiteResult("ranks", rows, figures).entry(headline)}}


def test_figures_of_an_evaluation() -> None:
    assert figures(OLD) == {
        "geox/judge/n": 8,
        "geox/judge/accuracy": 0.5,
        "geox/judge/ci95_low": 0.25,
        "geox/judge/ci95_high": 1.0,
        "geox/judge/chance": 0.5,
        "geox/judge/parse_rate": 1.0,
        "geox/judge/by_source/a/b": 0.5,
        "geox/samples_per_second": 2.0,
        "geox/mean_accuracy": 0.5,
        "geox/mean_ci95_low": 0.0,
        "geox/mean_ci95_high": 1.0,
        "far/samples_per_second": 2.0,
        "far/n": 3,
        "far/coverage": 0.0,
        "far/median_km": None,
        "far/answered_only/n": 0,
        "far/answered_only/median_km": 7.0,
    }
    empty = {"own/empty_ci95_low": None, "own/empty_ci95_high": None}
    assert figures(own()) == {"own/samples_per_second": 2.0, "own/north/rank": 2.5} | empty
    assert figures({"suites": {"own": FAILED}}) == {"own/samples_per_second": 2.0}


def test_loggers_get_what_has_a_value() -> None:
    without = {"geox/judge/by_source/a/b", "far/median_km"}
    assert logged_figures(OLD) == {name: value for name, value in figures(OLD).items() if name not in without}


def test_tables_show_the_figures_that_their_rows_are_about() -> None:
    assert table_figures(OLD) == {
        "geox/judge/accuracy": 0.5,
        "geox/mean_accuracy": 0.5,
        "far/coverage": 0.0,
    }
    assert table_figures(own()) == {"own/north/rank": 2.5}
    assert table_figures({"suites": {"own": FAILED}}) == {}


def test_one_figure_by_its_name() -> None:
    assert figure(OLD, "far/median_km") is None
    assert figure(OLD, "geox/judge/accuracy") == 0.5
    with pytest.raises(ConfigError, match=r"metric=geox/acuracy: .*geox/mean_accuracy"):
        figure(OLD, "geox/acuracy")
    with pytest.raises(ConfigError, match=r"trainer.best=own/rank: .*own/north/rank"):
        figure(own(), "own/rank", key="trainer.best")
    broken = {"suites": {"geox": FAILED, **own()["suites"]}}
    assert figure(broken, "geox/judge/accuracy") is None, "this evaluation could not measure it"
    with pytest.raises(ConfigError, match="metric=near/n"):
        figure(broken, "near/n")


def test_the_headline_is_that_of_the_first_suite_that_names_one() -> None:
    assert headline(OLD) == "geox/mean_accuracy"
    assert headline(own()) is None
    assert headline(own("north/rank")) == "own/north/rank"
    assert headline({"suites": {**own()["suites"], **OLD["suites"]}}) == "geox/mean_accuracy"
    assert headline({"suites": {"first": FAILED, **OLD["suites"]}}) == "first/mean_accuracy", "it changes no name"


def test_direction() -> None:
    assert [direction_of(name) for name in ("a/median_km", "a/acc@25km", "a/geoscore")] == [
        "minimize",
        "maximize",
        "maximize",
    ]
    assert direction_of("a/median_km", "maximize") == "maximize"
    assert direction_of("a/rank", "minimize") == "minimize"
