"""The result of a suite, which every report reads: its kind, the rows of its table, and its figures.

An entry is what an evaluation's file holds of one suite: `answer_mode`, `samples_per_second`, `kind`, `headline`, the
figures by their names, and `rows`. Entries of older files have no kind and no rows; `kind_of` and `rows_of` read both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Format = Literal["text", "count", "share", "number", "decimal"]
"""How a cell is written: as it stands, with separators of thousands, in percent, with one or with three decimals."""
Side = Literal["above", "below"]

TASKS, DISTANCE, FAILED = "tasks", "distance", "failed"
"""Kinds of the suites of this package, and of a suite that could not be measured; a suite may use a word of its own."""
BREAKDOWN = "by_source"
"""Name of figures by source. There may be dozens, so that files hold them and W&B gets none."""
RESERVED = ("answer_mode", "samples_per_second", "kind", "headline", "rows", "failed")
"""Keys of an entry that are no figures of the suite."""
DRAW_SETTINGS = ("draws", "draw_temperature")
"""Figures of a suite with draws that say how many answers were drawn for each sample, and at which temperature."""
DRAW_FIGURES = (
    *("draws_read", "medoid_median_km"),
    *("radius_coverage_50", "radius_coverage_90", "radius_50_km", "radius_90_km"),
)
"""Figures that a suite of distances computes from draws; they depend on `DRAW_SETTINGS`."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    value: float | str | None
    """Text for the format `text`, else a number; None leaves the cell empty."""
    format: Format = "text"


@dataclass(frozen=True)
class SuiteRow:
    """One row of a suite's table."""

    cells: Mapping[str, Cell]
    """Cells by the title of their column; all rows of a suite have the same columns. The first one names the row."""
    figure: str | None = None
    """Name below the suite of the figure that the row is about, as `pose_fixed/accuracy`; sweeps list it."""
    compared: str | None = None
    """Column whose change since the first evaluation is shown; None for no change."""
    n: int | None = None
    """Number of questions that the row is over. Rows are compared only between evaluations of as many questions."""
    side_of_chance: Side | None = None
    """Side of chance on which the whole 95% interval lies; None if it contains chance or there is none."""
    is_summary: bool = False
    """Whether the row sums up those above it."""

    @property
    def name(self) -> str:
        """Text of the first cell."""
        return str(next(iter(self.cells.values())).value)


