"""`geotune sweep recipe=<name> sweep=<name>`: train a recipe many times, and say which way of training it was best."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geotune.cli.entry import run_command
from geotune.system.files import make_folder


def sweep(cfg: DictConfig, training: Sequence[str]) -> dict[str, Any]:
    """Run the trials that `cfg` asks for, each a training with the words `training`; the content of sweep.json.

    What was there before is gone on with. Ctrl-C, and `max_failed` trials in a row, leave everything ready to go on.
    Raises ConfigError.
    """
    from rich.console import Console

    from geotune.sweeps.plan import make_plan
    from geotune.sweeps.processes import slots
    from geotune.sweeps.results import sweep_summary, table, write_results
    from geotune.sweeps.rows import rows
    from geotune.sweeps.runner import Runner, TooManyFailuresError, training_command
    from geotune.sweeps.study import Queue, open_storage, open_study, require, without_password
    from geotune.sweeps.wandb_sweep import write_wandb_sweep

    require()
    plan = make_plan(cfg, training)
    if cfg.wandb_yaml is not None:
        write_wandb_sweep(plan, Path(cfg.wandb_yaml))
        print(f"{cfg.wandb_yaml}: wandb sweep {cfg.wandb_yaml}, then wandb agent <id>")
        return {}
    where = slots(cfg.devices, cfg.devices_per_trial, plan.base.trainer.accelerator)
    if cfg.dry_run:
        print(sweep_summary(plan, where))
        return {}
    make_folder(plan.sweep_dir, "sweep_dir")
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
        # A file has no width: what it holds can be read in full.
        Console(width=None if sys.stdout.isatty() else 160).print(table(plan, rows(study.get_trials(deepcopy=False))))
    if summary["importance_note"] is not None:
        print(f"no importance plot: {summary['importance_note']}")
    if summary["best"] is not None:
        print(f"best: trial {summary['best']['trial']}; go on with it by recipe={plan.sweep_dir / 'best.yaml'}")
    print(f"results: {plan.sweep_dir}")
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: words whose key is one of `SweepConfig` are the sweep's, all others its trainings'."""
    from geotune.sweeps.plan import split_arguments

    own, training = split_arguments(sys.argv[1:] if argv is None else argv)
    return run_command("sweep", partial(sweep, training=training), own)


if __name__ == "__main__":
    raise SystemExit(main())
