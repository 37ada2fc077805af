"""The run directory: the paths of its parts, the checkpoints it holds, and the state that each of them stores."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from geotune.errors import ConfigError, Problem
from geotune.runs.chain import is_chain, run_in, time_of_chain
from geotune.system.files import make_folder
from geotune.system.launchers import is_alone

CHECKPOINTS = "checkpoints"
STEP_FOLDER = re.compile(r"step_(\d{6,})")
EVALUATION_FILE = re.compile(r"step_(\d{6,})\.json")
MAP_FILE = re.compile(r".+_step_(\d{6,})\.png", re.DOTALL)
STATE_FILE = "state.json"
METRICS_FILE = "metrics.json"
"""File of the final figures."""
RUN_DIR_VARIABLE = "GEOTUNE_RUN_DIR"
"""Environment variable that passes the dated run directory to DDP child processes, which parse the same overrides."""


@dataclass(frozen=True)
class State:
    """State of a run at a checkpoint, without the tensors."""

    step: int
    """Number of attempted updates."""
    position: int
    """Index of the next update in the sampler's plan."""
    skipped: int
    """Number of updates that were skipped because the gradient was not finite."""
    total_updates: int
    """Number of updates of the whole run, which sets the learning-rate schedule."""
    update_size: int
    """Number of samples per update."""
    seed: int
    data_fingerprint: str
    """Digest of the part `data` of `identity`."""
    plan: str
    """Settings that decide which samples an update holds, as text."""
    optimizer: str
    template_hash: str
    """Digest of the chat template and the system prompt."""
    best: float | None
    """Best value so far of the figure that decides which checkpoint is the best."""
    best_step: int | None
    """Step of that value."""
    wandb_id: str | None
    """Id of the W&B run."""
    left_out: dict[str, str]
    """Reasons why samples were left out as unreadable, by sample id."""
    best_figure: str | None = None
    """Name of the figure of `best`; None in a checkpoint of an older version, whose figure is `mean_accuracy`."""
    written_at: str | None = None
    """Time at which the checkpoint was written, in ISO 8601; None in a checkpoint of an older version."""
    best_evaluator: str | None = None
    """What else `best` belongs to: direction, answer mode and questions; None in a checkpoint of an older version."""
    identity: dict[str, dict[str, str]] | None = None
    """What the checkpoint depends on (`geotune.runs.identity`); None in a checkpoint of an older version."""


def step_name(step: int) -> str:
    """Return the name of the checkpoint at `step`."""
    return f"step_{step:06d}"


def checkpoint_steps(run_dir: Path) -> list[int]:
    """Return the steps of the complete checkpoints of a run, ascending."""
    folder = run_dir / CHECKPOINTS
    if not folder.is_dir():
        return []
    found = (STEP_FOLDER.fullmatch(entry.name) for entry in folder.iterdir() if (entry / STATE_FILE).is_file())
    return sorted(int(match.group(1)) for match in found if match)


def find_checkpoint(resume: str, run_dir: Path) -> Path:
    """Return the checkpoint that `resume` names: a folder, or `last` for the newest complete checkpoint of `run_dir`.

    Raises ConfigError if there is no such checkpoint.
    """
    if resume == "last":
        steps = checkpoint_steps(run_dir)
        if not steps:
            raise ConfigError(
                Problem(
                    "resume", "last", f"{run_dir / CHECKPOINTS} holds no complete checkpoint", "start without resume"
                )
            )
        return run_dir / CHECKPOINTS / step_name(steps[-1])
    folder = Path(resume)
    if not (folder / STATE_FILE).is_file():
        raise ConfigError(
            Problem("resume", resume, f"not a complete checkpoint (it holds no {STATE_FILE})", "name a step_<N> folder")
        )
    return folder.resolve()


def read_state(folder: Path) -> State:
    """Read the state of the checkpoint `folder`. Raises ConfigError if it can't be read."""
    file = folder / STATE_FILE
    try:
        return State(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{file}: this is not the state of a checkpoint ({error}); name another checkpoint"
        ) from error


def belongs_to(folder: Path, run_dir: Path) -> bool:
    """Return whether the checkpoint `folder` lies in `run_dir`."""
    return folder.resolve().parent == (run_dir / CHECKPOINTS).resolve()


def find_step(checkpoint: str) -> Path | None:
    """Return the complete step folder that `checkpoint` names, or None.

    `checkpoint` is a step folder, a link to one, or a run directory, which stands for its best or else last checkpoint.
    A chain's folder stands for its last finished leg. Raises ConfigError if the file of a chain can't be read.
    """
    named = run_in(Path(checkpoint))
    if named is None:
        return None
    candidates = [named, *(folder / link for folder in (named / CHECKPOINTS, named) for link in ("best", "last"))]
    if steps := checkpoint_steps(named):
        candidates.append(named / CHECKPOINTS / step_name(steps[-1]))
    return next((folder.resolve() for folder in candidates if (folder / STATE_FILE).is_file()), None)


def written_at(step: Path) -> float:
    """Return when the checkpoint `step` was written, in seconds since 1970.

    The time is the one in its state, because that of a file changes when a folder is copied or tidied up.
    """
    try:
        state = json.loads((step / STATE_FILE).read_text(encoding="utf-8"))
        return datetime.fromisoformat(state["written_at"]).timestamp()
    except (ValueError, TypeError, KeyError):
        return step.stat().st_mtime  # older versions did not write the time down


