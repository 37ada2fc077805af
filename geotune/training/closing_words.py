"""What a run says at its end: how long it took, its best checkpoint, the figures before and after, and what is next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.runs.directory import CHECKPOINTS, MAP_FILE, checkpoint_steps, evaluations, step_name
from geotune.runs.figures import figures
from geotune.runs.suite_results import FAILED, Cell, headline_of, kind_of, rows_of
from geotune.runs.suite_tables import cell_text, is_comparable
from geotune.system.progress import duration
from geotune.system.screen import as_text
from geotune.system.tables import FittingTable, TableColumn

if TYPE_CHECKING:
    from geotune.training.best import BestCheckpoint

NOT_COMPARED = "-"
"""Stands for a figure before training that is none, or that was found in another way than the last one."""


def closing_words(run_dir: Path, best: BestCheckpoint, *, updates: int, seconds: float) -> str:
    """Return the text about a run that has come to its end.

    updates: number of updates that this process has done. seconds: time that it took, with evaluations.
    """
    parts = [f"{updates:,} updates in {duration(seconds)}: {run_dir}"]
    found = [content for _, content in evaluations(run_dir) if "suites" in content]
    if found and (table := before_and_after(found[0], found[-1])) is not None:
        parts.append(as_text(table).rstrip("\n"))
    if told := best_in_words(run_dir, best):
        parts.append(told)
    return "\n\n".join([*parts, "\n".join(next_steps(run_dir))])


def before_and_after(first: Mapping[str, Any], last: Mapping[str, Any]) -> FittingTable | None:
    """Return a table of the figure that stands for each suite, at the first and the last evaluation of a run.

    A figure is compared only within one answer mode and over as many questions. Returns None if there is no figure.
    """
    rows: list[tuple[str, str, str]] = []
    for suite, entry in last["suites"].items():
        name = headline_of(entry)
        if name is None or "answer_mode" not in entry or kind_of(entry) == FAILED:
            continue
        earlier = first["suites"].get(suite)
        compared = earlier is not None and "answer_mode" in earlier and is_comparable(entry, earlier)
        before = _headline_text(suite, name, earlier) if compared else NOT_COMPARED
        rows.append((f"{suite}/{name}, {entry['answer_mode']}", before, _headline_text(suite, name, entry)))
    if not rows:
        return None
    names, before_texts, after_texts = zip(*rows, strict=True)
    columns = [TableColumn("figure, answer mode", names, right=False)]
    if first["step"] != last["step"]:
        columns.append(TableColumn(f"step {first['step']}", before_texts))
    return FittingTable("", [*columns, TableColumn(f"step {last['step']}", after_texts)])


def _headline_text(suite: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return the figure that stands for a suite as its table shows it."""
    for row in rows_of(entry):
        if row.figure == name and row.compared is not None:
            return cell_text(row.cells[row.compared]) or NOT_COMPARED
    value = figures({"suites": {suite: entry}}).get(f"{suite}/{name}")
    return cell_text(Cell(value, "decimal")) or NOT_COMPARED


def best_in_words(run_dir: Path, best: BestCheckpoint) -> str:
    """Return which checkpoint is the best and why, else which one is the last; empty if there is none."""
    steps = checkpoint_steps(run_dir)
    if best.step is not None and best.value is not None:
        return f"best checkpoint: {run_dir / CHECKPOINTS / step_name(best.step)} ({best.value_of} {best.value:.4g})"
    return f"last checkpoint: {run_dir / CHECKPOINTS / step_name(steps[-1])}" if steps else ""


def _last_maps(run_dir: Path) -> list[Path]:
    """Return the world maps of the last evaluation that has any, one for each suite of distances."""
    maps = [(match.group(1), path) for path in run_dir.glob("maps/*") if (match := MAP_FILE.fullmatch(path.name))]
    last = max((int(step) for step, _ in maps), default=0)
    return sorted(path for step, path in maps if int(step) == last)


def next_steps(run_dir: Path) -> list[str]:
    """Return what can be done with a run that has ended: its plots to look at, and commands that use its best weights.

    The commands can be pasted into a shell.
    """
    given = shlex.quote(f"checkpoint={run_dir}")
    lines = [f"plot: {plot}" for plot in sorted(run_dir.glob("accuracy*.png"))]
    lines += [f"map: {path}" for path in _last_maps(run_dir)]
    lines += [
        f"locate photos: geotune locate {given} image=<file or folder>",
        f"export: geotune export {given} out=<new folder>",
    ]
    if any((run_dir / "wandb").glob("offline-run-*")):
        lines.append(f"upload to W&B: wandb sync {shlex.quote(str(run_dir / 'wandb'))}/offline-run-*")
    return lines
