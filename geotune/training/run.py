"""One training run: its parts, built from a config, and the checkpoint that it resumes from."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.backbones.weights import load_weights
from geotune.config.instantiation import instantiate_checked
from geotune.errors import ConfigError, Problem
from geotune.runs.directory import State, belongs_to, find_checkpoint, is_finished, read_state
from geotune.runs.saved_config import config_text
from geotune.training.checkpointing import Checkpoints
from geotune.training.starting import load_start, resolve_start
from geotune.training.strategies import prepare
from geotune.training.trainer import loggers_from, trainer_from

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import WandbLogger
    from omegaconf import DictConfig

    from geotune.backbones.base import Backbone
    from geotune.data.datamodule import GeoData
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan
    from geotune.stages.base import Stage

log = logging.getLogger(__name__)


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


def build_run(cfg: DictConfig) -> TrainingRun:
    """Build the parts of a run. The evaluation questions come first, because a mistake in them shows up quickly."""
    run_dir = Path(cfg.run_dir) if cfg.run_dir is not None else Path()
    checkpoint = find_checkpoint(cfg.resume, run_dir) if cfg.resume is not None else None
    state = read_state(checkpoint) if checkpoint is not None else None
    start = resolve_start(cfg, checkpoint)
    evaluators = [] if cfg.evaluator is None else [instantiate_checked(cfg.evaluator, "evaluator")]
    for evaluator in evaluators:
        evaluator.prepare()
    backbone = instantiate_checked(cfg.backbone, "backbone")
    started_from = load_start(backbone, start) if start is not None else None
    data = instantiate_checked(cfg.data, "data")
    dataset = data.load(backbone.encoder, seed=cfg.seed)
    stage = instantiate_checked(cfg.stage, "stage", backbone=backbone)
    # A run that resumes from another run's checkpoint is a run of its own, in W&B too.
    same_run = checkpoint is not None and belongs_to(checkpoint, run_dir)
    run_id = state.wandb_id if state is not None and same_run else None
    loggers = [] if cfg.dry_run else loggers_from(cfg, run_dir, run_id)
    trainer = trainer_from(cfg, loggers, vision_trains=backbone.tower_trains or backbone.projector_trains)
    if started_from is not None and trainer.is_global_zero:
        log.info("training starts from %s", started_from)
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
    assert run.checkpoint is not None
    assert run.state is not None
    checkpoints.check_resume(run.state, run.stage)
    load_weights(run.backbone, run.checkpoint)
    run.data.start = run.state.position
    step, total = run.state.step, run.stage.total_updates
    # A run that was stopped during its last evaluation has only that evaluation left.
    if step > total or (step == total and is_finished(run.checkpoint, step)):
        raise ConfigError(
            Problem(
                "resume",
                typed,
                f"{run.checkpoint} is at update {step} of {total}, nothing is left to train",
                "raise trainer.max_steps or trainer.epochs",
            )
        )