def time_of(run: Path) -> float | None:
    """Return when `run` wrote its newest checkpoint (`written_at`), or None if it stands for no checkpoint.

    A chain stands for its last finished leg.
    """
    named = run_in(run)
    steps = checkpoint_steps(named) if named is not None else []
    if named is not None and steps:
        return written_at(named / CHECKPOINTS / step_name(steps[-1]))
    found = find_step(str(run))
    return None if found is None else written_at(found)


def newest_run(recipe: str) -> Path | None:
    """Return the newest folder in runs/<recipe>/ that stands for a checkpoint; None if there is none."""
    found = [(time, run) for run in Path("runs", recipe).glob("*/") if (time := time_of(run)) is not None]
    return max(found)[1] if found else None


def default_run_dir(recipe: str, resume: str | None, *, chain: bool = False, make: bool = False) -> str:
    """Return `runs/<recipe>/<date-time>`, or for `resume=last` the recipe's newest run that has a checkpoint.

    A child process of a distributed run returns the folder that the first process chose.

    Args:
        chain: whether the recipe is that of a chain, which resumes its newest chain.
        make: whether to create a new folder, so that no other process gets the same one.

    Raises:
        ConfigError: no run has a checkpoint, a child process was not told the folder, or it can't be created.
    """
    if not is_alone():  # all processes of a distributed run must use one folder
        if RUN_DIR_VARIABLE not in os.environ:
            raise ConfigError(
                Problem("run_dir", None, "each rank would choose a dated folder of its own", "give run_dir=<folder>")
            )
        return os.environ[RUN_DIR_VARIABLE]
    runs = Path("runs", recipe)
    if resume == "last":
        begun, time, has = (
            (is_chain, time_of_chain, "is a chain") if chain else (has_checkpoint, time_of, "has a checkpoint")
        )
        saved = [(time(run), run) for run in runs.glob("*/") if begun(run)]
        if not saved:
            raise ConfigError(Problem("resume", "last", f"no run in {runs} {has}", "give run_dir=<folder of the run>"))
        return str(max(saved)[1])
    if make:
        make_folder(runs, "run_dir")
    dated = runs / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folders = (dated if number == 1 else dated.with_name(f"{dated.name}-{number}") for number in count(1))
    return str(next(folder for folder in folders if (_is_made(folder) if make else not folder.exists())))


def _is_made(folder: Path) -> bool:
    """Create `folder`; return False if it is there already."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def evaluation_path(run_dir: Path, step: int) -> Path:
    """Return the file that holds the in-loop evaluation at `step`."""
    return run_dir / "eval" / f"{step_name(step)}.json"


def outcomes_path(run_dir: Path, step: int, rank: int = 0) -> Path:
    """Return the file to which a process appends the outcomes of the in-loop evaluation at `step`."""
    return run_dir / "outcomes" / f"{step_name(step)}{f'.{rank}' if rank else ''}.jsonl"


def outcome_files(run_dir: Path, step: int) -> list[Path]:
    """Return the files of outcomes of the in-loop evaluation at `step`, of whichever processes there were."""
    own = re.compile(rf"{step_name(step)}(\.\d+)?\.jsonl")
    return sorted(path for path in (run_dir / "outcomes").glob("*") if own.fullmatch(path.name))


def predictions_path(run_dir: Path, step: int) -> Path:
    """Return the file that holds the predictions of the in-loop evaluation at `step`."""
    return run_dir / "predictions" / f"{step_name(step)}.jsonl"


def map_path(run_dir: Path, suite: str, step: int) -> Path:
    """Return the file that shows the truths and guesses of a suite on a map, at the in-loop evaluation at `step`."""
    return run_dir / "maps" / f"{suite}_{step_name(step)}.png"


def evaluations(folder: Path, after: int = -1) -> list[tuple[int, dict[str, Any]]]:
    """Return the evaluations of a run directory after the step `after` as (step, content), ascending."""
    steps = [
        (int(match[1]), path) for path in (folder / "eval").glob("*") if (match := EVALUATION_FILE.fullmatch(path.name))
    ]
    found = ((step, read_json(path)) for step, path in sorted(steps) if step > after)
    return [(step, content) for step, content in found if content is not None]


def has_evaluation(folder: Path) -> bool:
    """Return whether a run directory holds the file of an evaluation."""
    return any(EVALUATION_FILE.fullmatch(path.name) for path in (folder / "eval").glob("*"))


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run directory holds a complete checkpoint, which a run can resume from."""
    return bool(checkpoint_steps(folder))


def is_last(folder: Path, step: int) -> bool:
    """Return whether `step` is the last update of the run, according to its checkpoint at that step."""
    state = read_json(folder / CHECKPOINTS / step_name(step) / STATE_FILE)
    return state is not None and step >= state["total_updates"]


def is_finished(checkpoint: Path, step: int) -> bool:
    """Return whether the run of `checkpoint` has written its final figures, those of `step`."""
    final = read_json(checkpoint.resolve().parent.parent / METRICS_FILE)
    return final is not None and final["step"] == step


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, or None if the file does not exist."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content


def find_evaluation(step_folder: Path, step: int) -> dict[str, Any] | None:
    """Return the evaluation of the checkpoint `step_folder` from its run directory, or None if there is none."""
    if step_folder.parent.name != CHECKPOINTS:
        return None
    run = step_folder.parent.parent
    for file in (evaluation_path(run, step), run / METRICS_FILE):
        content = read_json(file)
        if content is not None and content.get("step") == step and content.get("suites"):
            return content
    return None
