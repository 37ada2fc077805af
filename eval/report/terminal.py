"""The figures of an evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from geotune.runs.suite_tables import SuiteRow, suite_rows

TASK_COLUMNS = ("task", "n", "chance", "accuracy", "95% interval", "since step 0", "parsed")
DISTANCE_COLUMNS = ("figure", "all samples", "since step 0", "answered only")
STYLES = {"above": "green", "below": "red", None: ""}
"""Color of an accuracy by the side of chance on which its whole 95% interval lies."""


def evaluation_tables(result: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> RenderableType:
    """Make one table for each suite of an evaluation.

    Args:
        result: the evaluation, as in `eval/step_<N>.json`.
        baseline: the evaluation at step 0, from which the changes are computed. A suite whose answer mode or number
            of questions differs from the baseline's shows no changes.
    """
    earlier = (baseline or {}).get("suites", {})
    tables = []
    for name, entry in result["suites"].items():
        title = (
            f"{name} at step {result['step']}: {entry['answer_mode']}, {entry['samples_per_second']:.1f} questions/s"
        )
        columns = TASK_COLUMNS if "tasks" in entry else DISTANCE_COLUMNS
        tables.append(_table(title, columns, suite_rows(entry, earlier.get(name))))
    return Group(*tables)


def _table(title: str, columns: Sequence[str], rows: Sequence[SuiteRow]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        if row.is_mean:
            table.add_section()
        table.add_row(*(_cell(row, column) for column in columns), style="bold" if row.is_mean else None)
    return table


def _cell(row: SuiteRow, column: str) -> Text:
    if column == "95% interval":
        return Text(f"{row.cells['95% from'].removesuffix('%')} to {row.cells['95% to'].removesuffix('%')}")
    return Text(row.cells[column], style=STYLES[row.chance] if column == "accuracy" else "")
