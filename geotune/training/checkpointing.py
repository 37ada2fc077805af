"""Writes the checkpoints of a run with the links `last` and `best`. No other module does."""

from __future__ import annotations

import io
import logging
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geotune.backbones.placement import placement_of
from geotune.backbones.weights import save_processor, save_weights
from geotune.errors import ConfigError, Problem
from geotune.runs.aside import set_aside_after
from geotune.runs.claim import is_taken
from geotune.runs.directory import (
    CHECKPOINTS,
    STATE_FILE,
    State,
    belongs_to,
    checkpoint_steps,
    read_state,
    step_name,
)
from geotune.runs.identity import fingerprint_of_facts
from geotune.runs.progress import RunProgress
from geotune.stages.base import Stage, as_stage
from geotune.system.files import replace_symlink
from geotune.system.interruption import Interruption, Stopped
from geotune.system.ranks import reduce_figures
from geotune.system.strict_json import write_json
from geotune.training.best import BestCheckpoint
from geotune.training.evaluation_schedule import EvaluationSchedule
from geotune.training.random_state import rng_state, set_rng_state
from geotune.training.resuming import TRAINER_FILE, RunIdentity, SavedRun, restore_training, rng_file

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch


log = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Writes checkpoints, runs the evaluations that are due, and stops the run cleanly on Ctrl-C or SIGTERM.

    Of the checkpoints, the newest `keep_last` and the best one are kept; the links `last` and `best` point to the
    newest and the best one. Best is the checkpoint whose evaluation had the best value of the figure of `best`.

    A checkpoint appears under its name only when it is complete, because it is written to a temporary folder that is
    then renamed. Must come after every other callback.

    Args:
        progress: Progress of the run.
        identity: What a run that resumes from the checkpoints must share with this one.
        every: Number of updates between checkpoints; there is also one at the end of the run.
        keep_last: Number of newest checkpoints to keep.
        config: The resolved recipe, as YAML.
        best: The figure that decides which checkpoint is the best.
        resume: Checkpoint that the run resumes from; None for a new run.
        wandb_id: Returns the id of the W&B run, or None.
        interruption: Requests to stop this process; while updates are computed, the first one is only noted.

    Raises:
        ConfigError: In training, a checkpoint can't be written or restored, or a process can't write its records.
        Stopped: A request to stop came during the first evaluation of this process, before any update.
    """

    def __init__(
        self,
        progress: RunProgress,
        identity: RunIdentity,
        *,
        every: int,
        keep_last: int,
        config: str,
        best: BestCheckpoint | None = None,
        resume: SavedRun | None = None,
        wandb_id: Callable[[], str | None] = lambda: None,
        interruption: Interruption | None = None,
    ) -> None:
        self.progress = progress
        self.identity = identity
        self.every = every
        self.keep_last = keep_last
        self.config = config
        self.resume = resume
        self.wandb_id = wandb_id
        self.best = best or BestCheckpoint()
        # In another run directory, `best` starts anew: it is a link to a checkpoint in the same folder.
        own = resume.state if resume is not None and belongs_to(resume.folder, progress.run_dir) else None
        self._steps = [step for step in checkpoint_steps(progress.run_dir) if own is not None and step <= own.step]
        """Steps of the checkpoints of this run, ascending: no other one is ever deleted."""
        if own is not None and own.best_step is not None and own.best_step not in self._steps:
            log.warning("the best checkpoint, that of update %d, is gone: the best value starts anew", own.best_step)
            own = replace(own, best=None, best_step=None)
        if own is not None:
            self.best.resume(own)
        self.schedule = EvaluationSchedule(progress, every=every)
        self.interruption = interruption or Interruption()
        self.stopped = 0
        """Number of the signal on which the processes of the run agreed to stop; 0 if there was none."""
        self._random_state: dict[str, Any] | None = None
        """Random state to restore before the next micro-batch."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the last evaluation of a finished run if it is missing: Lightning calls no hook of training there."""
        if self.progress.is_complete:
            self.on_train_start(trainer, pl_module)
            self.schedule.recall(self.progress.step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the checkpoint, if any, and run the evaluation of this step unless it was done before."""
        stage = as_stage(pl_module)
        if self.resume is not None:
            self._random_state = restore_training(trainer, stage, self.resume)
            if trainer.is_global_zero and belongs_to(self.resume.folder, self.progress.run_dir):
                self._go_on_from(self.resume)
        is_due = self.resume is None or not self.schedule.is_done(self.progress.step)
        if is_due and self._evaluate(trainer, stage):
            raise Stopped(self.stopped)
        self.interruption.answer = "note"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Restore the random state, as late as possible: starting the data loaders may have changed it."""
        if self._random_state is not None:
            set_rng_state(self._random_state)
            self._random_state = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """At the end of an update, write a checkpoint and evaluate if they are due; stop if a process was asked to."""
        stage = as_stage(pl_module)
        if not stage.ends_update:
            return
        with self.progress.pause():
            step = self.progress.step
            self._agree(trainer)
            ends = bool(self.stopped or stage.stop_reason) and stage.can_be_saved
            if ends or step == self.progress.total or step % self.every == 0:
                self.save(trainer, stage)
            if not stage.can_be_saved:
                return
            if stage.stop_reason is not None:
                raise RuntimeError(f"{stage.stop_reason} (the run has a checkpoint of update {step})")
            if self.stopped:
                trainer.should_stop = True
            elif self._evaluate(trainer, stage):
                trainer.should_stop = True
                if self._steps[-1:] != [step]:
                    self.save(trainer, stage)

    def _agree(self, trainer: Trainer) -> None:
        """Agree with the other processes on whether to stop. Raises ConfigError if one of them found the disk full."""
        problem = self.progress.problem
        told = {"signal": self.interruption.number, "problem": float(problem is not None)}
        agreed = reduce_figures(trainer, told, "max")
        self.stopped = int(agreed["signal"])
        if agreed["problem"]:
            raise problem or ConfigError("another process of the run found the disk full")

    def _evaluate(self, trainer: Trainer, stage: Stage) -> bool:
        """Run the evaluators that are due; if there is a checkpoint of this step, it may become the best one.

        A request to stop ends the evaluation at once; a resumed run does it again. Returns whether there was one.
        """
        step = self.progress.step
        try:
            # Several processes stop together, which an evaluator must see to.
            with self.interruption.answering("raise" if trainer.world_size == 1 else "note"):
                results = self.schedule.run(trainer, stage)
        except Stopped as stop:
            self.stopped = stop.number
            return True
        for result in results:
            earlier, value = self.best.step, self.best.value_in(result)
            if earlier is not None and self.best.step is None and trainer.is_global_zero:
                # The link belongs to another evaluator: until there is a new best one, `last` stands for the run.
                (self.progress.run_dir / CHECKPOINTS / "best").unlink(missing_ok=True)
            if value is not None and self._steps[-1:] == [step] and self.best.improves(value):
                self.best.value, self.best.step = float(value), step
                if trainer.is_global_zero:
                    with self.progress.noting_a_full_disk():
                        self._mark_best(step)
        if results:
            self._agree(trainer)
        return bool(self.stopped)

    def _go_on_from(self, resume: SavedRun) -> None:
        """Move aside what this run wrote after the checkpoint that it resumes from, and restore the links."""
        set_aside_after(self.progress.run_dir, resume.state.step, updates_left=not self.progress.is_complete)
        folder = self.progress.run_dir / CHECKPOINTS
        replace_symlink(folder / "last", resume.folder.name)
        if self.best.step is None:
            (folder / "best").unlink(missing_ok=True)
        else:
            replace_symlink(folder / "best", step_name(self.best.step))

    def _mark_best(self, step: int) -> None:
        """Note in the checkpoint of `step` that it is the best one, and move the link `best` to it."""
        folder = self.progress.run_dir / CHECKPOINTS
        state = replace(
            read_state(folder / step_name(step)),
            best=self.best.value,
            best_step=self.best.step,
            best_figure=self.best.value_of,
            best_evaluator=self.best.value_by,
        )
        write_json(folder / step_name(step) / STATE_FILE, asdict(state))
        replace_symlink(folder / "best", step_name(step))
        self._prune()

    def save(self, trainer: Trainer, stage: Stage) -> None:
        """Write the checkpoint of the current step; every process must call this method.

        Raises ConfigError in every process if one of them can't write its part.
        """
        step = self.progress.step
        self._check_claim(trainer)
        folder = self.progress.run_dir / CHECKPOINTS
        partial = folder / f".{step_name(step)}.partial"
        if trainer.is_global_zero:
            for stale in folder.glob(".step_*.partial"):  # of a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            partial.mkdir(parents=True)
        trainer.strategy.barrier("checkpoint_begin")
        # The collective calls come before anything that can fail in one process: the others would wait for it.
        placement = placement_of(trainer)
        trained = placement.gather(stage.backbone.trained_parameters())
        tensors = {
            "optimizer": placement.optimizer_state(trainer),
            "placement": placement.name,
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "stage": checked_state(stage),
        }
        problem = self._try_write(trainer, stage, partial, trained, tensors)
        if not trainer.strategy.reduce_boolean_decision(problem is None):
            if trainer.is_global_zero:
                shutil.rmtree(partial, ignore_errors=True)
            raise ConfigError(self._write_error(step, problem))
        self._steps = [*(earlier for earlier in self._steps if earlier != step), step]
        if trainer.is_global_zero:
            final = folder / step_name(step)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            replace_symlink(folder / "last", step_name(step))
            self._prune()
        trainer.strategy.barrier("checkpoint_end")

    def _try_write(
        self,
        trainer: Trainer,
        stage: Stage,
        folder: Path,
        trained: dict[str, torch.Tensor],
        tensors: dict[str, Any],
    ) -> Exception | None:
        """Write this process's part of a checkpoint; return the error if that fails."""
        from safetensors import SafetensorError

        try:
            torch.save(rng_state(), folder / rng_file(trainer.global_rank))
            placement_of(trainer).save_part(trainer, folder)
            if trainer.is_global_zero:
                self._write(stage, folder, trained, tensors)
        except (ConfigError, OSError, RuntimeError, SafetensorError) as error:  # all of them on a full disk
            return error
        return None

    def _write_error(self, step: int, problem: Exception | None) -> str:
        reason = "another process could not write its part" if problem is None else str(problem).partition("\n")[0]
        return (
            f"run_dir={self.progress.run_dir}: the checkpoint of update {step} could not be written ({reason}); "
            f"make room there, then {self.way_on()}"
        )

    def way_on(self) -> str:
        """Return what the user can do after this run has ended before its end."""
        kept = checkpoint_steps(self.progress.run_dir)
        return f"continue with resume=last from {step_name(kept[-1])}" if kept else "start again"

    def _write(self, stage: Stage, folder: Path, trained: dict[str, torch.Tensor], tensors: dict[str, Any]) -> None:
        """Write what the first process alone writes of a checkpoint."""
        backbone = stage.backbone
        save_weights(backbone, folder, trained)
        save_processor(backbone, folder / "processor")
        (folder / "config.yaml").write_text(self.config, encoding="utf-8")
        torch.save(tensors, folder / TRAINER_FILE)
        progress, depends_on = self.progress, self.identity.depends_on
        state = State(
            step=progress.step,
            position=progress.step,
            skipped=progress.skipped,
            total_updates=progress.total,
            update_size=self.identity.update_size,
            seed=self.identity.seed,
            data_fingerprint=fingerprint_of_facts(depends_on["data"]),
            plan=self.identity.plan,
            optimizer=stage.config.optimizer,
            template_hash=backbone.template_hash,
            best=self.best.value,
            best_step=self.best.step,
            best_figure=self.best.value_of,
            best_evaluator=self.best.value_by,
            wandb_id=self.wandb_id(),
            left_out=progress.unreadable,
            written_at=datetime.now().astimezone().isoformat(),
            identity={part: dict(facts) for part, facts in depends_on.items()},
        )
        # The last file: a folder that holds it is a complete checkpoint.
        write_json(folder / STATE_FILE, asdict(state))

    def _check_claim(self, trainer: Trainer) -> None:
        """Raise ConfigError in every process if another run has taken the folder, as after a long standstill."""
        is_lost = trainer.is_global_zero and is_taken(self.progress.run_dir)
        if trainer.strategy.reduce_boolean_decision(is_lost, all=False):
            remedy = "resume from its last checkpoint in another folder"
            raise ConfigError(Problem("run_dir", self.progress.run_dir, "another run has taken this folder", remedy))

    def _prune(self) -> None:
        """Delete all checkpoints of this run but the newest `keep_last` and the best one."""
        kept = {*self._steps[-self.keep_last :], self.best.step}
        for step in self._steps:
            folder = self.progress.run_dir / CHECKPOINTS / step_name(step)
            if step not in kept and folder.is_dir():
                shutil.rmtree(folder)
        self._steps = [step for step in self._steps if step in kept]


def checked_state(stage: Stage) -> dict[str, Any]:
    """Return the extra state of `stage`. Raises TypeError if a resumed run could not read it."""
    state = stage.extra_state()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(
            f"{type(stage).__name__}.extra_state: torch.load(weights_only=True) can't read it; return tensors, "
            "numbers, text, and lists and dicts of them"
        ) from error
    return state
