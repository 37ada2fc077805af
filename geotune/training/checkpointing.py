"""Writes the checkpoints of a run with the links `last` and `best`. No other module does."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geotune.backbones.placement import placement_of
from geotune.backbones.weights import save_processor, save_weights
from geotune.errors import ConfigError
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
from geotune.system.strict_json import write_json
from geotune.training.best import BestCheckpoint
from geotune.training.evaluation_schedule import EvaluationSchedule
from geotune.training.interruption import Interruption
from geotune.training.random_state import rng_state, set_rng_state
from geotune.training.resuming import TRAINER_FILE, RunIdentity, SavedRun, restore_training, rng_file

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch


class Checkpoints(Callback):
    """Writes checkpoints, runs the evaluations that are due, and stops the run cleanly on Ctrl-C.

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

    Raises:
        ConfigError: In training, a checkpoint can't be written or restored.
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
        if own is not None:
            self.best.resume(own)
        self.schedule = EvaluationSchedule(progress, every=every)
        self._interruption = Interruption()
        self._random_state: dict[str, Any] | None = None
        """Random state to restore before the next micro-batch."""
        self._saved: int | None = own.step if own else None
        """Step of the newest checkpoint of this run."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed in this process."""
        return self._interruption.requested

    def graceful_interrupt(self) -> AbstractContextManager[None]:
        """Return a context in which the first Ctrl-C ends the run after its update, with a checkpoint."""
        return self._interruption.handled()

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
        if self.resume is None or not self.schedule.is_done(self.progress.step):
            self._evaluate(trainer, stage)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Restore the random state, as late as possible: starting the data loaders may have changed it."""
        if self._random_state is not None:
            set_rng_state(self._random_state)
            self._random_state = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """At the end of an update, write a checkpoint and evaluate if they are due; stop if Ctrl-C was pressed."""
        stage = as_stage(pl_module)
        if not stage.ends_update:
            return
        with self.progress.pause():
            step = self.progress.step
            stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
            if stop or step == self.progress.total or step % self.every == 0:
                self.save(trainer, stage)
            if stop:
                trainer.should_stop = True
            else:
                self._evaluate(trainer, stage)

    def _evaluate(self, trainer: Trainer, stage: Stage) -> None:
        """Run the evaluators that are due; if there is a checkpoint of this step, it may become the best one."""
        step = self.progress.step
        for result in self.schedule.run(trainer, stage):
            earlier, value = self.best.step, self.best.value_in(result)
            if earlier is not None and self.best.step is None and trainer.is_global_zero:
                # The link belongs to another evaluator: until there is a new best one, `last` stands for the run.
                (self.progress.run_dir / CHECKPOINTS / "best").unlink(missing_ok=True)
            if value is not None and step == self._saved and self.best.improves(value):
                self.best.value, self.best.step = float(value), step
                if trainer.is_global_zero:
                    self._mark_best(step)

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
        folder = self.progress.run_dir / CHECKPOINTS
        partial = folder / f".{step_name(step)}.partial"
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
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
        if trainer.is_global_zero:
            final = folder / step_name(step)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            replace_symlink(folder / "last", step_name(step))
            self._prune()
        trainer.strategy.barrier("checkpoint_end")
        self._saved = step

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
        kept = checkpoint_steps(self.progress.run_dir)
        remedy = f"continue with resume=last from {step_name(kept[-1])}" if kept else "start again"
        return (
            f"run_dir={self.progress.run_dir}: the checkpoint of update {step} could not be written ({reason}); "
            f"make room there, then {remedy}"
        )

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
            identity={part: dict(facts) for part, facts in depends_on.items()},
        )
        # The last file: a folder that holds it is a complete checkpoint.
        write_json(folder / STATE_FILE, asdict(state))

    def _prune(self) -> None:
        """Delete all checkpoints but the newest `keep_last` and the best one."""
        steps = checkpoint_steps(self.progress.run_dir)
        for step in steps[: -self.keep_last]:
            if step != self.best.step:
                shutil.rmtree(self.progress.run_dir / CHECKPOINTS / step_name(step))


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
