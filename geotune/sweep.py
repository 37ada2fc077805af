"""`geotune sweep recipe=<name> sweep=<name>`: train a recipe many times and report the best settings."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geotune.cli.entry import run_command
from geotune.system.files import make_folder
from geotune.system.screen import as_text, wrapped

log = logging.getLogger("geotune.sweep")  # not __name__, which is "__main__" under python -m


def sweep(cfg: DictConfig, training: Sequence[str]) -> dict[str, Any]:
    """Run the trials of the sweep `cfg` and return the content of sweep.json.

    training: overrides that every trial passes to `geotune train`. An earlier sweep in the same folder is continued.
    After Ctrl-C, or `max_failed` failed trials in a row, the sweep can be continued later. Raises ConfigError.
    """
    from geotune.data.scratch import only_in_scratch
    from geotune.sweeps.plan import check_trials, make_plan
    from geotune.sweeps.processes import slots
    from geotune.sweeps.results import sweep_summary, sweep_words, table, write_results
    from geotune.sweeps.rows import rows
    from geotune.sweeps.runner import Runner, TooManyFailuresError, training_command
    from geotune.sweeps.study import Queue, open_storage, open_study, require, without_password
    from geotune.sweeps.wandb_sweep import write_wandb_sweep
    from geotune.training.wandb_logger import check_wandb

    require()
    plan = make_plan(cfg, training)
    if cfg.wandb_yaml is not None:
        write_wandb_sweep(plan, Path(cfg.wandb_yaml))
        print(f"{cfg.wandb_yaml} is written; run: wandb sweep {cfg.wandb_yaml}, then: wandb agent <id>")
        return {}
    check_wandb(plan.base)
    where = slots(cfg.devices, cfg.devices_per_trial, plan.base.trainer.accelerator)
    if cfg.dry_run:
        with only_in_scratch():
            check_trials(plan)
        print(sweep_summary(plan, where))
        return {}
    make_folder(plan.sweep_dir, "sweep_dir")
    log.info("sweep folder: %s", plan.sweep_dir)
    study = open_study(plan, open_storage(cfg.storage, plan.sweep_dir))
    storage = without_password(cfg.storage) if cfg.storage is not None else str(plan.sweep_dir / "study.journal")
    save = partial(write_results, plan, study, storage)
    runner = Runner(plan, Queue(study, plan), where, command=training_command, settled=partial(save, plots=False))
    try:
        runner.run()
    except TooManyFailuresError as error:
        raise SystemExit(f"error: {error}") from None
    finally:
        summary = save(plots=True)
        print(as_text(table(plan, rows(study.get_trials(deepcopy=False)))))
    print(wrapped(sweep_words(plan, summary)))
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status.

    Overrides whose key is a field of `SweepConfig` belong to the sweep, all others to its trainings.
    """
    from geotune.sweeps.plan import split_arguments

    overrides, training = split_arguments(sys.argv[1:] if argv is None else argv)
    return run_command("sweep", partial(sweep, training=training), overrides)


if __name__ == "__main__":
    raise SystemExit(main())
