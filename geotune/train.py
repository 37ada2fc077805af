"""`geotune train recipe=<name>`: build what a recipe names, train it, and return the final figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command
from geotune.runs.directory import METRICS_FILE
from geotune.runs.logs import write_rejected
from geotune.runs.saved_config import write_config
from geotune.system.strict_json import write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig


log = logging.getLogger("geotune.train")  # not __name__, which is "__main__" under python -m


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build everything that `cfg` names, train it, and return the last evaluation with the run's own figures.

    With `cfg.dry_run` the function prints what would run and returns an empty dict. A config with `chain` trains its
    legs one after the other, each in a process of its own. Raises ConfigError for a mistake of the user, and
    KeyboardInterrupt once an interrupted run has written its checkpoint.
    """
    if "chain" in cfg:
        from geotune.training.chain import run_chain

        return run_chain(cfg, show=partial(print, flush=True))
    from lightning.pytorch import seed_everything

    from geotune.system.libraries import silence_libraries
    from geotune.training.monitor import ProgressBar
    from geotune.training.run import build_run, checkpoints_of, load_checkpoint, monitor_of
    from geotune.training.summary import plan_figures, plan_in_words, run_summary
    from geotune.training.trainer import closing

    silence_libraries()
    seed_everything(cfg.seed, workers=True, verbose=False)
    run = build_run(cfg)
    progress = run.progress
    if cfg.dry_run:
        print(run_summary(cfg, run.backbone, run.dataset, run.plan, progress.total))
        return {}
    monitor, checkpoints = monitor_of(run, cfg), checkpoints_of(run, cfg)
    run.trainer.callbacks.extend(  # type: ignore[attr-defined]
        [monitor, ProgressBar(monitor), *run.evaluators, checkpoints]
    )
    if run.resume is not None:
        load_checkpoint(run, cfg.resume, cfg.allow_changes)
    data_figures = plan_figures(run.plan)
    if run.trainer.is_global_zero:
        log.info("%s: %s", cfg.data.path, plan_in_words(data_figures))
        write_config(progress.run_dir, cfg)
        write_rejected(progress.run_dir, run.dataset.rejected)
    with checkpoints.graceful_interrupt(), closing(run.loggers):
        run.trainer.fit(run.stage, datamodule=run.data)
    if checkpoints.interrupted:
        raise KeyboardInterrupt
    evaluation = checkpoints.schedule.result or {"step": progress.step}
    result = {**evaluation, "train": monitor.last, "data": data_figures}
    if run.trainer.is_global_zero:
        write_json(progress.run_dir / METRICS_FILE, result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("train", train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
