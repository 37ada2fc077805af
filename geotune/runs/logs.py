"""The plain files that a training leaves in its run directory, line by line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from geotune.system.strict_json import finite


def append_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    if lines:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(finite(line)) + "\n" for line in lines))


def figures_at(path: Path, step: int) -> dict[str, float]:
    """The line of `step` in a metrics.csv; empty when there is none."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.pop("step") == str(step):
                return {name: float(value) for name, value in row.items() if value}
    return {}


def keep_until(path: Path, step: int) -> None:
    """Keep the header of a log of ours and its complete lines up to `step`."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("step,"):
            kept.append(line)
        elif line.endswith("\n"):
            at = json.loads(line)["step"] if line.startswith("{") else int(line.partition(",")[0])
            kept += [line] if at <= step else []
    fresh = path.with_name(f".{path.name}.partial")
    fresh.write_text("".join(kept), encoding="utf-8")
    fresh.replace(path)
