"""`geotune train recipe=<name>`: build what a recipe names, fit it, return the final figures."""

from __future__ import annotations

import json
import logging
import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from geotune.cli.entry import run_command
from geotune.config.instantiation import instantiate_checked
from geotune.errors import ConfigError
from geotune.system.strict_json import write_json

if TYPE_CHECKING:
    from geotune.data.sampler import UpdatePlan

log = logging.getLogger("geotune.train")  # by its name also where it is run as a module

VERSIONS = ("torch", "transformers", "peft", "lightning", "geotune")


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build everything that `cfg` names, fit it, and return the last evaluation with the run's own figures."""
    from lightning.pytorch import seed_everything

    from geotune.backbones.weights import load_weights
    from geotune.runs.directory import belongs_to, find_checkpoint, read_state
    from geotune.system.libraries import silence_libraries
    from geotune.training.checkpointing import Checkpoints, StepCounter
    from geotune.training.monitor import Monitor, ProgressBar
    from geotune.training.strategies import prepare
    from geotune.training.summary import plan_figures, plan_in_words, run_summary
    from geotune.training.trainer import closing, loggers_from, trainer_from

    silence_libraries()
    seed_everything(cfg.seed, workers=True, verbose=False)
    run_dir = Path(cfg.run_dir) if cfg.run_dir is not None else Path()
    resume = find_checkpoint(cfg.resume, run_dir) if cfg.resume is not None else None
    state = read_state(resume) if resume is not None else None
    evaluators = [] if cfg.evaluator is None else [instantiate_checked(cfg.evaluator, "evaluator")]
    for evaluator in evaluators:
        evaluator.prepare()
    backbone = instantiate_checked(cfg.backbone, "backbone")
    data = instantiate_checked(cfg.data, "data")
    dataset = data.load(backbone.encoder, seed=cfg.seed)
    stage = instantiate_checked(cfg.stage, "stage", backbone=backbone)
    # A run that goes on elsewhere is a run of its own.
    run_id = state.wandb_id if state is not None and resume is not None and belongs_to(resume, run_dir) else None
    loggers = [] if cfg.dry_run else loggers_from(cfg, run_dir, run_id)
    trainer = trainer_from(cfg, loggers, vision_trains=backbone.tower_trains or backbone.projector_trains)
    prepare(cfg.trainer.strategy, backbone, dataset.samples)
    plan = data.plan(accumulate=cfg.trainer.accumulate, ranks=trainer.world_size)
    stage.total_updates = data.stop = total_updates(cfg.trainer, plan)
    if cfg.dry_run:
        print(run_summary(cfg, backbone, dataset, plan, stage.total_updates))
        return {}

    stage.run_dir = run_dir
    checkpoints = Checkpoints(
        run_dir,
        every=cfg.trainer.checkpoint_every,
        keep_last=cfg.trainer.keep_last,
        config=config_text(cfg),
        seed=cfg.seed,
        update_size=plan.update_size,
        data_fingerprint=dataset.fingerprint,
        plan=data.plan_name,
        resume=resume,
        wandb_id=lambda: next((logger.version for logger in loggers), None),
    )
    if resume is not None and state is not None:
        checkpoints.check_resume(state, stage)
        load_weights(backbone, resume)
        data.start = state.position
        # One that was stopped in its last evaluation has that left to do.
        if state.step > stage.total_updates or (state.step == stage.total_updates and is_finished(resume, state.step)):
            raise ConfigError(
                f"resume={cfg.resume}: {resume} is at update {state.step} of {stage.total_updates}, nothing is left; "
                "raise trainer.max_steps or trainer.epochs"
            )
    dealt = plan_figures(plan)
    if trainer.is_global_zero:
        log.info("%s: %s", cfg.data.path, plan_in_words(dealt))
        (run_dir / "config.yaml").write_text(config_text(cfg), encoding="utf-8")
        write_rejected(run_dir, dataset.rejected)
    monitor = Monitor(run_dir, plan, dataset.ids, every=cfg.trainer.log_every, max_bad=cfg.data.max_bad_samples)
    callbacks = [StepCounter(), monitor, ProgressBar(monitor), *evaluators, checkpoints]
    trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    with checkpoints.graceful_interrupt(), closing(loggers):
        trainer.fit(stage, datamodule=data)
    if checkpoints.interrupted:
        raise KeyboardInterrupt
    result = {**(checkpoints.schedule.result or {"step": stage.step}), "train": monitor.last, "data": dealt}
    if trainer.is_global_zero:
        write_json(run_dir / "metrics.json", result)
    return result


def is_finished(checkpoint: Path, step: int) -> bool:
    """Whether the run of `checkpoint` has its final figures, those of `step`."""
    metrics = checkpoint.resolve().parent.parent / "metrics.json"
    return metrics.is_file() and json.loads(metrics.read_text(encoding="utf-8"))["step"] == step


def total_updates(cfg: DictConfig, plan: UpdatePlan) -> int:
    """Updates of the run: `max_steps` or `epochs`, whichever comes first."""
    by_epochs = math.inf if cfg.epochs is None else plan.updates_for(cfg.epochs)
    by_steps = math.inf if cfg.max_steps is None else cfg.max_steps
    return int(min(by_epochs, by_steps))


def config_text(cfg: DictConfig) -> str:
    """The resolved recipe and the versions it ran with, as YAML."""
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return OmegaConf.to_yaml(OmegaConf.create({**config, "versions": versions}))


def write_rejected(run_dir: Path, rejected: Sequence[tuple[str, str]]) -> None:
    """Say which samples were left out and why."""
    if rejected:
        lines = [json.dumps({"id": sample, "reason": reason}) + "\n" for sample, reason in rejected]
        (run_dir / "rejected.jsonl").write_text("".join(lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command("train", train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
