"""One training run: its parts, built from a config, and the checkpoint that it resumes from."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.backbones.identity import backbone_identity
from geotune.backbones.weights import load_weights
from geotune.config.instantiation import instantiate_checked
from geotune.data.building import NotBuiltError
from geotune.data.datamodule import TrainingData
from geotune.errors import ConfigError, Problem
from geotune.runs.directory import belongs_to, find_checkpoint, is_finished, read_state
from geotune.runs.progress import RunProgress
from geotune.runs.saved_config import config_text
from geotune.training.best import BestCheckpoint, suites_told_by
from geotune.training.checkpointing import Checkpoints
from geotune.training.inputs import check_inputs
from geotune.training.monitor import Monitor, workload_of
from geotune.training.resuming import RunIdentity, SavedRun, check_same_run
from geotune.training.starting import load_start, resolve_start
from geotune.training.strategies import prepare
from geotune.training.summary import findings, left_out_in_words, run_summary, unbuilt_summary
from geotune.training.trainer import trainer_from
from geotune.training.wandb_logger import check_wandb

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from omegaconf import DictConfig

    from geotune.backbones.base import Backbone
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan
    from geotune.stages.base import Stage
    from geotune.system.interruption import Interruption

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """The parts of one training run, as its config names them."""

    resume: SavedRun | None
    """Checkpoint that the run resumes from."""
    evaluators: list[Any]
    backbone: Backbone
    dataset: SampleDataset
    wandb_id: str | None
    """Id of the W&B run to continue; None starts a new one."""
    trainer: Trainer
    """The trainer, still without the callbacks and the loggers of the run."""
    plan: UpdatePlan
    progress: RunProgress
    data: TrainingData
    stage: Stage
    identity: RunIdentity
    """What the run must share with one that it resumes."""


class DataNotBuiltError(Exception):
    """Raised in a dry run if the training data is not built yet."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.backbone = backbone


def build_run(cfg: DictConfig) -> TrainingRun:
    """Build the parts of a run. The evaluation questions come first, because a mistake in them shows up quickly."""
    check_inputs(cfg)
    check_wandb(cfg)
    run_dir = Path(cfg.run_dir) if cfg.run_dir is not None else Path()
    resume = saved_run(cfg.resume, run_dir) if cfg.resume is not None else None
    start = resolve_start(cfg, resume.folder if resume is not None else None)
    evaluators = [] if cfg.evaluator is None else [instantiate_checked(cfg.evaluator, "evaluator")]
    for evaluator in evaluators:
        evaluator.prepare()
    backbone = instantiate_checked(cfg.backbone, "backbone")
    told = {"resumes": resume is not None, "allow_changes": cfg.allow_changes}
    started_from = load_start(backbone, start, **told) if start is not None else None
    settings = instantiate_checked(cfg.data, "data")
    try:
        dataset = settings.load(backbone.encoder, seed=cfg.seed)
    except NotBuiltError as error:
        raise DataNotBuiltError(backbone) from error
    # A run that resumes from another run's checkpoint is a run of its own, in W&B too.
    same_run = resume is not None and belongs_to(resume.folder, run_dir)
    wandb_id = resume.state.wandb_id if resume is not None and same_run else None
    trainer = trainer_from(cfg, [], vision_trains=backbone.tower_trains or backbone.projector_trains)
    if started_from is not None and trainer.is_global_zero:
        log.info("training starts from %s", started_from)
    prepare(cfg.trainer.strategy, backbone, dataset.samples)
    plan = settings.plan(dataset, seed=cfg.seed, accumulate=cfg.trainer.accumulate, ranks=trainer.world_size)
    per_item = cfg.stage.get("updates_per_rollout", 1)
    progress = progress_of(run_dir, total_updates(cfg.trainer, plan, per_item), resume)
    stage: Stage = instantiate_checked(cfg.stage, "stage", backbone=backbone, progress=progress)
    data = stage.training_data(
        dataset,
        plan,
        seed=cfg.seed,
        start=resume.state.position if resume is not None else 0,
        stop=progress.total,
        num_workers=settings.config.num_workers,
    )
    depends_on = {"data": dataset.facts, **backbone_identity(backbone)}
    identity = RunIdentity(depends_on, cfg.seed, plan.update_size, settings.plan_name)
    return TrainingRun(resume, evaluators, backbone, dataset, wandb_id, trainer, plan, progress, data, stage, identity)


