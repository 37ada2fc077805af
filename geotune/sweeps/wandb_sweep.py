"""A search written as a W&B sweep, for its agents to run: `wandb sweep <file>`, then `wandb agent <id>`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from geotune.config.override_text import text
from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.space import Dimension, label
from geotune.system.files import open_atomically

ONLINE = ("wandb.mode=online",)
"""Overrides of every run: an agent gets no figures from a run that stays offline."""
MOST_VALUES = 1000
"""Largest number of values into which a range with steps is expanded."""
LOG_VALUES = 12
"""Number of values that replace a logarithmic range of integers, which W&B does not support."""


def write_wandb_sweep(plan: SweepPlan, path: Path) -> None:
    """Write the search of `plan` as the configuration file of a W&B sweep.

    Raises:
        ConfigError: `path` can't be written.
    """
    with open_atomically(path) as file:
        file.write(f"# wandb sweep {path}, then wandb agent <id>: the sweep {plan.study} by W&B's agents.\n")
        file.write("# Trials report to the service (wandb.mode=online); pruning is W&B's own, by hyperband.\n")
        file.write(yaml.safe_dump(wandb_sweep(plan), sort_keys=False, width=120))


def wandb_sweep(plan: SweepPlan) -> dict[str, Any]:
    """Return the configuration of the sweep in the form that W&B's agents read."""
    sweep: dict[str, Any] = {
        "name": plan.study,
        "project": plan.base.wandb.project,
        "program": "geotune.train",
        "command": ["${env}", "python", "-m", "geotune.train", *plan.training, *ONLINE, "${args_no_hyphens}"],
        "method": {"tpe": "bayes", "random": "random"}[plan.cfg.sampler],
        "metric": {"name": f"eval/{plan.metric}", "goal": plan.direction},
        "run_cap": plan.cfg.trials,
        "parameters": {key: parameter(dimension) for key, dimension in plan.dimensions.items()},
    }
    if plan.cfg.pruner != "none":
        sweep["early_terminate"] = {"type": "hyperband", "min_iter": 1, "eta": 4}
    return sweep


def parameter(dimension: Dimension) -> dict[str, Any]:
    """Return the W&B parameter for one searched key."""
    if dimension.choices is not None:
        return {"values": [label(choice) if choice is not None else text(choice) for choice in dimension.choices]}
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None
    assert high is not None
    integers = isinstance(low, int) and isinstance(high, int)
    if dimension.log and integers:
        between = (low * (high / low) ** (at / (LOG_VALUES - 1)) for at in range(LOG_VALUES))
        return {"values": list(dict.fromkeys(round(value) for value in between))}
    if step is not None and (high - low) / step <= MOST_VALUES:
        values = [low + at * step for at in range(int((high - low) / step + 1e-9) + 1)]
        return {"values": values if integers else [round(float(value), 12) for value in values]}
    kind = "log_uniform_values" if dimension.log else "int_uniform" if integers else "uniform"
    return {"distribution": kind, "min": low, "max": high}
