"""The run directory: where its parts lie, which checkpoints it holds, and what each knows about its run."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from geotune.errors import ConfigError

CHECKPOINTS = "checkpoints"
STEP_FOLDER = re.compile(r"step_(\d{6,})")
EVALUATION_FILE = re.compile(r"step_(\d{6,})\.json")
STATE_FILE = "state.json"
RUN_DIR_VARIABLE = "GEOTUNE_RUN_DIR"
"""How the process that starts a run tells its DDP children, which parse the same command line, the dated folder."""


@dataclass(frozen=True)
class State:
    """What a checkpoint knows about its run, beside tensors."""

    step: int
    """Attempted updates."""
    position: int
    """Next update of the sampler's plan."""
    skipped: int
    """Updates skipped for a gradient that was not finite."""
    total_updates: int
    """Updates of the whole run, which the learning rate follows."""
    update_size: int
    """Samples per update."""
    seed: int
    data_fingerprint: str
    plan: str
    """How the samples were dealt out."""
    optimizer: str
    template_hash: str
    best: float | None
    """Best mean accuracy so far, and where."""
    best_step: int | None
    wandb_id: str | None
    left_out: dict[str, str]
    """Samples whose images could not be read, by id, with the reason."""


def step_name(step: int) -> str:
    """Name of the checkpoint of `step`."""
    return f"step_{step:06d}"


def checkpoint_steps(run_dir: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending."""
    folder = run_dir / CHECKPOINTS
    if not folder.is_dir():
        return []
    found = (STEP_FOLDER.fullmatch(entry.name) for entry in folder.iterdir() if (entry / STATE_FILE).is_file())
    return sorted(int(match.group(1)) for match in found if match)


def find_checkpoint(resume: str, run_dir: Path) -> Path:
    """The checkpoint folder that `resume` names: `last` (the newest complete one of `run_dir`) or a path.

    Raises ConfigError when there is none.
    """
    if resume == "last":
        steps = checkpoint_steps(run_dir)
        if not steps:
            raise ConfigError(
                f"resume=last: {run_dir / CHECKPOINTS} holds no complete checkpoint; start without resume"
            )
        return run_dir / CHECKPOINTS / step_name(steps[-1])
    folder = Path(resume)
    if not (folder / STATE_FILE).is_file():
        raise ConfigError(f"resume={resume}: not a complete checkpoint (no {STATE_FILE} there); name a step_<N> folder")
    return folder.resolve()


def read_state(folder: Path) -> State:
    """The state of the checkpoint `folder`. Raises ConfigError."""
    file = folder / STATE_FILE
    try:
        return State(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{file}: not the state of a checkpoint ({error}); name another checkpoint") from error


def belongs_to(folder: Path, run_dir: Path) -> bool:
    """Whether the checkpoint `folder` is one of `run_dir`'s own."""
    return folder.resolve().parent == (run_dir / CHECKPOINTS).resolve()


def find_step(checkpoint: str) -> Path | None:
    """The complete step folder that `checkpoint` names: itself, a link to it, or a run's best one or else its last."""

    named = Path(checkpoint)
    candidates = [named, *(folder / link for folder in (named / CHECKPOINTS, named) for link in ("best", "last"))]
    if steps := checkpoint_steps(named):
        candidates.append(named / CHECKPOINTS / step_name(steps[-1]))
    return next((folder.resolve() for folder in candidates if (folder / STATE_FILE).is_file()), None)


def default_run_dir(recipe: str, resume: str | None) -> str:
    """runs/<recipe>/<date-time>; for `resume=last` the recipe's newest run that has a checkpoint."""
    if "LOCAL_RANK" in os.environ:  # this process is one of several that must agree
        if RUN_DIR_VARIABLE not in os.environ:
            raise ConfigError("run_dir=null: each rank would date a folder of its own; give run_dir=<folder>")
        return os.environ[RUN_DIR_VARIABLE]
    runs = Path("runs", recipe)
    if resume == "last":
        saved = [run for run in runs.glob("*/") if checkpoint_steps(run)]
        if not saved:
            raise ConfigError(f"resume=last: no run in {runs} has a checkpoint; give run_dir=<folder of the run>")
        return str(max(saved, key=lambda run: (run / CHECKPOINTS).stat().st_mtime))
    dated = runs / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    later = (dated.with_name(f"{dated.name}-{count}") for count in range(2, 100))
    return str(dated if not dated.exists() else next(path for path in later if not path.exists()))


def evaluation_path(run_dir: Path, step: int) -> Path:
    """File of the in-loop evaluation at `step`."""
    return run_dir / "eval" / f"{step_name(step)}.json"


def predictions_path(run_dir: Path, step: int) -> Path:
    """File of the predictions of the in-loop evaluation at `step`."""
    return run_dir / "predictions" / f"{step_name(step)}.jsonl"


def evaluations(folder: Path, after: int) -> list[tuple[int, dict[str, Any]]]:
    """The evaluations in a run directory beyond the step `after`, oldest first."""
    steps = [
        (int(match[1]), path) for path in (folder / "eval").glob("*") if (match := EVALUATION_FILE.fullmatch(path.name))
    ]
    found = ((step, read_json(path)) for step, path in sorted(steps) if step > after)
    return [(step, content) for step, content in found if content is not None]


def has_checkpoint(folder: Path) -> bool:
    """Whether a run directory has something to go on from."""

    return bool(checkpoint_steps(folder))


def is_last(folder: Path, step: int) -> bool:
    """Whether the run has no update left after `step`, as its checkpoint of that step says."""

    state = read_json(folder / CHECKPOINTS / step_name(step) / STATE_FILE)
    return state is not None and step >= state["total_updates"]


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None when it is not there."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content


def find_evaluation(step_folder: Path, step: int) -> dict[str, Any] | None:
    """The evaluation of a checkpoint that lies in its run; None when there is none."""
    if step_folder.parent.name != CHECKPOINTS:
        return None
    run = step_folder.parent.parent
    for file in (evaluation_path(run, step), run / "metrics.json"):
        if file.is_file():
            figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if figures.get("step") == step and figures.get("suites"):
                return figures
    return None
