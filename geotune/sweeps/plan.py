"""The plan of a sweep: the training that all trials share, the keys they vary, and the figure that compares them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.config.chain import is_chain_recipe
from geotune.config.commands import SweepConfig
from geotune.config.composing import compose
from geotune.config.figure_names import Direction, direction_of, figure_problems
from geotune.config.override_text import as_overrides
from geotune.config.parameters import parameters_of
from geotune.config.targets import resolve_target
from geotune.config.trees import flatten
from geotune.config.typed_paths import check_typed_paths
from geotune.config.variables import WANDB_VARIABLES, values_of
from geotune.config.wording import near
from geotune.errors import ABSENT, ConfigError, Problem
from geotune.sweeps.space import VARIANT, Dimension, read_space, read_variants
from geotune.training.inputs import check_data

KEYS_SET_BY_SWEEP = {
    "run_dir": "each trial has a folder of its own; give sweep_dir=<folder>",
    "resume": "a sweep continues by itself when its command is given again; leave this key out",
    "trainer.devices": "give devices_per_trial=<number>",
}
"""Training keys that the sweep sets for each trial, with the remedy for a user who gives one of them."""
IGNORED_IN_IDENTITY = (
    *("recipe", "run_dir", "dry_run", "resume", "allow_changes", "wandb.", "data.num_workers", "trainer.accelerator"),
)
"""Training keys that may differ between the machines or sessions that share a study."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep whose config has been checked for every mistake that can be found before a trial runs."""

    cfg: DictConfig
    """Fields of `geotune.config.commands.SweepConfig`."""
    training: tuple[str, ...]
    """Overrides of the training that all trials share."""
    base: DictConfig
    """The training that `training` composes, before any key is varied."""
    dimensions: dict[str, Dimension]
    """Dimensions that Optuna draws from, by key; for named variants the single dimension `VARIANT`."""
    variants: dict[str, dict[str, Any]]
    """Values by key of each named variant; empty for a search."""

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.cfg.study or f"{self.base.recipe}-{self.cfg.sweep}"

    @property
    def sweep_dir(self) -> Path:
        """Folder that holds the trials and the results."""
        return Path(self.cfg.sweep_dir or Path("runs", "sweeps", self.study))

    @property
    def metric(self) -> str:
        """Name of the figure to improve, `<suite>/[<task>/]<figure>`; by default the one that `trainer.best` names."""
        return self.cfg.metric or self.base.trainer.best or self.headline or ""

    @cached_property
    def headline(self) -> str | None:
        """Name of the headline figure of the recipe's first suite that has one, or None."""
        for name, suite in self.base.evaluator.suites.items():
            figure = getattr(resolve_target(suite["_target_"], f"evaluator.suites.{name}"), "headline", None)
            if figure is not None:
                return f"{name}/{figure}"
        return None

    @property
    def direction(self) -> Direction:
        """Whether a larger or a smaller metric is better; inferred from its name unless it is configured."""
        best = self.base.trainer
        given = best.best_direction if self.metric == (best.best or self.headline) else None
        return direction_of(self.metric, self.cfg.direction or given)

    @property
    def group(self) -> str:
        """W&B group of the trials: the one that WANDB_RUN_GROUP names, or else the study's name."""
        return str(values_of(WANDB_VARIABLES).get("wandb.group", self.study))

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that a trial with these Optuna parameters gives to training keys."""
        if self.variants:
            return self.variants[params[VARIANT]]
        return {key: self.dimensions[key].value(drawn) for key, drawn in params.items()}

    def varied(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides that only the trial with these parameters has."""
        return as_overrides(self.values(params))

    def trial_overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the shared overrides of the training, followed by those of the trial with these parameters."""
        return [*self.training, *self.varied(params)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Settings that must not change within a study, as JSON, so that different trainings are never compared.

        Only the last part of each path is kept, because machines may store data and weights in different folders.
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
    """Split a command line into the overrides of the sweep itself and those of its trainings, by their keys."""
    of_sweep: list[str] = []
    of_training: list[str] = []
    for argument in arguments:
        key = re.split(r"[.@=]", argument.lstrip("+~"), maxsplit=1)[0]
        is_own = argument in ("-h", "--help") or key in parameters_of(SweepConfig)
        (of_sweep if is_own else of_training).append(argument)
    return of_sweep, of_training


def make_plan(cfg: DictConfig, training: Sequence[str]) -> SweepPlan:
    """Build the plan from a sweep's config and the overrides of its trainings.

    Raises:
        ConfigError: the config has a mistake that can be found before a trial runs.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    dimensions, variants = read_space(tree["space"]), read_variants(tree["variants"])
    if not dimensions and not variants:
        raise ConfigError(
            Problem("sweep", cfg.sweep, "nothing is left to vary", "keep at least one key of its space, or one variant")
        )
    varied = {*dimensions, *(key for values in variants.values() for key in values)}
    for key, remedy in KEYS_SET_BY_SWEEP.items():
        if key in varied:
            raise ConfigError(Problem("sweep", cfg.sweep, f"{key} can't be varied: {remedy}"))
    for override in training:
        key = override.lstrip("+~").partition("=")[0]
        if key in KEYS_SET_BY_SWEEP:
            raise ConfigError(f"{override}: {KEYS_SET_BY_SWEEP[key]}")
        if key in dimensions:
            raise ConfigError(
                f"{override}: the sweep searches this key; leave the override out, or give space.{key}=null as well"
            )
    if cfg.seed is not None:
        training = [*training, f"seed={cfg.seed}"]
    if variants:
        dimensions = {VARIANT: Dimension(choices=list(variants))}
    plan = SweepPlan(cfg, tuple(training), compose_training(training), dimensions, variants)
    for overrides in _probes(plan):
        compose_training([*training, *overrides])
    suites = {} if plan.base.evaluator is None else plan.base.evaluator.suites
    if not suites:
        raise ConfigError(
            Problem("evaluator", None, "trials are compared by their evaluations", "choose a recipe with an evaluator")
        )
    if not plan.metric:
        raise ConfigError(Problem("metric", None, "no suite of the recipe has a headline figure", "name a figure"))
    if wrong := list(figure_problems("metric", plan.metric, suites)):
        raise ConfigError(*wrong)
    return plan


