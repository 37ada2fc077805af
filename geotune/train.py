"""`geotune train recipe=<name>`: build what a recipe names, train it, and return the final figures."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command
from geotune.config.instantiation import instantiate_checked
from geotune.errors import ConfigError
from geotune.runs.directory import State, belongs_to, find_checkpoint, is_finished, read_state
from geotune.runs.logs import write_rejected
from geotune.runs.saved_config import config_text, write_config
from geotune.system.strict_json import write_json

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import WandbLogger
    from omegaconf import DictConfig

    from geotune.backbones.base import Backbone
    from geotune.data.datamodule import GeoData
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan
    from geotune.stages.base import Stage
    from geotune.training.checkpointing import Checkpoints

log = logging.getLogger("geotune.train")  # not __name__, which is "__main__" under python -m


@dataclass
class TrainingRun:
    """The parts of one training run, as its config names them."""

    run_dir: Path
    checkpoint: Path | None
    """Checkpoint that the run resumes from."""
    state: State | None
    """State of that checkpoint."""
    evaluators: list[Any]
    backbone: Backbone
    data: GeoData
    dataset: SampleDataset
    stage: Stage
    loggers: list[WandbLogger]
    trainer: Trainer
    plan: UpdatePlan


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build everything that `cfg` names, train it, and return the last evaluation with the run's own figures.

    With `cfg.dry_run` the function prints what would run and returns an empty dict. Raises ConfigError for a mistake of
    the user, and KeyboardInterrupt once an interrupted run has written its checkpoint.
    """
    from lightning.pytorch import seed_everything

    from geotune.system.libraries import silence_libraries
    from geotune.training.checkpointing import StepCounter
    from geotune.training.monitor import Monitor, ProgressBar
    from geotune.training.summary import plan_figures, plan_in_words, run_summary
    from geotune.training.trainer import closing

    silence_libraries()
    seed_everything(cfg.seed, workers=True, verbose=False)
    run = build_run(cfg)
    if cfg.dry_run:
        print(run_summary(cfg, run.backbone, run.dataset, run.plan, run.stage.total_updates))
        return {}
    checkpoints = checkpoints_of(run, cfg)
    if run.checkpoint is not None:
        load_checkpoint(run, checkpoints, cfg.resume)
    data_figures = plan_figures(run.plan)
    if run.trainer.is_global_zero:
        log.info("%s: %s", cfg.data.path, plan_in_words(data_figures))
        write_config(run.run_dir, cfg)
        write_rejected(run.run_dir, run.dataset.rejected)
    limits = {"every": cfg.trainer.log_every, "max_unreadable": cfg.data.max_bad_samples}
    monitor = Monitor(run.run_dir, run.plan, run.dataset.ids, **limits)
    callbacks = [StepCounter(), monitor, ProgressBar(monitor), *run.evaluators, checkpoints]
    run.trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    with checkpoints.graceful_interrupt(), closing(run.loggers):
        run.trainer.fit(run.stage, datamodule=run.data)
    if checkpoints.interrupted:
        raise KeyboardInterrupt
    evaluation = checkpoints.schedule.result or {"step": run.stage.step}
    result = {**evaluation, "train": monitor.last, "data": data_figures}
    if run.trainer.is_global_zero:
        write_json(run.run_dir / "metrics.json", result)
    return result


def build_run(cfg: DictConfig) -> TrainingRun:
    """Build the parts of a run. The evaluation questions come first, because a mistake in them shows up quickly."""
    from geotune.training.strategies import prepare
    from geotune.training.trainer import loggers_from, trainer_from

    run_dir = Path(cfg.run_dir) if cfg.run_dir is not None else Path()
    checkpoint = find_checkpoint(cfg.resume, run_dir) if cfg.resume is not None else None
    state = read_state(checkpoint) if checkpoint is not None else None
    evaluators = [] if cfg.evaluator is None else [instantiate_checked(cfg.evaluator, "evaluator")]
    for evaluator in evaluators:
        evaluator.prepare()
    backbone = instantiate_checked(cfg.backbone, "backbone")
    data = instantiate_checked(cfg.data, "data")
    dataset = data.load(backbone.encoder, seed=cfg.seed)
    stage = instantiate_checked(cfg.stage, "stage", backbone=backbone)
    # A run that resumes from another run's checkpoint is a run of its own, in W&B too.
    same_run = checkpoint is not None and belongs_to(checkpoint, run_dir)
    run_id = state.wandb_id if state is not None and same_run else None
    loggers = [] if cfg.dry_run else loggers_from(cfg, run_dir, run_id)
    trainer = trainer_from(cfg, loggers, vision_trains=backbone.tower_trains or backbone.projector_trains)
    prepare(cfg.trainer.strategy, backbone, dataset.samples)
    plan = data.plan(accumulate=cfg.trainer.accumulate, ranks=trainer.world_size)
    stage.total_updates = data.stop = total_updates(cfg.trainer, plan)
    stage.run_dir = run_dir
    return TrainingRun(run_dir, checkpoint, state, evaluators, backbone, data, dataset, stage, loggers, trainer, plan)


def total_updates(cfg: DictConfig, plan: UpdatePlan) -> int:
    """Number of updates of the run: `max_steps` or `epochs`, whichever comes first."""
    by_epochs = math.inf if cfg.epochs is None else plan.updates_for(cfg.epochs)
    by_steps = math.inf if cfg.max_steps is None else cfg.max_steps
    return int(min(by_epochs, by_steps))


def checkpoints_of(run: TrainingRun, cfg: DictConfig) -> Checkpoints:
    """Return the callback that writes the checkpoints of the run."""
    from geotune.training.checkpointing import Checkpoints

    return Checkpoints(
        run.run_dir,
        every=cfg.trainer.checkpoint_every,
        keep_last=cfg.trainer.keep_last,
        config=config_text(cfg),
        seed=cfg.seed,
        update_size=run.plan.update_size,
        data_fingerprint=run.dataset.fingerprint,
        plan=run.data.plan_name,
        resume=run.checkpoint,
        wandb_id=lambda: next((logger.version for logger in run.loggers), None),
    )


def load_checkpoint(run: TrainingRun, checkpoints: Checkpoints, typed: str) -> None:
    """Load the weights and the position of the run's checkpoint, which the user named by `resume=<typed>`.

    Raises ConfigError if the checkpoint belongs to a run with other settings, or if no update is left.
    """
    from geotune.backbones.weights import load_weights

    assert run.checkpoint is not None
    assert run.state is not None
    checkpoints.check_resume(run.state, run.stage)
    load_weights(run.backbone, run.checkpoint)
    run.data.start = run.state.position
    step, total = run.state.step, run.stage.total_updates
    # A run that was stopped during its last evaluation has only that evaluation left.
    if step > total or (step == total and is_finished(run.checkpoint, step)):
        raise ConfigError(
            f"resume={typed}: {run.checkpoint} is at update {step} of {total}, nothing is left to train; "
            "raise trainer.max_steps or trainer.epochs"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("train", train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
