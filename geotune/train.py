"""`geotune train recipe=<name>`: build what a recipe names, train it, and return the final figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command, show
from geotune.runs.directory import METRICS_FILE
from geotune.runs.logs import write_rejected
from geotune.runs.saved_config import write_config
from geotune.system.launchers import is_first_process
from geotune.system.strict_json import write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig


log = logging.getLogger("geotune.train")  # not __name__, which is "__main__" under python -m


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build everything that `cfg` names, train it, and return the last evaluation with the run's own figures.

    With `cfg.dry_run` the function prints what would run and returns an empty dict. A config with `chain` trains its
    legs one after the other, each in a process of its own. Raises ConfigError for a mistake of the user, and Stopped
    once a run that was asked to stop has written its checkpoint.
    """
    if "chain" in cfg:
        from geotune.training.chain import run_chain

        return run_chain(cfg, show=partial(print, flush=True))
    from lightning.pytorch import seed_everything

    from geotune.data.scratch import only_in_scratch
    from geotune.system.interruption import stoppable
    from geotune.system.libraries import silence_libraries
    from geotune.system.seeds import seed32
    from geotune.training.closing_words import closing_words
    from geotune.training.completions import CompletionLog
    from geotune.training.ending import told_how_it_ends
    from geotune.training.memory_probe import MemoryProbe
    from geotune.training.progress_bar import ProgressBar
    from geotune.training.run import (
        build_run,
        checkpoints_of,
        dry_run_text,
        load_checkpoint,
        monitor_of,
        tell_findings,
        tell_left_out,
    )
    from geotune.training.summary import plan_figures, plan_in_words
    from geotune.training.wandb_logger import wandb_run

    silence_libraries()
    started = time.monotonic()
    seed_everything(seed32(cfg.seed), workers=True, verbose=False)
    if cfg.dry_run:
        with only_in_scratch():
            print(dry_run_text(cfg))
        return {}
    if is_first_process():
        log.info("run folder: %s", cfg.run_dir)
    run = build_run(cfg)
    progress = run.progress
    with stoppable() as interruption:
        monitor, checkpoints = monitor_of(run, cfg), checkpoints_of(run, cfg, interruption)
        run.trainer.callbacks.extend(  # type: ignore[attr-defined]
            [
                MemoryProbe(run.data, cfg.data),
                monitor,
                ProgressBar(monitor),
                CompletionLog(progress, every=cfg.trainer.checkpoint_every),
                *run.evaluators,
                checkpoints,
            ]
        )
        if run.resume is not None:
            load_checkpoint(run, cfg.resume, cfg.allow_changes)
        data_figures = plan_figures(run.plan)
        if run.trainer.is_global_zero:
            log.info("%s: %s", cfg.data.path, plan_in_words(data_figures))
            tell_findings(run, cfg)
            write_config(progress.run_dir, cfg)
            write_rejected(progress.run_dir, run.dataset.rejected)
        with wandb_run(cfg, progress.run_dir, run.wandb_id) as loggers, told_how_it_ends(run, checkpoints):
            run.trainer.loggers = loggers  # type: ignore[assignment]
            run.trainer.fit(run.stage, datamodule=run.data)
    evaluation = checkpoints.schedule.result or {"step": progress.step}
    counts = {**run.dataset.left_out, "unreadable": len(progress.unreadable)}
    result = {**evaluation, "train": monitor.last, "data": data_figures, "left_out": counts}
    if run.trainer.is_global_zero:
        tell_left_out(run, cfg, only_large=True)  # once more, where it can't be overlooked
        write_json(progress.run_dir / METRICS_FILE, result)
        done = progress.step - (run.resume.state.step if run.resume is not None else 0)
        show(closing_words(progress.run_dir, checkpoints.best, updates=done, seconds=time.monotonic() - started))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("train", train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