def check_trials(plan: SweepPlan) -> None:
    """Check the datasets and tasks that the trials are given, as far as that is possible before a trial runs.

    Raises:
        ConfigError: a dataset is missing and no trial builds it, or has none of the tasks.
    """
    checked: list[Any] = []
    problems: list[Problem] = []
    for overrides in _probes(plan):
        given = [*plan.training, *overrides]
        cfg = compose_training(given)
        inputs = (cfg.data, cfg.evaluator)
        if inputs in checked:
            continue
        checked.append(inputs)
        try:
            check_typed_paths(given, cfg)
            check_data(cfg)
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(*problems)


def compose_training(training: Sequence[str]) -> DictConfig:
    """Compose the training's config; the error about an unknown key also offers the keys of the sweep.

    Raises:
        ConfigError: the overrides do not compose to a valid training.
    """
    if is_chain_recipe(training):
        raise ConfigError(
            Problem("recipe", ABSENT, "a sweep varies one training, not a chain of them", "name the recipe of one leg")
        )
    try:
        return compose("train", training)
    except ConfigError as error:
        raise ConfigError(*map(_with_sweep_keys, error.problems)) from error


def _with_sweep_keys(problem: Problem) -> Problem:
    """Return a mistake of a training; that about an unknown key without a dot also offers the keys of the sweep."""
    if problem.siblings is None or problem.key is None or "." in problem.key:
        return problem
    sweep_keys = list(parameters_of(SweepConfig))
    meant = near(problem.key, sweep_keys)
    return replace(
        problem, remedy=meant or f"{problem.remedy}; the keys of the sweep itself are {', '.join(sweep_keys)}"
    )


def _probes(plan: SweepPlan) -> list[list[str]]:
    """Return overrides of the trainings to compose as a check.

    Those are the named variants, or as few trainings as contain every choice and both ends of each dimension.
    """
    if plan.variants:
        return [as_overrides(values) for values in plan.variants.values()]
    samples = {key: dimension.samples() for key, dimension in plan.dimensions.items()}
    count = max(len(values) for values in samples.values())
    return [as_overrides({key: values[at % len(values)] for key, values in samples.items()}) for at in range(count)]
