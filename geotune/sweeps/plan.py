"""What a sweep is to run: the training that all trials share, what they vary, and the figure that compares them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from geotune.config.commands import SweepConfig
from geotune.config.composing import compose
from geotune.config.parameters import parameters_of
from geotune.config.trees import flatten
from geotune.config.wording import near
from geotune.errors import ConfigError
from geotune.sweeps.space import VARIANT, Dimension, as_overrides, read_space, read_variants

OWN_KEYS = {
    "run_dir": "each trial has a folder of its own; give sweep_dir=<folder>",
    "resume": "a sweep goes on by itself when its command is given again; leave it out",
    "trainer.devices": "give devices_per_trial=<number>",
}
"""Keys of a training that the sweep sets in each trial, and what to do instead."""
IGNORED_IN_IDENTITY = ("recipe", "run_dir", "dry_run", "resume", "wandb.", "data.num_workers", "trainer.accelerator")
"""Keys of a training that may differ between the machines, or the sessions, of one study."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that has been checked as far as that goes before anything runs."""

    cfg: DictConfig
    """As `geotune.config.commands.SweepConfig` says."""
    training: tuple[str, ...]
    """Words of the training's command line, shared by all trials."""
    base: DictConfig
    """The training that they compose, nothing varied."""
    dimensions: dict[str, Dimension]
    """What Optuna draws, by key; of named variants, their names."""
    variants: dict[str, dict[str, Any]]
    """Empty for a search."""

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.cfg.study or f"{self.base.recipe}-{self.cfg.sweep}"

    @property
    def sweep_dir(self) -> Path:
        """Folder of trials and results."""
        return Path(self.cfg.sweep_dir or Path("runs", "sweeps", self.study))

    @property
    def metric(self) -> str:
        """The figure to improve, as suite/key or suite/task/key."""
        return self.cfg.metric or f"{next(iter(self.base.evaluator.suites))}/mean_accuracy"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Which way is better."""
        inferred: Literal["maximize", "minimize"] = "minimize" if self.metric.endswith("_km") else "maximize"
        return self.cfg.direction or inferred

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of the training and their values, for the parameters of a trial."""
        if self.variants:
            return self.variants[params[VARIANT]]
        return {key: self.dimensions[key].value(drawn) for key, drawn in params.items()}

    def varied(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial's own."""
        return as_overrides(self.values(params))

    def trial_overrides(self, params: Mapping[str, Any]) -> list[str]:
        """The training's command line with the overrides of a trial's own."""
        return [*self.training, *self.varied(params)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change within a study, as JSON: figures of two different trainings are not compared.

        Paths count by their last part, so that machines may keep data and weights in places of their own.
        """
        plain: Any = OmegaConf.to_container(self.base, resolve=True)
        leaves = flatten(plain, is_leaf=lambda node: not isinstance(node, Mapping) or not node)
        return {
            "metric": self.metric,
            "direction": self.direction,
            "devices_per_trial": self.cfg.devices_per_trial,
            **{f"space.{key}": str(dimension) for key, dimension in self.dimensions.items()},
            **{f"variants.{name}": as_overrides(values) for name, values in self.variants.items()},
            **{
                key: Path(value).name if key.endswith("path") and value else value
                for key, value in leaves
                if not key.startswith(IGNORED_IN_IDENTITY)
            },
        }


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the sweep itself, told by their keys, and all others: those of its trainings."""
    own: tuple[list[str], list[str]] = ([], [])
    for word in arguments:
        key = re.split(r"[.@=]", word.lstrip("+~"), maxsplit=1)[0]
        own[word not in ("-h", "--help") and key not in parameters_of(SweepConfig)].append(word)
    return own


def make_plan(cfg: DictConfig, training: Sequence[str]) -> SweepPlan:
    """The plan for a sweep's config and the overrides of its trainings.

    Raises ConfigError for every mistake that can be seen before anything runs.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    dimensions, variants = read_space(tree["space"]), read_variants(tree["variants"])
    if not dimensions and not variants:
        raise ConfigError(f"sweep={cfg.sweep}: nothing is left to vary; keep a key of its space or a variant")
    varied = {*dimensions, *(key for values in variants.values() for key in values)}
    for key, remedy in OWN_KEYS.items():
        if key in varied:
            raise ConfigError(f"sweep={cfg.sweep}: {key} can't be varied: {remedy}")
    for word in training:
        key = word.lstrip("+~").partition("=")[0]
        if key in OWN_KEYS:
            raise ConfigError(f"{word}: {OWN_KEYS[key]}")
        if key in dimensions:
            raise ConfigError(f"{word}: this key is searched; leave the word out, or fix the key by space.{key}=null")
    if cfg.seed is not None:
        training = [*training, f"seed={cfg.seed}"]
    if variants:
        dimensions = {VARIANT: Dimension(choices=list(variants))}
    plan = SweepPlan(cfg, tuple(training), compose_training(training), dimensions, variants)
    for extra in _samples(plan):
        compose_training([*training, *extra])
    suites = {} if plan.base.evaluator is None else plan.base.evaluator.suites
    if not suites:
        raise ConfigError("evaluator=null: trials are compared by their evaluations; choose a recipe that has some")
    suite = plan.metric.partition("/")[0]
    if suite not in suites or "/" not in plan.metric:
        form = "write <suite>/<key> or <suite>/<task>/<key>"
        raise ConfigError(f"metric={plan.metric}: {form}; the suites are {', '.join(suites)}")
    return plan


def compose_training(training: Sequence[str]) -> DictConfig:
    """The training's config for `training`; a key that it does not know may have been meant for the sweep."""
    try:
        return compose("train", training)
    except ConfigError as error:
        unknown, _, rest = str(error).partition("=")
        if ": no such key" in rest and "." not in unknown:
            own = list(parameters_of(SweepConfig))
            if meant := near(unknown, own):
                raise ConfigError(f"{str(error).partition('; ')[0]}{meant}") from error
            raise ConfigError(f"{error}; the keys of the sweep itself are {', '.join(own)}") from error
        raise


def _samples(plan: SweepPlan) -> list[list[str]]:
    """Words of each variant, or of every choice and both ends of each dimension in as few trainings as possible."""
    if plan.variants:
        return [as_overrides(values) for values in plan.variants.values()]
    samples = {key: dimension.samples() for key, dimension in plan.dimensions.items()}
    count = max(len(values) for values in samples.values())
    return [as_overrides({key: values[at % len(values)] for key, values in samples.items()}) for at in range(count)]
