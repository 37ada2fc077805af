"""The one module that counts updates, writes checkpoints, moves `last` and `best`, and resumes from them."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
from geotune.stages.base import Stage, as_stage
from geotune.system.files import replace_symlink
from geotune.system.strict_json import write_json
from geotune.training.evaluation_schedule import EvaluationSchedule
from geotune.training.random_state import rng_state, set_rng_state

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch


TRAINER_FILE = "trainer.pt"
log = logging.getLogger(__name__)


def read_tensors(file: Path) -> dict[str, Any]:
    """What `torch.save` wrote, on the CPU. Raises ConfigError."""
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{file}: can't be read ({reason}); name another checkpoint") from error
    return content


class StepCounter(Callback):
    """Counts attempted updates in `stage.step`; stands before every callback that reads it."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the update that this micro-batch ended."""
        if ends_update(trainer, batch_idx):
            as_stage(pl_module).step += 1


def ends_update(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the micro-batch `batch_idx` of this process was the last of its update."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class Checkpoints(Callback):
    """Writes checkpoints, has them evaluated, keeps `last`, `best` and the newest few; stops cleanly on Ctrl-C.

    Stands after every other callback. Callbacks with an `evaluate(trainer, stage, step) -> dict` are called at step 0,
    after each checkpoint and at the end (their `at_start` and `every` count); their `mean_accuracy` decides `best`.

    A checkpoint appears under its name only when it is complete: it is written beside and renamed.
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
        resume: Path | None = None,
        wandb_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        if every < 1:
            raise ConfigError(f"trainer.checkpoint_every={every}: must be at least 1")
        if keep_last < 1:
            raise ConfigError(f"trainer.keep_last={keep_last}: must be at least 1")
        self.run_dir = run_dir
        self.every = every
        self.keep_last = keep_last
        self.config = config
        self.seed = seed
        self.update_size = update_size
        self.data_fingerprint = data_fingerprint
        self.plan = plan
        self.resume = resume
        self.wandb_id = wandb_id
        self.best: float | None = None
        self.best_step: int | None = None
        self.schedule = EvaluationSchedule(run_dir, every=every)
        self.interrupted = False
        self._random: dict[str, Any] | None = None
        self._saved: int | None = None
        """Step of the newest checkpoint of this run."""

    # Hooks

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make up for the last evaluation when no update is left: Lightning then calls no hook of training."""
        stage = as_stage(pl_module)
        if self.resume is None or read_state(self.resume).step < stage.total_updates:
            return
        self.on_train_start(trainer, pl_module)
        self.schedule.recall(stage.step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from a checkpoint, or evaluate the untrained backbone."""
        stage = as_stage(pl_module)
        if self.resume is not None:
            self._restore(trainer, stage, self.resume)
        if self.resume is None or not self.schedule.is_done(stage.step):
            self._evaluate(trainer, stage)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Put the random state back at the last moment: starting the loaders may have drawn from it."""
        if self._random is not None:
            set_rng_state(self._random)
            self._random = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write and evaluate when it is time; stop at an update's end when interrupted."""
        if not ends_update(trainer, batch_idx):
            return
        stage, began = as_stage(pl_module), time.perf_counter()
        last = stage.step == stage.total_updates
        stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if stop or last or stage.step % self.every == 0:
            self.save(trainer, stage)
        if stop:
            trainer.should_stop = True
        else:
            self._evaluate(trainer, stage)
        stage.paused += time.perf_counter() - began

    # Evaluation

    def _evaluate(self, trainer: Trainer, stage: Stage) -> None:
        """Call the evaluators that are due; the best evaluation so far that has a checkpoint decides `best`."""
        for result in self.schedule.run(trainer, stage):
            accuracy = result.get("mean_accuracy")
            if accuracy is not None and stage.step == self._saved and (self.best is None or accuracy > self.best):
                self.best, self.best_step = float(accuracy), stage.step
                if trainer.is_global_zero:
                    self._note_best(stage.step)

    def _note_best(self, step: int) -> None:
        folder = self.run_dir / CHECKPOINTS
        state = json.loads((folder / step_name(step) / STATE_FILE).read_text(encoding="utf-8"))
        write_json(folder / step_name(step) / STATE_FILE, state | {"best": self.best, "best_step": self.best_step})
        replace_symlink(folder / "best", step_name(step))
        self._prune()

    # Saving

    def save(self, trainer: Trainer, stage: Stage) -> None:
        """Write the checkpoint of `stage.step`; every process calls it."""
        step = stage.step
        folder = self.run_dir / CHECKPOINTS
        partial = folder / f".{step_name(step)}.partial"
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        trainer.strategy.barrier("checkpoint_begin")
        # Before anything that one process may fail in: the others would wait for it.
        placement = placement_of(trainer)
        trained = placement.gather(stage.backbone.trained_parameters())
        optimizer = placement.optimizer_state(trainer)
        problem = self._try_write(trainer, stage, partial, trained, optimizer)
        if not trainer.strategy.reduce_boolean_decision(problem is None):
            if trainer.is_global_zero:
                shutil.rmtree(partial, ignore_errors=True)
            raise ConfigError(self._not_written(step, problem))
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
        """Write this process's part of a checkpoint; what went wrong, if it did."""
        from safetensors import SafetensorError

        try:
            torch.save(rng_state(), folder / f"rng_{trainer.global_rank}.pt")
            placement_of(trainer).save_part(trainer, folder)
            if trainer.is_global_zero:
                self._write(trainer, stage, folder, trained, optimizer)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's and safetensors' own on a full disk
            return error
        return None

    def _not_written(self, step: int, problem: Exception | None) -> str:
        reason = "another process could not write its part" if problem is None else str(problem).partition("\n")[0]
        kept = checkpoint_steps(self.run_dir)
        remedy = f"go on with resume=last from {step_name(kept[-1])}" if kept else "start again"
        return (
            f"run_dir={self.run_dir}: the checkpoint of update {step} could not be written ({reason}); "
            f"make room there, then {remedy}"
        )

    def _write(
        self, trainer: Trainer, stage: Stage, folder: Path, trained: dict[str, torch.Tensor], optimizer: Any
    ) -> None:
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
            update_size=self.update_size,
            seed=self.seed,
            data_fingerprint=self.data_fingerprint,
            plan=self.plan,
            optimizer=stage.optimizer,
            template_hash=backbone.template_hash,
            best=self.best,
            best_step=self.best_step,
            wandb_id=self.wandb_id(),
            left_out=stage.left_out,
        )
        # Last: a folder with this file is complete.
        write_json(folder / STATE_FILE, asdict(state))

    def _prune(self) -> None:
        """Delete all but the newest few and the best."""
        steps = checkpoint_steps(self.run_dir)
        for step in steps[: -self.keep_last]:
            if step != self.best_step:
                shutil.rmtree(self.run_dir / CHECKPOINTS / step_name(step))

    # Resuming

    def check_resume(self, state: State, stage: Stage) -> None:
        """Raise ConfigError when the run that `state` belongs to is another one than this."""
        assert self.resume is not None
        for what, then, now, remedy in (
            (
                "data",
                state.data_fingerprint,
                self.data_fingerprint,
                "use the same data.path, data.tasks and data.limit",
            ),
            ("seed", state.seed, self.seed, f"set seed={state.seed}"),
            (
                "update size",
                state.update_size,
                self.update_size,
                "keep data.batch_size x trainer.accumulate x devices",
            ),
            ("way to deal out samples", state.plan, self.plan, "keep these settings of data"),
            ("optimizer", state.optimizer, stage.optimizer, f"set stage.optimizer={state.optimizer}"),
            (
                "chat template or system prompt",
                state.template_hash,
                stage.backbone.template_hash,
                "use the same backbone and version",
            ),
        ):
            if then != now:
                raise ConfigError(f"resume={self.resume}: its {what} was {then}, now it is {now}; {remedy}")

    def _restore(self, trainer: Trainer, stage: Stage, folder: Path) -> None:
        """Optimiser, schedule, counters and random state; the weights are loaded before."""
        state = read_state(folder)
        tensors = read_tensors(folder / TRAINER_FILE)
        try:
            placement_of(trainer).load_optimizer(trainer, folder, tensors)
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(tensors["scheduler"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{folder / TRAINER_FILE}: does not fit this optimizer ({error}); keep what trains as it was"
            ) from error
        stage.step, stage.skipped, stage.left_out = state.step, state.skipped, state.left_out
        # `best` is a link to a checkpoint beside it: in another folder it starts anew.
        if belongs_to(folder, self.run_dir):
            self._saved, self.best, self.best_step = state.step, state.best, state.best_step
        own = folder / f"rng_{trainer.global_rank}.pt"
        if own.is_file():
            self._random = read_tensors(own)
        if trainer.is_global_zero:
            log.info("resumed from %s at update %d", folder, state.step)
            if state.total_updates != stage.total_updates:
                log.warning(
                    "it was a run of %d updates and is now one of %d: the learning rate follows the new total",
                    state.total_updates,
                    stage.total_updates,
                )

    # Ctrl-C

    @contextmanager
    def graceful_interrupt(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after the update under way, with a checkpoint; the second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def first(number: int, frame: Any) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, previous)
            log.warning("interrupted: finishing this update and writing a checkpoint; Ctrl-C again to stop at once")

        previous = signal.signal(signal.SIGINT, first)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
