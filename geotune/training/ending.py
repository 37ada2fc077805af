"""How a training ends before its end: its signals, what it says, and how its other processes end."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geotune.errors import ABSENT, ConfigError, Problem
from geotune.runs.chain import is_chain
from geotune.runs.directory import checkpoint_steps
from geotune.system.files import DiskFullError
from geotune.system.interruption import Stopped, signal_behind

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from geotune.training.checkpointing import Checkpoints
    from geotune.training.run import TrainingRun

NOTICE = "asked to stop: finishing this update and writing a checkpoint; a second signal stops at once"
log = logging.getLogger(__name__)


@contextmanager
def told_how_it_ends(run: TrainingRun, checkpoints: Checkpoints) -> Iterator[None]:
    """Answer signals while the block trains, and say how a run that ends before its end goes on.

    Raises Stopped after a request to stop, and ConfigError, with the way to go on, if the disk was full.
    """
    interruption, trainer = checkpoints.interruption, run.trainer
    _take_signals_from(trainer)
    # Lightning's launcher starts the processes of this machine but the first, and does not pass signals on.
    launcher: Any = trainer.strategy.launcher
    interruption.pass_on = None if launcher is None else launcher.kill
    with run.data.in_use(), interruption.answering("raise", NOTICE):
        try:
            yield
            if checkpoints.stopped:
                raise Stopped(checkpoints.stopped)
        except DiskFullError as error:
            remedy = f"make room there, then {checkpoints.way_on()}"
            text = f"{error.path}: can't be written ({error.reason})"
            raise ConfigError(Problem(None, ABSENT, text, remedy)) from error
        except BaseException as error:
            if not signal_behind(error, interruption):
                raise
            if trainer.is_global_zero:
                _say_how_to_go_on(checkpoints)
            elif _was_launched_by_lightning(trainer):
                # The first process says it, and Lightning kills that one when another process fails.
                raise SystemExit(0) from None
            raise
        finally:
            interruption.pass_on = None
            interruption.take_back()


def _take_signals_from(trainer: Trainer) -> None:
    """Keep Lightning from handling SIGTERM: it would end the run between two micro-batches, with exit status 0."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def _say_how_to_go_on(checkpoints: Checkpoints) -> None:
    run_dir = checkpoints.progress.run_dir
    if is_chain(run_dir.parent):  # the chain says it
        return
    steps = checkpoint_steps(run_dir)
    if steps:
        given = shlex.quote(f"run_dir={run_dir}")
        log.warning(
            "the run stopped; update %d is kept: go on with the same command and resume=last %s", steps[-1], given
        )
    else:
        log.warning("the run stopped before its first checkpoint: start again")


def _was_launched_by_lightning(trainer: Trainer) -> bool:
    from lightning.pytorch.plugins.environments import LightningEnvironment

    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment)
