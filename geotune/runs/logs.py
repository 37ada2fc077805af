"""The plain files that a training run leaves in its run directory, one entry per line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geotune.system.files import append_whole, open_atomically
from geotune.system.strict_json import finite

COMPLETIONS_FILE = "completions.jsonl"
"""File of a run directory with completions of a training by rewards."""


def append_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Append `lines` to a JSON-lines file; a number that is not finite becomes null. Writes nothing for no lines."""
    if lines:
        append_whole(path, "".join(json.dumps(finite(line)) + "\n" for line in lines))


def write_rejected(run_dir: Path, rejected: Sequence[tuple[str, str]]) -> None:
    """Write `rejected.jsonl`, the rejected samples with their reasons; write no file if none was rejected."""
    if rejected:
        with open_atomically(run_dir / "rejected.jsonl") as file:
            file.writelines(json.dumps({"id": sample, "reason": reason}) + "\n" for sample, reason in rejected)


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, object]) -> None:
    """Append `row` to a table with a header, a CSV file that is made if it is missing. A value may be missing.

    A column of `columns` that the file lacks is put behind the one before it; earlier rows have no value there. The
    file keeps its other columns, in which `row` may have no value.
    """
    found: list[str] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            found = next(csv.reader(file), [])
    wanted = list(found)
    for number, column in enumerate(columns):
        if column not in wanted:
            wanted.insert(wanted.index(columns[number - 1]) + 1 if number else 0, column)
    if found and wanted != found:
        with path.open(newline="", encoding="utf-8") as file, open_atomically(path) as fresh:
            writer = csv.DictWriter(fresh, wanted, lineterminator="\n")
            writer.writeheader()
            writer.writerows(csv.DictReader(file))
    lines = io.StringIO()
    writer = csv.DictWriter(lines, wanted, lineterminator="\n")
    if not found:
        writer.writeheader()
    writer.writerow(row)
    append_whole(path, lines.getvalue())


def figures_at(path: Path, step: int) -> dict[str, float]:
    """Return the figures of `step` from a `metrics.csv`; empty if the file or the step is missing."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.pop("step") == str(step):
                return {name: float(value) for name, value in row.items() if value}
    return {}


def seconds_of_updates(path: Path, update_size: int) -> float:
    """Return the seconds of all updates in a run's `metrics.csv`, without evaluations, checkpoints and pauses.

    update_size: number of samples of an update.
    """
    seconds, before = 0.0, 0
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if speed := row.get("perf/samples_per_second"):
                seconds += (int(row["step"]) - before) * update_size / float(speed)
                before = int(row["step"])
    return seconds


def keep_until(path: Path, step: int) -> None:
    """Drop from a run's log the entries after `step` and an incomplete last line. A missing file is left alone."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        if line.startswith("step,"):  # the header of metrics.csv
            kept.append(line)
        else:
            line_step = json.loads(line)["step"] if line.startswith("{") else int(line.partition(",")[0])
            kept += [line] if line_step <= step else []
    with open_atomically(path) as file:
        file.write("".join(kept))
