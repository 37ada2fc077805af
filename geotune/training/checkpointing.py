"""Counts updates, and writes the checkpoints of a run with the links `last` and `best`. No other module does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geotune.backbones.placement import placement_of
from geotune.backbones.weights import save_processor, save_weights
from geotune.errors import ConfigError, Problem
from geotune.runs.directory import (
    CHECKPOINTS,
    STATE_FILE,
    State,
    belongs_to,
    checkpoint_steps,
    read_state,
    step_name,
)
from geotune.stages.base import Stage, as_stage
from geotune.system.files import replace_symlink
from geotune.system.strict_json import write_json
from geotune.training.best import BestCheckpoint
from geotune.training.evaluation_schedule import EvaluationSchedule
from geotune.training.interruption import Interruption
from geotune.training.random_state import rng_state, set_rng_state
from geotune.training.resuming import TRAINER_FILE, RunIdentity, check_same_run, restore_training, rng_file

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch


class StepCounter(Callback):
    """Counts attempted updates in `stage.step`; must come before every callback that reads the count."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the update if this micro-batch was its last one."""
        if ends_update(trainer, batch_idx):
            as_stage(pl_module).step += 1


def ends_update(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether the micro-batch `batch_idx` of this process is the last one of its update."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class Checkpoints(Callback):
    """Writes checkpoints, runs the evaluations that are due, and stops the run cleanly on Ctrl-C.

    Of the checkpoints, the newest `keep_last` and the best one are kept; the links `last` and `best` point to the
    newest and the best one. Best is the checkpoint whose evaluation had the best value of the figure of `best`.

    A checkpoint appears under its name only when it is complete, because it is written to a temporary folder that is
    then renamed. Must come after every other callback.

    Args:
        run_dir: Folder of the run.
        every: Number of updates between checkpoints; there is also one at the end of the run.
        keep_last: Number of newest checkpoints to keep.
        config: The resolved recipe, as YAML.
        seed: Seed of the run.
        update_size: Samples per update.
        data_fingerprint: Fingerprint of the training set.
        plan: Settings that determine which samples an update holds.
        best: The figure that decides which checkpoint is the best.
        resume: Checkpoint to resume from; None for a new run.
        wandb_id: Returns the id of the W&B run, or None.

    Raises:
        ConfigError: `every` or `keep_last` is below 1; in training, a checkpoint can't be written or restored.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        every: int,
        keep_last: int,
        config: str,
        seed: int,
        update_size: int,
        data_fingerprint: str,
        plan: str,
        best: BestCheckpoint | None = None,
        resume: Path | None = None,
        wandb_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        if every < 1:
            raise ConfigError(Problem("trainer.checkpoint_every", every, "must be at least 1"))
        if keep_last < 1:
            raise ConfigError(Problem("trainer.keep_last", keep_last, "must be at least 1"))
        self.run_dir = run_dir
        self.every = every
        self.keep_last = keep_last
        self.config = config
        self.identity = RunIdentity(seed, update_size, data_fingerprint, plan)
        self.resume = resume
        self.wandb_id = wandb_id
        self.best = best or BestCheckpoint()
        self.schedule = EvaluationSchedule(run_dir, every=every)
        self._interruption = Interruption()
        self._random_state: dict[str, Any] | None = None
        """Random state to restore before the next micro-batch."""
        self._saved: int | None = None
        """Step of the newest checkpoint of this run."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed in this process."""
        return self._interruption.requested

    def graceful_interrupt(self) -> AbstractContextManager[None]:
        """Return a context in which the first Ctrl-C ends the run after its update, with a checkpoint."""
        return self._interruption.handled()

    def check_resume(self, state: State, stage: Stage) -> None:
        """Raise ConfigError if this run can't continue the run that `state` belongs to."""
        assert self.resume is not None
        check_same_run(self.resume, state, self.identity, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the last evaluation of a finished run if it is missing: Lightning calls no hook of training there."""
        stage = as_stage(pl_module)
        if self.resume is None or read_state(self.resume).step < stage.total_updates:
            return
        self.on_train_start(trainer, pl_module)
        self.schedule.recall(stage.step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the checkpoint, if any, and run the evaluation of this step unless it was done before."""
        stage = as_stage(pl_module)
        if self.resume is not None:
            self._restore(trainer, stage, self.resume)
        if self.resume is None or not self.schedule.is_done(stage.step):
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
        if not ends_update(trainer, batch_idx):
            return
        stage, began = as_stage(pl_module), time.perf_counter()
        is_last = stage.step == stage.total_updates
        stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if stop or is_last or stage.step % self.every == 0:
            self.save(trainer, stage)
        if stop:
            trainer.should_stop = True
        else:
            self._evaluate(trainer, stage)
        stage.paused += time.perf_counter() - began

    def _restore(self, trainer: Trainer, stage: Stage, checkpoint: Path) -> None:
        state = read_state(checkpoint)
        self._random_state = restore_training(trainer, stage, checkpoint, state)
        # In another run directory, `best` starts anew: it is a link to a checkpoint in the same folder.
        if belongs_to(checkpoint, self.run_dir):
            self._saved = state.step
            self.best.resume(state)

    def _evaluate(self, trainer: Trainer, stage: Stage) -> None:
        """Run the evaluators that are due; if there is a checkpoint of this step, it may become the best one."""
        for result in self.schedule.run(trainer, stage):
            value = self.best.value_in(result)
            if value is not None and stage.step == self._saved and self.best.improves(value):
                self.best.value, self.best.step = float(value), stage.step
                if trainer.is_global_zero:
                    self._mark_best(stage.step)

    def _mark_best(self, step: int) -> None:
        """Note in the checkpoint of `step` that it is the best one, and move the link `best` to it."""
        folder = self.run_dir / CHECKPOINTS
        state = replace(
            read_state(folder / step_name(step)),
            best=self.best.value,
            best_step=self.best.step,
            best_figure=self.best.value_of,
        )
        write_json(folder / step_name(step) / STATE_FILE, asdict(state))
        replace_symlink(folder / "best", step_name(step))
        self._prune()

    def save(self, trainer: Trainer, stage: Stage) -> None:
        """Write the checkpoint of `stage.step`; every process must call this method.

        Raises ConfigError in every process if one of them can't write its part.
        """
        step = stage.step
        folder = self.run_dir / CHECKPOINTS
        partial = folder / f".{step_name(step)}.partial"
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        trainer.strategy.barrier("checkpoint_begin")
        # The collective calls come before anything that can fail in one process: the others would wait for it.
        placement = placement_of(trainer)
        trained = placement.gather(stage.backbone.trained_parameters())
        optimizer = placement.optimizer_state(trainer)
        problem = self._try_write(trainer, stage, partial, trained, optimizer)
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
        self, trainer: Trainer, stage: Stage, folder: Path, trained: dict[str, torch.Tensor], optimizer: Any
    ) -> Exception | None:
        """Write this process's part of a checkpoint; return the error if that fails."""
        from safetensors import SafetensorError

        try:
            torch.save(rng_state(), folder / rng_file(trainer.global_rank))
            placement_of(trainer).save_part(trainer, folder)
            if trainer.is_global_zero:
                self._write(trainer, stage, folder, trained, optimizer)
        except (ConfigError, OSError, RuntimeError, SafetensorError) as error:  # all of them on a full disk
            return error
        return None

    def _write_error(self, step: int, problem: Exception | None) -> str:
        reason = "another process could not write its part" if problem is None else str(problem).partition("\n")[0]
        kept = checkpoint_steps(self.run_dir)
        remedy = f"continue with resume=last from {step_name(kept[-1])}" if kept else "start again"
        return (
            f"run_dir={self.run_dir}: the checkpoint of update {step} could not be written ({reason}); "
            f"make room there, then {remedy}"
        )

    def _write(
        self, trainer: Trainer, stage: Stage, folder: Path, trained: dict[str, torch.Tensor], optimizer: Any
    ) -> None:
        """Write what the first process alone writes of a checkpoint."""
        backbone = stage.backbone
        save_weights(backbone, folder, trained)
        save_processor(backbone, folder / "processor")
        (folder / "config.yaml").write_text(self.config, encoding="utf-8")
        torch.save(
            {
                "optimizer": optimizer,
                "placement": placement_of(trainer).name,
                "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            },
            folder / TRAINER_FILE,
        )
        state = State(
            step=stage.step,
            position=stage.step,
            skipped=stage.skipped,
            total_updates=stage.total_updates,
            update_size=self.identity.update_size,
            seed=self.identity.seed,
            data_fingerprint=self.identity.data_fingerprint,
            plan=self.identity.plan,
            optimizer=stage.optimizer,
            template_hash=backbone.template_hash,
            best=self.best.value,
            best_step=self.best.step,
            best_figure=self.best.value_of,
            wandb_id=self.wandb_id(),
            left_out=stage.unreadable,
        )
        # The last file: a folder that holds it is a complete checkpoint.
        write_json(folder / STATE_FILE, asdict(state))

    def _prune(self) -> None:
        """Delete all checkpoints but the newest `keep_last` and the best one."""
        steps = checkpoint_steps(self.run_dir)
        for step in steps[: -self.keep_last]:
            if step != self.best.step:
                shutil.rmtree(self.run_dir / CHECKPOINTS / step_name(step))