def dry_run_text(cfg: DictConfig) -> str:
    """Return what a dry run shows: the summary of the run, without its data if that is not built yet."""
    try:
        run = build_run(cfg)
    except DataNotBuiltError as error:
        return unbuilt_summary(cfg, error.backbone)
    for line in findings(run.dataset, run.evaluators):
        log.warning(line)
    summary = run_summary(cfg, run.backbone, run.dataset, run.plan, run.progress.total)
    run.stage.to(run.trainer.strategy.root_device)
    own = run.stage.preview(run.data)
    return f"{summary}\n\n{own}" if own else summary


def tell_findings(run: TrainingRun, cfg: DictConfig) -> None:
    """Say what the audit of the training data found, what suites share with it, and what the run leaves out of it."""
    for line in findings(run.dataset, run.evaluators):
        log.warning(line)
    tell_left_out(run, cfg)


def tell_left_out(run: TrainingRun, cfg: DictConfig, *, only_large: bool = False) -> None:
    """Say how many samples the run leaves out and why; `only_large` says only what is a large share."""
    for line, is_large in left_out_in_words(run.dataset).items():
        if is_large or not only_large:
            log.log(logging.WARNING if is_large else logging.INFO, "%s: %s", cfg.data.path, line)


def saved_run(resume: str, run_dir: Path) -> SavedRun:
    """Return the checkpoint that `resume` names (`find_checkpoint`). Raises ConfigError if there is none."""
    folder = find_checkpoint(resume, run_dir)
    return SavedRun(folder, read_state(folder))


def progress_of(run_dir: Path, total: int, resume: SavedRun | None) -> RunProgress:
    """Return the progress of a run of `total` updates that begins, or goes on from a checkpoint."""
    if resume is None:
        return RunProgress(run_dir, total)
    state = resume.state
    return RunProgress(run_dir, total, step=state.step, skipped=state.skipped, unreadable=state.left_out)


def total_updates(cfg: DictConfig, plan: UpdatePlan, per_item: int = 1) -> int:
    """Number of updates of the run: `max_steps` or `epochs`, whichever comes first.

    per_item: number of updates on the samples of one item of the plan.
    """
    by_epochs = math.inf if cfg.epochs is None else per_item * plan.updates_for(cfg.epochs)
    by_steps = math.inf if cfg.max_steps is None else cfg.max_steps
    return int(min(by_epochs, by_steps))


def monitor_of(run: TrainingRun, cfg: DictConfig) -> Monitor:
    """Return the callback that logs the run."""
    return Monitor(
        run.progress,
        run.plan,
        run.dataset.ids,
        workload=workload_of(run.backbone),
        every=cfg.trainer.log_every,
        max_unreadable=cfg.data.max_bad_samples,
    )


def checkpoints_of(run: TrainingRun, cfg: DictConfig, interruption: Interruption) -> Checkpoints:
    """Return the callback that writes the checkpoints of the run."""
    return Checkpoints(
        run.progress,
        run.identity,
        every=cfg.trainer.checkpoint_every,
        keep_last=cfg.trainer.keep_last,
        config=config_text(cfg),
        best=BestCheckpoint(
            cfg.trainer.best, cfg.trainer.best_direction, suites_told_by(run.evaluators, cfg.evaluator)
        ),
        resume=run.resume,
        wandb_id=lambda: next((str(logger.version) for logger in run.trainer.loggers), None),
        interruption=interruption,
    )


def load_checkpoint(run: TrainingRun, typed: str, allow_changes: Collection[str] = ()) -> None:
    """Load the weights of the checkpoint that the run resumes from, which the user named by `resume=<typed>`.

    allow_changes: parts of what the run depends on that may be others than then. Raises ConfigError if the checkpoint
    belongs to a run with other settings, or if no update is left.
    """
    assert run.resume is not None
    quiet = not run.trainer.is_global_zero
    check_same_run(run.resume, run.identity, run.stage, allow_changes=allow_changes, quiet=quiet)
    checkpoint, step, total = run.resume.folder, run.progress.step, run.progress.total
    load_weights(run.backbone, checkpoint)
    # A run that was stopped during its last evaluation has only that evaluation left.
    if step > total or (step == total and is_finished(checkpoint, step)):
        raise ConfigError(
            Problem(
                "resume",
                typed,
                f"{checkpoint} is at update {step} of {total}, nothing is left to train",
                "raise trainer.max_steps or trainer.epochs",
            )
        )
