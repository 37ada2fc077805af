"""Instantiation: objects made from config nodes, by calling the target that a node names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.config.conversion import read_options
from geotune.config.options import Options
from geotune.config.parameters import parameters_of
from geotune.config.parts import BackboneConfig, DataConfig, EvaluatorConfig, StageConfig
from geotune.config.recipe_files import targets_of
from geotune.config.targets import options_of, resolve_target
from geotune.errors import ABSENT, ConfigError, Problem

SLOTS: Any = {"backbone": BackboneConfig, "data": DataConfig, "evaluator": EvaluatorConfig, "stage": StageConfig}


def instantiate_checked(node: Mapping[str, Any] | DictConfig, where: str, **given: Any) -> Any:
    """Make an object of the class that `node._target_` names.

    The other keys of `node` are its options: they are converted to the fields of the option dataclass, so a list
    becomes a tuple and a text becomes a Path if the field says so, and the dataclass checks them. A class that is
    itself a dataclass is made of them; any other class names the dataclass as its attribute `Config` and gets it as the
    argument `config`.

    where: key of the node in the config tree ("builder", "evaluator.suites.geox"), for messages. given: further
    arguments, which do not come from a config (a backbone, a writer).

    Raises ConfigError that lists every mistake: unknown and missing keys, wrong types, illegal values.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    if "_target_" not in plain:
        raise ConfigError(Problem(where, ABSENT, "names no _target_", "give {key}._target_=<package.module.Class>"))
    target = resolve_target(plain["_target_"], where)
    built_in = where in SLOTS and plain["_target_"] in targets_of(where)
    schema = SLOTS[where] if built_in else options_of(plain["_target_"], where)
    problems: list[Problem] = []
    options = read_options(plain, schema, where, problems)
    if problems:
        raise ConfigError(*problems)
    if isinstance(options, Options) and (missing := [problem.below(where) for problem in options.check_inputs()]):
        raise ConfigError(*missing)
    if target is schema:
        return options
    if not hasattr(target, "Config"):  # TRANSITION
        return target(**{k: getattr(options, k) for k in parameters_of(schema) if k != "_target_"}, **given)
    return target(config=options, **given)
