"""Text that `--help` prints."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from geotune.cli.commands import COMMANDS
from geotune.config import recipe_files
from geotune.config.chain import composition_of
from geotune.config.composing import compose
from geotune.config.compositions import COMPOSITIONS, Composition
from geotune.config.options import PartOptions
from geotune.config.parameters import (
    MISSING,
    REQUIRED,
    Parameter,
    is_schema,
    literal_values,
    parameters_of,
    union_members,
    walk,
)
from geotune.config.recipe_files import choices_of, chosen_file, files_of, group_names, header_of, register_file
from geotune.config.targets import options_of, slot_options
from geotune.errors import ConfigError, as_typed
from geotune.system.screen import wrapped

MIN_TEXT_WIDTH = 24
"""Characters per line of the second column on a terminal that is too narrow for both columns."""


def help_text(command: str, overrides: Sequence[str]) -> str:
    """Return the help of a command: its usage, the files to choose from, and every key.

    If `overrides` choose a file, the header of that file stands in place of the list of files. Raises ConfigError if
    the file does not exist.
    """
    spec, named = COMPOSITIONS[composition_of(command, overrides)], COMMANDS[command]
    chosen = dict(override.partition("=")[::2] for override in overrides).get(spec.choice, "")
    keys = parameters_of(spec.schema)
    required = [f"{key}=<value>" for key, parameter in keys.items() if parameter.default is REQUIRED]
    needed = f"{named.usage}{spec.choice}=<name>" if spec.choice else " ".join(required)
    lines = [
        f"geotune {command}: {named.summary}",
        "",
        f"usage: geotune {command} {needed} [key=value ...]",
        f"   or: python -m {named.module} {needed} [key=value ...]",
        "",
        f"example: {spec.example}",
    ]
    lines += _choice_lines(command, spec, chosen)
    others = [group for group in group_names() if group in keys and group != spec.choice]
    if others:
        lines += [
            "",
            "other groups to choose from:",
            *_columns([(f"{group}=", ", ".join(choices_of(group))) for group in others]),
        ]
    parts = _parts_of(command, overrides) if chosen else {}

    def options(schema: Any, key: str) -> Any:
        return slot_options(schema, parts[key], key) if key in parts and issubclass(schema, PartOptions) else schema

    walked = walk(spec.schema, chosen=options)
    keys_with_text = ((key, parameter) for key, parameter in walked if key != spec.choice)
    name_of_choice = {spec.kept_at: f"name of the {spec.choice}"}
    lines += [
        "",
        "keys, with their allowed values and default in brackets:",
        *_key_lines(keys_with_text, name_of_choice),
    ]
    return wrapped("\n".join(lines))


def _parts_of(command: str, overrides: Sequence[str]) -> dict[str, str]:
    """Return the class that each part of a run has in the config that `overrides` compose, by the part's key.

    A config that can't be composed yet, such as one with a key that must be given, has none.
    """
    given = [override for override in overrides if not override.startswith("-")]
    try:
        tree = compose(command, given) if composition_of(command, given) == command else {}
    except ConfigError:
        return {}
    nodes = {key: tree.get(key) for key in tree}
    return {key: node["_target_"] for key, node in nodes.items() if isinstance(node, Mapping) and "_target_" in node}


def _choice_lines(command: str, spec: Composition, chosen: str) -> list[str]:
    """Return the help on the chosen file, on the files to choose from, or on a command without a choice."""
    if not spec.choice:
        return ["", *(f"  {line}" for line in header_of(recipe_files.RECIPES / f"{command}.yaml"))]
    if not chosen:
        rows = [(name, what_is(spec.choice, name)) for name in choices_of(spec.choice)]
        return ["", f"{spec.choice}=<name>, where <name> is one of:", *_columns(rows)]
    path = chosen_file(spec.choice, chosen)
    if path not in files_of(spec.choice):
        register_file(spec.choice, path)
    lines = ["", f"{spec.choice}={chosen}", *(f"  {line}" for line in header_of(path))]
    node: Any = OmegaConf.to_container(OmegaConf.load(path))
    if spec.shorthand and "_target_" in node:  # an own file may take it from one that its defaults name
        lines += ["", f"keys of the {spec.choice} {chosen}:", *_key_lines(_keys_of(node, spec.choice), {})]
    return lines


def _keys_of(node: Mapping[str, Any], where: str, below: str = "") -> Iterator[tuple[str, Parameter]]:
    """Yield the keys of the options that a node and the nodes in it name by `_target_`, with the values that they set.

    where: key of the node, for messages. below: beginning of the keys.
    """
    for key, parameter in walk(options_of(node["_target_"], where)) if "_target_" in node else ():
        value = node.get(key, parameter.default)
        if not isinstance(value, Mapping) or not value:
            yield below + key, replace(parameter, default=value)
    for name, inner in node.items():
        if isinstance(inner, Mapping):
            yield from _keys_of(inner, f"{where}.{name}", f"{below}{name}.")


def what_is(group: str, name: str) -> str:
    """Return how a recipe file describes itself: the first sentence of its header, after the launch line."""
    header = header_of(recipe_files.RECIPES / group / f"{name}.yaml")
    lines = [line for line in header if not re.match(r"(python|geotune) ", line)]
    end = next((number for number, line in enumerate(lines, start=1) if line.endswith(".")), len(lines))
    return " ".join(lines[:end])


def _key_lines(keys: Iterable[tuple[str, Parameter]], preset: Mapping[str, Any]) -> list[str]:
    """Return a line per key: its name, text, allowed values and default.

    preset: values by key that a file sets in place of the defaults.
    """
    rows = []
    for key, parameter in keys:
        if is_schema(parameter.hint) or key.endswith("_target_"):
            continue
        value = preset.get(key, parameter.default)
        default = "required" if value in (REQUIRED, MISSING) else as_typed(value)
        choices = " | ".join(_allowed_values(parameter.hint))
        rows.append((key, f"{parameter.doc} [{f'{choices}; ' if choices else ''}{default}]".strip()))
    return _columns(rows)


def _allowed_values(hint: Any) -> list[str]:
    """Return the values of an enumeration, which may also be null; an empty list for any other type."""
    members = [member for member in union_members(hint) if member is not types.NoneType]
    return literal_values(members[0]) if len(members) == 1 else []


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return the rows as two aligned columns, wrapped to the terminal; a pipe gets one line per row."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return aligned(rows, columns)


def aligned(rows: Sequence[tuple[str, str]], columns: int | None) -> list[str]:
    """Return the rows as two aligned columns in lines of at most `columns` characters; None: of any length."""
    indent = max((len(name) for name, _ in rows), default=0) + 4
    room = None if columns is None else max(columns - indent, MIN_TEXT_WIDTH)
    lines = []
    for name, text in rows:
        wrapped = [text] if room is None else textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        starts = [f"  {name}".ljust(indent), *[" " * indent] * (len(wrapped) - 1)]
        lines += [f"{start}{part}".rstrip() for start, part in zip(starts, wrapped, strict=True)]
    return lines
