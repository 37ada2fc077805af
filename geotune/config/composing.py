"""Composing: one complete, validated config from a recipe and overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geotune.config import recipe_files
from geotune.config.compositions import COMPOSITIONS, Composition
from geotune.config.conversion import as_plain, convert
from geotune.config.overrides import apply_value, escape_interpolation, may_be_null, set_value, sort_overrides
from geotune.config.parameters import is_schema, walk
from geotune.config.recipe_files import first_lines
from geotune.config.variables import values_of
from geotune.errors import ConfigError, Problem
from geotune.system.files import ASSETS

OmegaConf.register_new_resolver("embedded", lambda name: str(ASSETS / name), replace=True)


def compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the complete, validated config of `command` for `overrides` as typed; `run_dir` may still be null.

    Raises ConfigError that lists every mistake.
    """
    spec = COMPOSITIONS[command]
    groups, values = sort_overrides(overrides, spec)
    tree, choices = _compose_groups(command, spec, groups)
    if spec.choice:
        chosen = recipe_files.stem_of(choices[spec.choice])
        if spec.kept_at == spec.choice and isinstance(tree.get(spec.choice), dict):
            raise ConfigError(Problem(spec.choice, chosen, "this file must begin with the line '# @package _global_'"))
        tree.setdefault(spec.kept_at, chosen)
    from_variables = values_of(spec.variables)
    for name, value in from_variables.items():
        set_value(tree, name.split("."), value)
    for key, text in values:
        apply_value(tree, key, text, spec.schema)
    for group, choice in spec.fallbacks.items():
        node = tree.setdefault(group, None if may_be_null(spec.schema, group) else {})
        if isinstance(node, dict) and "_target_" not in node:
            file: Any = OmegaConf.load(recipe_files.RECIPES / group / f"{choice}.yaml")
            tree[group]["_target_"] = file["_target_"]
    try:
        plain = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(first_lines(error)) from error
    problems: list[Problem] = []
    config = convert(plain, spec.schema, "", problems)
    if problems:
        typed = {".".join(key) for key, _ in values}
        raise ConfigError(*(_explained(problem, spec, choices, typed, from_variables) for problem in problems))
    complete = OmegaConf.create(escape_interpolation(as_plain(config)))
    OmegaConf.set_struct(complete, True)
    return complete


def _compose_groups(
    command: str, spec: Composition, groups: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tree that Hydra composes, with unresolved interpolations, and the choice made in each group."""
    overrides = [f"{key}={choice}" if choice else key for key, choice in groups.items()]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(recipe_files.RECIPES), job_name=command):
            composed = hydra_compose(command, overrides=overrides, return_hydra_config=True)
        choices = dict(composed.hydra.runtime.choices)
        tree: Any = OmegaConf.to_container(
            OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        )
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        chosen = recipe_files.stem_of(groups.get(spec.choice, ""))
        where = f"{spec.choice}={chosen}" if spec.choice else f"recipes/{command}.yaml"
        raise ConfigError(f"{where}: {first_lines(error)}") from error
    return tree, choices


def _explained(
    problem: Problem, spec: Composition, choices: Mapping[str, Any], typed: set[str], from_variables: Collection[str]
) -> Problem:
    """Return the mistake with the keys that were probably meant and the recipe file or variable that holds it.

    typed: keys that the user set on the command line, which no file holds. from_variables: keys that variables set.
    """
    if problem.key is None:
        return problem
    remedy = problem.remedy
    leaf = problem.key.rpartition(".")[2]
    if problem.siblings is not None and not remedy:
        keys = [key for key, parameter in walk(spec.schema) if not is_schema(parameter.hint)]
        leaves = [key.rpartition(".")[2] for key in keys]
        meant = difflib.get_close_matches(leaf, leaves, n=1)
        close = [key for key, known_leaf in zip(keys, leaves, strict=True) if [known_leaf] == meant]
        known = f"the keys there are {', '.join(problem.siblings)}"
        remedy = f"did you mean {' or '.join(close)}?" if close else known
    held_in = ""
    if problem.key in from_variables and problem.key not in typed:
        held_in = f" (in the variable {spec.variables[problem.key]})"
    elif not any(problem.key == key or problem.key.startswith((f"{key}.", f"{key}[")) for key in typed):
        pattern = re.compile(rf"^[^#\n]*\b{re.escape(leaf.partition('[')[0])}\s*:", re.MULTILINE)
        files = [recipe_files.RECIPES / group.partition("@")[0] / f"{choice}.yaml" for group, choice in choices.items()]
        held = [path for path in files if path.is_file() and pattern.search(path.read_text(encoding="utf-8"))]
        names = dict.fromkeys(str(path.relative_to(recipe_files.RECIPES.parent)) for path in held)
        held_in = f" (in {' or '.join(names)})" if names else ""
    return replace(problem, remedy=remedy + held_in) if remedy else replace(problem, text=problem.text + held_in)
