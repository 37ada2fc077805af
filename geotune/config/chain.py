"""Composing a chain: the overrides of each leg, checked before the first leg starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from geotune.config.chain_schema import ChainConfig
from geotune.config.composing import compose
from geotune.config.override_text import as_overrides
from geotune.config.overrides import escape_interpolation, home, unquote
from geotune.config.recipe_files import base_recipe, chosen_file
from geotune.config.trees import flatten
from geotune.config.variables import WANDB_VARIABLES, values_of
from geotune.errors import ABSENT, ConfigError, Problem

OWN_KEYS = frozenset(field.name for field in fields(ChainConfig))
SET_BY_CHAIN = {
    "run_dir": "each leg has a folder in that of the chain",
    "resume": "resume=last of the chain goes on with its first unfinished leg",
    "dry_run": "give dry_run=true for the whole chain",
}
"""Keys that no leg may have, with the reason."""
_PARTS = re.compile(r"(?P<prefix>\+\+|\+|~)?(?P<key>[^=]*)(?P<value>=.*)?", re.DOTALL)


def composition_of(command: str, overrides: Sequence[str]) -> str:
    """Return the composition that `command` uses for these overrides: `train` has another for a recipe with `chain`."""
    return "chain" if command == "train" and is_chain_recipe(overrides) else command


def is_chain_recipe(overrides: Sequence[str]) -> bool:
    """Return whether the recipe that the overrides choose has the key `chain`, itself or by its `defaults`."""
    chosen = [unquote(text[1:]) for _, key, text in map(_parts, overrides) if key == "recipe" and text]
    if not chosen:
        return False
    try:
        return _has_chain(chosen_file("recipe", home(chosen[-1])), set())
    except ConfigError:  # composing tells it
        return False


def _has_chain(file: Path, seen: set[Path]) -> bool:
    """Return whether a recipe file, or one that its `defaults` build on, has the key `chain`. seen: files so far."""
    seen.add(file.resolve())
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # composing tells it
        return False
    if not isinstance(content, Mapping):
        return False
    defaults = content.get("defaults")
    names = [name for name in defaults if isinstance(name, str)] if isinstance(defaults, list) else []
    below = [base for name in names if (base := base_recipe(name, file.parent)) and base.resolve() not in seen]
    return "chain" in content or any(_has_chain(base, seen) for base in below)


def compose_chain(overrides: Sequence[str]) -> DictConfig:
    """Return the config of a chain, in which each leg is `{own, overrides}`; `run_dir` may still be null.

    own: overrides that the recipe and the command line give to this leg alone. overrides: those with the ones that the
    command line gives to every leg, complete but for `run_dir` and the start from the leg before.

    Raises ConfigError that lists the mistakes in every leg.
    """
    of_chain, shared, typed = _sort(overrides)
    plain: Any = OmegaConf.to_container(compose("chain", of_chain), resolve=True)
    nodes = {name: node for name, node in plain["chain"].items() if node is not None}
    problems = [
        Problem(f"chain.{leg}", ABSENT, "there is no such leg", f"the legs are {', '.join(nodes)}")
        for leg in typed
        if leg not in nodes
    ]
    nodes = {name: node for name, node in nodes.items() if name not in typed or typed[name] is not None}
    if not nodes:
        problems.append(Problem("chain", ABSENT, "every leg is left out", "keep at least one"))
    legs: dict[str, dict[str, list[str]]] = {}
    for name, node in nodes.items():
        values = dict(flatten(node, is_leaf=lambda part: not isinstance(part, Mapping) or not part))
        # A leg's process reads the variables itself; they win over the recipe, not over the command line.
        values = {key: value for key, value in values.items() if key not in values_of(WANDB_VARIABLES)}
        of_leg = typed.get(name) or []
        keys = {_parts(override)[1] for override in of_leg}
        everywhere = [override for override in shared if _parts(override)[1] not in keys]
        own = [*as_overrides(values), *of_leg]
        legs[name] = {"own": own, "overrides": [*own, *everywhere]}
        problems += _mistakes(name, legs[name]["overrides"])
    if problems:
        raise ConfigError(*problems)
    complete = OmegaConf.create(escape_interpolation({**plain, "chain": legs}))
    OmegaConf.set_struct(complete, True)
    return complete


def _sort(overrides: Sequence[str]) -> tuple[list[str], list[str], dict[str, list[str] | None]]:
    """Split the overrides of a chain into its own, those of every leg, and those of single legs (None: left out)."""
    of_chain: list[str] = []
    shared: list[str] = []
    typed: dict[str, list[str] | None] = {}
    for override in overrides:
        prefix, key, text = _parts(override)
        first, _, rest = key.partition(".")
        leg, _, inner = rest.partition(".")
        if first == "chain" and inner:
            typed[leg] = [*(typed.get(leg) or []), f"{prefix}{inner}{text}"]
        elif first == "chain" and leg and (prefix == "~" or text.strip().lower() == "=null"):
            typed[leg] = None
        elif first == "chain":
            raise ConfigError(
                f"{override}: write chain.<leg>.<key>=<value> to change a leg, or chain.<leg>=null to leave it out"
            )
        else:
            (of_chain if key in OWN_KEYS else shared).append(override)
    return of_chain, shared, typed


def _parts(override: str) -> tuple[str, str, str]:
    """Return the prefix, the key and `=<value>` of an override; the last is empty if there is no value."""
    match = _PARTS.fullmatch(override)
    assert match is not None, "the pattern matches every text"
    return match["prefix"] or "", match["key"], match["value"] or ""


def _mistakes(leg: str, overrides: Sequence[str]) -> list[Problem]:
    """Return the mistakes in the training of a leg, each with the name of the leg."""
    keys = [_parts(override)[1] for override in overrides]
    where = f"chain.{leg}"
    problems = [
        Problem(f"{where}.{key}", ABSENT, "no leg can have this key", reason)
        for key, reason in SET_BY_CHAIN.items()
        if key in keys
    ]
    if "recipe" not in keys:
        return [*problems, Problem(f"{where}.recipe", ABSENT, "is required", f"give {where}.recipe=<name>")]
    if is_chain_recipe(overrides):
        return [*problems, Problem(f"{where}.recipe", ABSENT, "a leg can't be a chain", "name the recipe of one run")]
    if problems:
        return problems
    try:
        compose("train", overrides)
    except ConfigError as error:
        return [
            problem.below(where) if problem.key is not None else replace(problem, text=f"{where}: {problem.text}")
            for problem in error.problems
        ]
    return []
