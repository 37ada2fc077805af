"""Instantiation: objects made from config nodes, by calling the target that a node names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.config.conversion import read_options
from geotune.config.options import Options
from geotune.config.targets import options_of, resolve_target
from geotune.errors import ABSENT, ConfigError, Problem


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
    target, schema = resolve_target(plain["_target_"], where), options_of(plain["_target_"], where)
    problems: list[Problem] = []
    options = read_options(plain, schema, where, problems)
    if problems:
        raise ConfigError(*problems)
    if isinstance(options, Options) and (missing := [problem.below(where) for problem in options.check_inputs()]):
        raise ConfigError(*missing)
    return options if target is schema else target(config=options, **given)
