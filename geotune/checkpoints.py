"""The one module that counts updates, writes checkpoints, moves `last` and `best`, and resumes from them."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geotune.errors import ConfigError
from geotune.stages.base import Stage, as_stage
from geotune.strategies import placement_of
from geotune.strict_json import write_json

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.data.collate import Batch

FOLDER = "checkpoints"
NAME = re.compile(r"step_(\d{6,})")
STATE_FILE = "state.json"
TRAINER_FILE = "trainer.pt"

log = logging.getLogger(__name__)


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
    """Samples whose pictures could not be read, by id, with the reason."""


def step_name(step: int) -> str:
    """Name of the checkpoint of `step`."""
    return f"step_{step:06d}"


def checkpoint_steps(run_dir: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending."""
    folder = run_dir / FOLDER
    if not folder.is_dir():
        return []
    found = (NAME.fullmatch(entry.name) for entry in folder.iterdir() if (entry / STATE_FILE).is_file())
    return sorted(int(match.group(1)) for match in found if match)


def find_checkpoint(resume: str, run_dir: Path) -> Path:
    """The checkpoint folder that `resume` names: `last` (the newest complete one of `run_dir`) or a path.

    Raises ConfigError when there is none.
    """
    if resume == "last":
        steps = checkpoint_steps(run_dir)
        if not steps:
            raise ConfigError(f"resume=last: {run_dir / FOLDER} holds no complete checkpoint; start without resume")
        return run_dir / FOLDER / step_name(steps[-1])
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
    return folder.resolve().parent == (run_dir / FOLDER).resolve()


def read_tensors(file: Path) -> dict[str, Any]:
    """What `torch.save` wrote, on the CPU. Raises ConfigError."""
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{file}: can't be read ({reason}); name another checkpoint") from error
    return content


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Load what the checkpoint `folder` trained into `backbone`; every tensor must match. Raises ConfigError."""
    if backbone.has_adapter:
        backbone.load_adapter(folder / "adapter")
    if backbone.full_state():
        backbone.load_full(folder / "model")


def save_weights(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write what trains: `adapter/` in PEFT's layout, `model/` for what is trained in full.

    trained: `backbone.trained_parameters()` gathered, where they are spread over processes.
    """
    if backbone.has_adapter:
        backbone.save_adapter(folder / "adapter", trained)
    if backbone.full_state():
        backbone.save_full(folder / "model", trained)


def rng_state() -> dict[str, Any]:
    """Random state of this process."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def point(link: Path, target: str) -> None:
    """Make `link` a relative symbolic link to `target` beside it, replacing an older one in one step."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)


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
        self.result: dict[str, Any] | None = None
        """The last evaluation."""
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
        if self.result is None and (done := self._evaluation(stage.step)).is_file():
            self.result = json.loads(done.read_text(encoding="utf-8"))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from a checkpoint, or evaluate the untrained backbone."""
        stage = as_stage(pl_module)
        if self.resume is not None:
            self._restore(trainer, stage, self.resume)
        if self.resume is None or not self._evaluation(stage.step).is_file():
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

    def _evaluation(self, step: int) -> Path:
        return self.run_dir / "eval" / f"{step_name(step)}.json"

    def _evaluators(self, trainer: Trainer) -> list[Any]:
        return [c for c in trainer.callbacks if hasattr(c, "evaluate")]  # type: ignore[attr-defined]

    def _evaluate(self, trainer: Trainer, stage: Stage) -> None:
        """Call the evaluators that are due, without moving the run's random state."""
        step = stage.step
        random_state = rng_state()
        for evaluator in self._evaluators(trainer):
            every = getattr(evaluator, "every", None) or self.every
            last = step == stage.total_updates
            wanted = getattr(evaluator, "at_start", True) if step == 0 else last or step % every == 0
            if not wanted:
                continue
            self.result = evaluator.evaluate(trainer, stage, step)
            accuracy = self.result.get("mean_accuracy")
            # Only what has a checkpoint can be the best one.
            if accuracy is not None and step == self._saved and (self.best is None or accuracy > self.best):
                self.best, self.best_step = float(accuracy), step
                if trainer.is_global_zero:
                    self._note_best(step)
        set_rng_state(random_state)

    def _note_best(self, step: int) -> None:
        folder = self.run_dir / FOLDER
        state = json.loads((folder / step_name(step) / STATE_FILE).read_text(encoding="utf-8"))
        write_json(folder / step_name(step) / STATE_FILE, state | {"best": self.best, "best_step": self.best_step})
        point(folder / "best", step_name(step))
        self._prune()

    # Saving

    def save(self, trainer: Trainer, stage: Stage) -> None:
        """Write the checkpoint of `stage.step`; every process calls it."""
        step = stage.step
        folder = self.run_dir / FOLDER
        partial = folder / f".{step_name(step)}.partial"
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        trainer.strategy.barrier("checkpoint_begin")
        # Before anything that one process may fail in: the others would wait for it.
        placement = placement_of(trainer)
        trained = placement.whole(stage.backbone.trained_parameters())
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
            point(folder / "last", step_name(step))
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
        backbone.save_processor(folder / "processor")
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
                shutil.rmtree(self.run_dir / FOLDER / step_name(step))

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