@dataclass(frozen=True)
class SuiteResult:
    """What a suite measured.

    Raises ValueError for a result that the files or the reports can't hold.
    """

    kind: str
    """Word for the sort of figures: `tasks`, `distance`, or one of the suite's own."""
    rows: Sequence[SuiteRow]
    """Rows of the suite's table, in order."""
    figures: Mapping[str, Any]
    """Figures by name, as JSON: a mapping may nest more of them, and `tasks` those of each task. None is a figure
    without a value. A pair of numbers under a name that ends in `ci95` is an interval."""

    def __post_init__(self) -> None:
        if not self.kind or self.kind == FAILED:
            raise ValueError(f"kind {self.kind!r}: choose a word for the sort of figures, other than {FAILED!r}")
        taken = [name for name in RESERVED if name in self.figures]
        if taken:
            raise ValueError(f"{', '.join(taken)}: these names are taken, give the figures others")
        tasks = self.figures.get("tasks", {})
        if not isinstance(tasks, Mapping) or not all(isinstance(of_task, Mapping) for of_task in tasks.values()):
            raise ValueError("tasks: give a mapping from each task's name to its figures")
        if twice := sorted(tasks.keys() & self.figures.keys()):
            raise ValueError(f"{', '.join(twice)}: a task and a figure of the suite have one name")
        for where, value in _leaves(self.figures, ()):
            own = where[: where.index(BREAKDOWN) + 1] if BREAKDOWN in where else where  # a source has any name
            if any(not isinstance(name, str) or not name or "/" in name for name in own):
                raise ValueError(f"figure {'/'.join(map(str, where))!r}: a name is a text without a slash")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"figure {'/'.join(where)} is {value}: give a finite number, or None for no value")
        try:
            json.dumps(self.figures, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the figures can't be written as JSON: {error}") from error
        for row in self.rows:
            _check_row(row, self.rows[0], self.figures)
        if len({row.name for row in self.rows}) < len(self.rows):
            raise ValueError(f"rows {', '.join(row.name for row in self.rows)}: a name stands twice")

    def entry(self, headline: str | None = None) -> dict[str, Any]:
        """Return what an evaluation's file holds of this result.

        headline: name of the figure that stands for the suite. Raises ValueError if there is no such figure.
        """
        if headline is not None:
            try:
                found = figure_at(self.figures, headline)
            except KeyError:
                raise ValueError(f"headline {headline!r}: there is no such figure") from None
            if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
                raise ValueError(f"headline {headline!r}: name a figure that is a number, not {found!r}")
        rows = [_row_to_json(row) for row in self.rows]
        return {"kind": self.kind, "headline": headline, **self.figures, "rows": rows}


def figure_at(figures: Mapping[str, Any], name: str) -> Any:
    """Return the figure of a suite by its name below the suite. Raises KeyError if there is none."""
    found: Any = {**figures, **figures.get("tasks", {})}
    for part in name.split("/"):
        if not isinstance(found, Mapping):
            raise KeyError(name)
        found = found[part]
    return found


def kind_of(entry: Mapping[str, Any]) -> str:
    """Return the kind of an entry."""
    return str(entry.get("kind") or (TASKS if "tasks" in entry else DISTANCE))


def rows_of(entry: Mapping[str, Any]) -> list[SuiteRow]:
    """Return the rows of an entry."""
    if "rows" in entry:
        return [_row_from_json(row) for row in entry["rows"]]
    return task_rows(entry) if "tasks" in entry else distance_rows(entry)


def headline_of(entry: Mapping[str, Any]) -> str | None:
    """Return the name of the figure that stands for a suite as a whole, or None if it names none."""
    if "kind" in entry:
        return entry.get("headline")
    return "mean_accuracy" if "mean_accuracy" in entry else "geoscore" if "geoscore" in entry else None


def task_rows(figures: Mapping[str, Any]) -> list[SuiteRow]:
    """Make the rows of a suite of tasks: one for each task, and one for their mean."""
    tasks = figures["tasks"]
    mean = {
        "n": sum(of_task["n"] for of_task in tasks.values()),
        "accuracy": figures["mean_accuracy"],
        "ci95": figures["mean_ci95"],
        **{key: sum(of_task[key] for of_task in tasks.values()) / len(tasks) for key in ("chance", "parse_rate")},
    }
    rows = [_task_row(name, of_task, f"{name}/accuracy") for name, of_task in tasks.items()]
    return [*rows, _task_row("mean", mean, "mean_accuracy", is_summary=True)]


def distance_rows(figures: Mapping[str, Any]) -> list[SuiteRow]:
    """Make the rows of a suite of distances: one for each figure, over all samples and over the answered ones.

    A figure of draws has a row without a value too, so that the rows do not depend on the answers.
    """
    answered = figures.get("answered_only", {})
    names = [
        name
        for name, value in figures.items()
        if (isinstance(value, int | float) and name not in RESERVED) or name in DRAW_FIGURES
    ]
    return [
        SuiteRow(
            cells={
                "figure": Cell(name),
                "all samples": Cell(figures[name], _distance_format(name)),
                "answered only": Cell(answered.get(name), _distance_format(name)),
            },
            figure=None if name in _NOT_COMPARED else name,
            compared=None if name in _NOT_COMPARED else "all samples",
            n=figures["n"],
        )
        for name in names
    ]


def _task_row(name: str, figures: Mapping[str, Any], figure: str, *, is_summary: bool = False) -> SuiteRow:
    (low, high), chance = figures["ci95"], figures["chance"]
    cells = {
        "task": Cell(name),
        "n": Cell(figures["n"], "count"),
        "accuracy": Cell(figures["accuracy"], "share"),
        "95% from": Cell(low, "share"),
        "95% to": Cell(high, "share"),
        "chance": Cell(chance, "share"),
        "parsed": Cell(figures["parse_rate"], "share"),
    }
    side: Side | None = "above" if low > chance else "below" if high < chance else None
    return SuiteRow(cells, figure, "accuracy", figures["n"], side, is_summary)


_NOT_COMPARED = ("n", *DRAW_SETTINGS)
"""Figures of a suite of distances that say what the others are over."""


def _distance_format(name: str) -> Format:
    if name in ("n", "draws"):
        return "count"
    if name == "draw_temperature":
        return "decimal"
    return "number" if name == "geoscore" or name.endswith("_km") else "share"


def _leaves(tree: Mapping[Any, Any], where: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every number, text and empty mapping below `tree` with its path; the items of a list share its path."""
    for name, node in tree.items():
        if isinstance(node, Mapping) and node:
            yield from _leaves(node, (*where, name))
        elif isinstance(node, list | tuple):
            for item in node:
                yield from _leaves({name: item}, where)
        else:
            yield (*where, name), node


def _check_row(row: SuiteRow, first: SuiteRow, figures: Mapping[str, Any]) -> None:
    """Raise ValueError for a row that a table can't show."""
    if not row.cells or list(row.cells) != list(first.cells):
        raise ValueError(f"row {list(row.cells)}: all rows have the columns of the first, {list(first.cells)}")
    for column, cell in row.cells.items():
        if cell.format not in get_args(Format):
            raise ValueError(f"column {column}: the format {cell.format!r} is none of {', '.join(get_args(Format))}")
        is_number = isinstance(cell.value, int | float) and math.isfinite(cell.value)
        if not (cell.value is None or (isinstance(cell.value, str) if cell.format == "text" else is_number)):
            raise ValueError(f"column {column}: {cell.value!r} can't be written as {cell.format}")
    if row.compared is not None and row.cells.get(row.compared, Cell("")).format == "text":
        raise ValueError(f"row {row.name}: its changes are those of {row.compared!r}, which is no column of numbers")
    if row.figure is not None:
        try:
            figure_at(figures, row.figure)
        except KeyError:
            raise ValueError(f"row {row.name}: there is no figure {row.figure}") from None


def _row_to_json(row: SuiteRow) -> dict[str, Any]:
    return {
        "cells": {column: {"value": cell.value, "format": cell.format} for column, cell in row.cells.items()},
        "figure": row.figure,
        "compared": row.compared,
        "n": row.n,
        "side_of_chance": row.side_of_chance,
        "is_summary": row.is_summary,
    }


def _row_from_json(row: Mapping[str, Any]) -> SuiteRow:
    return SuiteRow(**{**row, "cells": {column: Cell(**cell) for column, cell in row["cells"].items()}})
