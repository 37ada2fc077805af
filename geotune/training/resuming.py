"""Resuming a run from a checkpoint: what must be the same as in the earlier run, and what is restored."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geotune.backbones.placement import placement_of
from geotune.errors import ConfigError, Problem
from geotune.runs.identity import IDENTITY_PARTS, Dependence, Identity, identity_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from geotune.runs.directory import State
    from geotune.stages.base import Stage

TRAINER_FILE = "trainer.pt"
"""File of a checkpoint that holds the states of the optimizer, the learning-rate schedule and the stage."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint that a run resumes from."""

    folder: Path
    state: State


@dataclass(frozen=True)
class RunIdentity:
    """What determines the course of a run; a resumed run must have the same."""

    depends_on: Identity
    """The data, base weights, processor and prompt."""

    seed: int
    update_size: int
    """Samples per update."""
    plan: str
    """`GeoData.plan_name`."""


def check_same_run(
    resume: SavedRun, identity: RunIdentity, stage: Stage, *, allow_changes: Collection[str] = (), quiet: bool = False
) -> None:
    """Raise ConfigError if a run with `identity` and `stage` can't continue the run that saved `resume`.

    allow_changes: parts of what the run depends on that may be others now. quiet: as in `Dependence.check`.
    """
    state = resume.state
    dependence = Dependence("resume", resume.folder, identity_of(state), allow_changes)
    dependence.check(identity.depends_on, IDENTITY_PARTS, quiet=quiet)
    for what, then, now, remedy in (
        ("seed", state.seed, identity.seed, f"set seed={state.seed}"),
        (
            "update size",
            state.update_size,
            identity.update_size,
            "keep data.batch_size x trainer.accumulate x devices",
        ),
        ("plan of updates", state.plan, identity.plan, "keep the settings of `data` that it names"),
        ("optimizer", state.optimizer, stage.config.optimizer, f"set stage.optimizer={state.optimizer}"),
    ):
        if then != now:
            raise ConfigError(Problem("resume", resume.folder, f"its {what} was {then}, now it is {now}", str(remedy)))


def restore_training(trainer: Trainer, stage: Stage, resume: SavedRun) -> dict[str, Any] | None:
    """Restore the optimizer, the learning-rate schedule and the stage's extra state; the weights are loaded already.

    Returns the random state of this process, for `set_rng_state`; None if the checkpoint was written by fewer
    processes. Raises ConfigError if a file is unreadable, or belongs to another optimizer or stage.
    """
    checkpoint, state, total = resume.folder, resume.state, stage.progress.total
    file = checkpoint / TRAINER_FILE
    tensors = read_tensors(file)
    try:
        placement_of(trainer).load_optimizer(trainer, checkpoint, tensors)
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(tensors["scheduler"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{file}: does not fit this optimizer ({error}); keep the settings of what trains as they were"
        ) from error
    _restore_stage(trainer, stage, tensors.get("stage", {}), file)
    random_file = checkpoint / rng_file(trainer.global_rank)
    random_state = read_tensors(random_file) if random_file.is_file() else None
    if trainer.is_global_zero:
        log.info("resumed from %s at update %d", checkpoint, state.step)
        if state.total_updates != total:
            log.warning(
                "the run had %d updates in all and now has %d: the learning rate follows the new total",
                state.total_updates,
                total,
            )
    return random_state


def _restore_stage(trainer: Trainer, stage: Stage, state: dict[str, Any], file: Path) -> None:
    """Load the stage's extra state from `file`; a stage whose state is not there keeps the one it starts with."""
    if not state:
        if stage.extra_state() and trainer.is_global_zero:
            log.warning("%s holds no state of the stage %s, which starts afresh", file, type(stage).__name__)
        return
    try:
        stage.load_extra_state(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{file}: does not fit this stage ({error}); keep the stage as it was") from error


def rng_file(rank: int) -> str:
    """Return the name of the file of a checkpoint that holds the random state of a rank."""
    return f"rng_{rank}.pt"


def read_tensors(file: Path) -> dict[str, Any]:
    """Read a file that `torch.save` wrote, with its tensors on the CPU. Raises ConfigError if it is unreadable."""
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{file}: can't be read ({reason}); name another checkpoint") from error
    return content
