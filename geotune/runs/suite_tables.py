"""The table of a suite as plain text, which the terminal, the model card and other reports render."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geotune.runs.suite_results import DRAW_FIGURES, DRAW_SETTINGS, Cell, SuiteRow, kind_of, rows_of

SINCE_START = "since step 0"
"""Title of the column of changes."""


def table_of(entry: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of a suite's entry: the titles of the columns, then the cells of each row, as text."""
    rows = rows_of(entry)
    return [list(rows[0].cells), *([cell_text(cell) for cell in row.cells.values()] for row in rows)] if rows else []


def cell_text(cell: Cell) -> str:
    """Return the text of a cell; empty for no value."""
    if cell.value is None or isinstance(cell.value, str):
        return cell.value or ""
    if cell.format == "share":
        return f"{100 * cell.value:.1f}%"
    return f"{cell.value:{ {'count': ',', 'number': ',.1f', 'decimal': ',.3f'}[cell.format] }}"


def changes_since(entry: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> list[str]:
    """Return the text of the change of each row since an earlier entry; empty where there is nothing to compare.

    The changes of shares are percentage points. Entries of another answer mode, another kind or other numbers of
    questions are not compared, nor are the figures of draws if their number or temperature is another.
    """
    rows = rows_of(entry)
    if baseline is None or not is_comparable(entry, baseline):
        return [""] * len(rows)
    before = {row.name: row for row in rows_of(baseline)}
    if any(entry.get(setting) != baseline.get(setting) for setting in DRAW_SETTINGS):
        before = {name: row for name, row in before.items() if row.figure not in DRAW_FIGURES}
    return [_change(row, before.get(row.name)) for row in rows]


def is_comparable(entry: Mapping[str, Any], baseline: Mapping[str, Any]) -> bool:
    """Return whether two entries have the same kind, the same answer mode and the same numbers of questions."""
    if kind_of(entry) != kind_of(baseline) or entry["answer_mode"] != baseline["answer_mode"]:
        return False
    rows, before = rows_of(entry), {row.name: row.n for row in rows_of(baseline)}
    if any(row.is_summary for row in rows) and before.keys() != {row.name for row in rows}:
        return False
    return all(before.get(row.name, row.n) == row.n for row in rows)


def _change(row: SuiteRow, before: SuiteRow | None) -> str:
    if before is None or row.compared is None or row.compared not in before.cells:
        return ""
    now, then = row.cells[row.compared], before.cells[row.compared]
    if not isinstance(now.value, int | float) or not isinstance(then.value, int | float):
        return ""
    difference = now.value - then.value
    if now.format == "share":
        return f"{100 * difference:+.1f}"
    return f"{difference:{ {'count': '+,', 'number': '+,.1f', 'decimal': '+,.3f'}[now.format] }}"
