"""Objects from config nodes: the target that a node names, called with the node's other keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.config.conversion import Problem, read_arguments
from geotune.config.parameters import parameters_of
from geotune.config.targets import resolve_target
from geotune.errors import ConfigError


def instantiate_checked(node: Mapping[str, Any] | DictConfig, where: str, **given: Any) -> Any:
    """Call `node._target_` with the other keys of `node`, checked against its dataclass fields or signature.

    `where` is the node's place in the config tree ("builder", "evaluator.suites.geox"), for messages. `given` are
    further arguments that do not come from a config (a backbone, a writer); they are passed unchecked and must not be
    in `node`. Nested nodes are passed as plain dicts and lists (`build: {_target_: ...}` arrives as a dict), or as
    instances where the target's type hint names a dataclass; lists become tuples and strings Paths where it says so.
    Raises ConfigError: unknown key (with near misses), missing key, wrong type, no such target.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    if "_target_" not in plain:
        raise ConfigError(f"{where}: names no _target_; give {where}._target_=<package.module.Class>")
    target = resolve_target(plain["_target_"], where)
    problems: list[Problem] = []
    arguments = read_arguments(plain, target, where, problems, given)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    try:
        return target(**arguments, **given)
    except ConfigError as error:  # a target names its own field; the user knows it by its place in the tree
        own = str(error).partition("=")[0] in parameters_of(target)
        if own and where:
            raise ConfigError(f"{where}.{error}") from error
        raise
