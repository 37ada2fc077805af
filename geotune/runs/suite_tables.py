"""The table of a suite as rows of plain text, which the terminal, the model card and other reports render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Against = Literal["above", "below"]

NOT_A_FIGURE = frozenset({"samples_per_second"})
"""Numbers in a suite's entry that describe the evaluation rather than the answers."""


@dataclass(frozen=True)
class SuiteRow:
    """One row of a suite's table: a task, the mean over tasks, or a figure of distances."""

    cells: Mapping[str, str]
    """Text of each cell by its column. A cell without a value is an empty string."""
    chance: Against | None = None
    """Side of chance on which the whole 95% interval lies; None if it contains chance, or for figures of distances."""
    is_mean: bool = False
    """Whether the row holds the mean over the tasks."""


def suite_rows(entry: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> list[SuiteRow]:
    """Make the rows of a suite's table.

    A suite of tasks has one row per task and one for their mean, with the columns `task`, `n`, `chance`, `accuracy`,
    `95% from`, `95% to`, `since step 0` and `parsed`. A suite of distances has one row per figure, with the columns
    `figure`, `all samples`, `since step 0` and `answered only`.

    Args:
        entry: the suite's entry in an evaluation, as in `eval/step_<N>.json`.
        baseline: the suite's entry at step 0, which fills the column `since step 0`. It is ignored if it has another
            answer mode or other numbers of questions.
    """
    before = baseline if baseline is not None and is_comparable(entry, baseline) else None
    return _task_rows(entry, before) if "tasks" in entry else _distance_rows(entry, before)


def is_comparable(entry: Mapping[str, Any], baseline: Mapping[str, Any]) -> bool:
    """Return whether two entries have the same answer mode and the same numbers of questions."""
    return baseline["answer_mode"] == entry["answer_mode"] and _sizes(baseline) == _sizes(entry)


def _sizes(entry: Mapping[str, Any]) -> Any:
    return {task: figures["n"] for task, figures in entry["tasks"].items()} if "tasks" in entry else entry["n"]


def _task_rows(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[SuiteRow]:
    tasks = entry["tasks"]
    rows = [
        _task_row(task, figures, None if before is None else before["tasks"][task]) for task, figures in tasks.items()
    ]
    mean = {
        "n": sum(figures["n"] for figures in tasks.values()),
        "accuracy": entry["mean_accuracy"],
        "ci95": entry["mean_ci95"],
        **{key: sum(figures[key] for figures in tasks.values()) / len(tasks) for key in ("chance", "parse_rate")},
    }
    return [
        *rows,
        _task_row("mean", mean, None if before is None else {"accuracy": before["mean_accuracy"]}, is_mean=True),
    ]


def _task_row(
    name: str, figures: Mapping[str, Any], before: Mapping[str, Any] | None, *, is_mean: bool = False
) -> SuiteRow:
    accuracy, (low, high), chance = figures["accuracy"], figures["ci95"], figures["chance"]
    cells = {
        "task": name,
        "n": f"{figures['n']:,}",
        "chance": percent(chance),
        "accuracy": percent(accuracy),
        "95% from": percent(low),
        "95% to": percent(high),
        "since step 0": "" if before is None else _points(accuracy - before["accuracy"]),
        "parsed": percent(figures["parse_rate"]),
    }
    return SuiteRow(cells, "above" if low > chance else "below" if high < chance else None, is_mean)


def _distance_rows(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[SuiteRow]:
    answered = entry.get("answered_only", {})
    names = [key for key, value in entry.items() if isinstance(value, int | float) and key not in NOT_A_FIGURE]
    return [
        SuiteRow(
            {
                "figure": name,
                "all samples": _figure_text(name, entry[name]),
                "since step 0": _change_text(name, entry[name], None if before is None else before.get(name)),
                "answered only": _figure_text(name, answered.get(name)),
            }
        )
        for name in names
    ]


def _is_share(name: str) -> bool:
    """Return whether the figure `name` is a share, rather than a count, a distance in km or a GeoScore."""
    return name not in ("n", "geoscore") and not name.endswith("_km")


def _figure_text(name: str, value: float | None) -> str:
    if value is None or name == "n":
        return "" if value is None else f"{value:,}"
    return percent(value) if _is_share(name) else f"{value:,.1f}"


def _change_text(name: str, value: float, before: float | None) -> str:
    if before is None or name == "n":
        return ""
    return _points(value - before) if _is_share(name) else f"{value - before:+,.1f}"


def percent(share: float | None) -> str:
    """Write a share in [0, 1] in percent; None is an empty string."""
    return "" if share is None else f"{100 * share:.1f}%"


def _points(difference: float) -> str:
    """Write a difference of two shares in percentage points."""
    return f"{100 * difference:+.1f}"
