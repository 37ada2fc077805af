"""What an earlier run has left in a run directory and a new one would write over: it is moved aside."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from geotune.runs.directory import CHECKPOINTS, MAP_FILE, METRICS_FILE, read_json

ASIDE = "aside"
"""Folder of a run directory that holds what was moved aside, in a folder `<n>` each time."""
FILES = (
    *("config.yaml", METRICS_FILE, "metrics.csv", "updates.jsonl", "bad_samples.jsonl", "rejected.jsonl"),
    *("accuracy.png", "accuracy_*.png", f"{CHECKPOINTS}/*", "eval/step_*", "outcomes/step_*", "predictions/step_*"),
    "maps/*_step_*.png",
)
"""Everything that a run writes, but for wandb/, in which each run has a folder of its own anyway.

Other files stay where they are: the output of a launcher or of a sweep, or the user's own."""
LOGS = ("metrics.csv", "updates.jsonl", "bad_samples.jsonl")
"""Files whose lines behind the checkpoint are dropped when a run resumes from it."""
STEP_FILE = re.compile(r"step_(\d{6,})(\.\d+)?(\.jsonl?)?")
log = logging.getLogger(__name__)


def set_aside(run_dir: Path) -> None:
    """Move aside what a run without a complete checkpoint has left in `run_dir`, and say so."""
    found = [path for pattern in FILES for path in run_dir.glob(pattern)]
    if found:
        folder = _move(found, run_dir)
        log.warning("%s: what an earlier run without a complete checkpoint has left is now in %s", run_dir, folder)


def set_aside_after(run_dir: Path, step: int, *, updates_left: bool) -> None:
    """Move aside what a run has written after its checkpoint at `step`, from which it goes on, and say so.

    If that is the newest checkpoint, this is nothing, because evaluations after it will be made again, or only the
    final figures of a run that has updates left again.
    """
    later = [path for path in (run_dir / CHECKPOINTS).glob("step_*") if _step_of(path) > step]
    final = read_json(run_dir / METRICS_FILE)
    if not later:
        if final is not None and updates_left:
            folder = _move([run_dir / METRICS_FILE], run_dir)
            log.warning("%s: the final figures of update %s are now in %s", run_dir, final.get("step"), folder)
        return
    for pattern in ("eval/*", "outcomes/*", "predictions/*"):
        later += [path for path in run_dir.glob(pattern) if _step_of(path) > step]
    later += [path for path in run_dir.glob("maps/*") if _step_of(path, MAP_FILE) > step]
    if final is not None and (updates_left or final.get("step", 0) > step):
        later.append(run_dir / METRICS_FILE)
    folder = _move(later, run_dir)
    for name in LOGS:
        if (run_dir / name).is_file():
            shutil.copy2(run_dir / name, folder / name)
    log.warning("%s: what the run had written after update %d is now in %s", run_dir, step, folder)


def _step_of(path: Path, names: re.Pattern[str] = STEP_FILE) -> int:
    """Return the step that the name of a file or folder holds; -1 if it is none of `names`."""
    match = names.fullmatch(path.name)
    return int(match[1]) if match else -1


def _move(paths: Iterable[Path], run_dir: Path) -> Path:
    """Move files and folders below `run_dir` to the same places below a new folder, which is returned."""
    (run_dir / ASIDE).mkdir(exist_ok=True)
    folder = next(folder for number in count(1) if not (folder := run_dir / ASIDE / str(number)).exists())
    for path in paths:
        place = folder / path.relative_to(run_dir)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    return folder
