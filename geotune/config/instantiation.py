"""Instantiation: objects made from config nodes, by calling the target that a node names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.config.conversion import read_arguments
from geotune.config.parameters import parameters_of
from geotune.config.targets import resolve_target
from geotune.errors import ConfigError, Problem


def instantiate_checked(node: Mapping[str, Any] | DictConfig, where: str, **given: Any) -> Any:
    """Call the target that `node._target_` names with the other keys of `node`, and return the result.

    The keys are checked against the target's dataclass fields or signature and converted to its type hints, so a list
    becomes a tuple and a string becomes a Path if the hint says so. A nested node becomes an instance if the hint names
    a dataclass; otherwise it is passed as a plain dict, also if it has a `_target_` of its own.

    where: key of the node in the config tree ("builder", "evaluator.suites.geox"), for messages. given: arguments that
    do not come from a config (a backbone, a writer); they are passed unchecked, and the node must not hold them.

    Raises ConfigError for an unknown key (with near misses), a missing key, a wrong type or an unknown target.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    if "_target_" not in plain:
        raise ConfigError(f"{where}: names no _target_; give {where}._target_=<package.module.Class>")
    target = resolve_target(plain["_target_"], where)
    problems: list[Problem] = []
    arguments = read_arguments(plain, target, where, problems, given)
    if problems:
        raise ConfigError(*problems)
    try:
        return target(**arguments, **given)
    except ConfigError as error:  # the target names its own field, which the user knows by its full key
        own = parameters_of(target)
        problems = [problem.below(where) if problem.key in own else problem for problem in error.problems]
        raise ConfigError(*problems) from error
