"""An evaluation as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def evaluation_tables(result: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> RenderableType:
    """One table a suite. baseline: the evaluation at step 0, for the change since then (same answer mode only)."""
    tables = []
    for name, figures in result["suites"].items():
        before = comparable(figures, (baseline or {}).get("suites", {}).get(name))
        title = (
            f"{name} at step {result['step']}: {figures['answer_mode']}, "
            f"{figures['samples_per_second']:.1f} questions/s"
        )
        table = _choice_table if "tasks" in figures else _distance_table
        tables.append(table(title, figures, before))
    return Group(*tables)


def comparable(figures: Mapping[str, Any], before: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """`before` when its figures may be set beside `figures`: the same answer mode and the same number of questions."""
    if before is None or before["answer_mode"] != figures["answer_mode"] or _sizes(before) != _sizes(figures):
        return None
    return before


def _sizes(figures: Mapping[str, Any]) -> Any:
    return {task: entry["n"] for task, entry in figures["tasks"].items()} if "tasks" in figures else figures["n"]


def _choice_table(title: str, figures: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    for column in ("n", "chance", "accuracy", "95% interval", "since step 0", "parsed"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, entry in figures["tasks"].items():
        table.add_row(
            task,
            f"{entry['n']:,}",
            _percent(entry["chance"]),
            _accuracy(entry["accuracy"], entry["ci95"], entry["chance"]),
            _interval(entry["ci95"]),
            _points(entry["accuracy"], None if before is None else before["tasks"][task]["accuracy"]),
            _percent(entry["parse_rate"]),
        )
    table.add_section()
    entries = list(figures["tasks"].values())
    chance = sum(entry["chance"] for entry in entries) / len(entries)
    table.add_row(
        "mean",
        f"{sum(entry['n'] for entry in entries):,}",
        _percent(chance),
        _accuracy(figures["mean_accuracy"], figures["mean_ci95"], chance),
        _interval(figures["mean_ci95"]),
        _points(figures["mean_accuracy"], None if before is None else before["mean_accuracy"]),
        _percent(sum(entry["parse_rate"] for entry in entries) / len(entries)),
        style="bold",
    )
    return table


def _distance_table(title: str, figures: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("figure", no_wrap=True)
    for column in ("all samples", "since step 0", "answered only"):
        table.add_column(column, justify="right", no_wrap=True)
    answered = figures["answered_only"]
    table.add_row("n", f"{figures['n']:,}", "", f"{answered['n']:,}")
    for name in (key for key in figures if key == "coverage" or key.startswith("acc@")):
        change = _points(figures[name], None if before is None else before[name])
        table.add_row(name, _percent(figures[name]), change, _percent(answered.get(name)))
    table.add_row("right_if_swapped", _percent(figures["right_if_swapped"]), "", "")
    for name in ("median_km", "mean_km", "geoscore"):
        change = "" if before is None else f"{figures[name] - before[name]:+,.0f}"
        table.add_row(name, _number(figures[name]), change, _number(answered[name]))
    return table


def _accuracy(value: float, interval: tuple[float, float], chance: float) -> Text:
    """Green where the whole interval is above chance, red where it is below."""
    style = "green" if interval[0] > chance else "red" if interval[1] < chance else ""
    return Text(_percent(value), style=style)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _points(value: float, before: float | None) -> str:
    """Change in percentage points."""
    return "" if before is None else f"{100 * (value - before):+.1f}"
