"""The figures of an evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from geotune.runs.suite_results import rows_of
from geotune.runs.suite_tables import SINCE_START, cell_text, changes_since
from geotune.system.tables import FittingTable, TableColumn

STYLES = {"above": "green", "below": "red", None: ""}
"""Color of a compared cell by the side of chance on which its whole 95% interval lies."""


def evaluation_tables(result: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> RenderableType:
    """Make one table for each suite of an evaluation, as wide as there is room.

    Args:
        result: the evaluation, as in `eval/step_<N>.json`; outside training it has no step.
        baseline: the evaluation at step 0, from which the changes are computed. A suite whose answer mode or number
            of questions differs from the baseline's shows no changes.
    """
    earlier = (baseline or {}).get("suites", {})
    tables: list[RenderableType] = []
    for name, entry in result["suites"].items():
        at = f" at step {result['step']}" if "step" in result else ""
        title = f"{name}{at}: {entry['answer_mode']}, {entry['samples_per_second']:.1f} questions/s"
        if "failed" in entry:
            tables.append(Text(f"{title}; it could not be measured: {entry['failed']}", style="red"))
        elif not rows_of(entry):
            tables.append(Text(title))
        else:
            tables.append(_table(title, entry, earlier.get(name)))
        tables.append(Text())
    return Group(*tables)


def _table(title: str, entry: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> FittingTable:
    """Make the table of a suite; the changes, if any, stand to the right of the column that they are about."""
    rows, changes = rows_of(entry), changes_since(entry, baseline)
    compared = next((row.compared for row, change in zip(rows, changes, strict=True) if change), None)
    columns: list[TableColumn] = []
    for number, column in enumerate(rows[0].cells):
        styles = [STYLES[row.side_of_chance] if column == row.compared else "" for row in rows]
        texts = [cell_text(row.cells[column]) for row in rows]
        columns.append(TableColumn(column, texts, right=number > 0, styles=styles))
        if column == compared:
            columns.append(TableColumn(SINCE_START, changes))
    summaries = [number for number, row in enumerate(rows) if row.is_summary]
    return FittingTable(title, columns, ["bold" if row.is_summary else "" for row in rows], frozenset(summaries))
