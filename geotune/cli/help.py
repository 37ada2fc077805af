"""What `--help` prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from geotune.cli.commands import COMMANDS
from geotune.config import recipe_files
from geotune.config.compositions import COMPOSITIONS
from geotune.config.parameters import MISSING, REQUIRED, Parameter, is_schema, literal_values, parameters_of, walk
from geotune.config.recipe_files import choices_of, chosen_file, files_of, group_names, header_of, register_file
from geotune.config.targets import resolve_target
from geotune.config.wording import as_typed


def help_text(command: str, words: Sequence[str]) -> str:
    """What `--help` prints: the recipes that exist, and every key; with a choice made, what that one says of itself."""
    spec, named = COMPOSITIONS[command], COMMANDS[command]
    chosen = dict(word.partition("=")[::2] for word in words).get(spec.choice, "")
    keys = parameters_of(spec.schema)
    required = [f"{key}=<value>" for key, parameter in keys.items() if parameter.default is REQUIRED]
    needed = f"{named.beside}{spec.choice}=<name>" if spec.choice else " ".join(required)
    lines = [
        f"geotune {command}: {named.summary}",
        "",
        f"usage: geotune {command} {needed} [key=value ...]",
        f"       python -m {named.module} is the same; for example: {spec.example}",
    ]
    if not spec.choice:
        lines += ["", *(f"  {line}" for line in header_of(recipe_files.RECIPES / f"{command}.yaml"))]
    elif chosen:
        path = chosen_file(spec.choice, chosen)
        if path not in files_of(spec.choice):
            register_file(spec.choice, path)
        lines += ["", f"{spec.choice}={chosen}", *(f"  {line}" for line in header_of(path))]
        if spec.shorthand:
            node: Any = OmegaConf.to_container(OmegaConf.load(path))
            fields = walk(resolve_target(node["_target_"], spec.choice))
            lines += ["", f"keys of {chosen}:", *_key_lines(fields, node)]
    else:
        names = choices_of(spec.choice)
        lines += ["", f"{spec.choice}=", *_columns([(name, what_is(spec.choice, name)) for name in names])]
    others = [group for group in group_names() if group in keys and group != spec.choice]
    if others:
        lines += ["", "other choices:", *_columns([(f"{group}=", ", ".join(choices_of(group))) for group in others])]
    own = ((key, parameter) for key, parameter in walk(spec.schema) if key != spec.choice)
    lines += ["", "keys:", *_key_lines(own, {spec.kept_at: f"as in {spec.choice}="})]
    return "\n".join(lines)


def what_is(group: str, name: str) -> str:
    """What a recipe file says of itself: its header's first line after the launch line."""
    about = [
        line
        for line in header_of(recipe_files.RECIPES / group / f"{name}.yaml")
        if not re.match(r"(python|geotune) ", line)
    ]
    return about[0] if about else ""


def _key_lines(keys: Iterable[tuple[str, Parameter]], preset: Mapping[str, Any]) -> list[str]:
    """Key, text, choices and default of each key; `preset` holds what a file sets instead of the default."""
    rows = []
    for key, parameter in keys:
        if is_schema(parameter.hint) or key.endswith("_target_"):
            continue
        value = preset.get(key, parameter.default)
        default = "required" if value in (REQUIRED, MISSING) else as_typed(value)
        choices = " | ".join(literal_values(parameter.hint))
        rows.append((key, f"{parameter.doc} [{f'{choices}; ' if choices else ''}{default}]".strip()))
    return _columns(rows)


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0) + 2
    return [f"  {name:<{width}}{text}".rstrip() for name, text in rows]
