"""Overrides: the `key=value` arguments of the command line, read as the types of their keys require."""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from geotune.config.compositions import Composition
from geotune.config.conversion import convert, hint_at
from geotune.config.parameters import MAPPINGS, MISSING, parameters_of, union_members, walk
from geotune.config.recipe_files import choices_of, chosen_file, files_of, group_names, register_file
from geotune.errors import ConfigError, Problem

_OVERRIDE = re.compile(r"(?P<prefix>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@-]*)(?:=(?P<text>.*))?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_QUOTED = r"'[^']*'|\"[^\"]*\""
_WEIGHT = re.compile(
    rf"\s*(?P<name>{_QUOTED}|[^\s].*?)\s*:\s*(?P<number>{_NUMBER.pattern})\s*(?:,|$)", re.I | re.DOTALL
)
"""A name and its number in `{/photos (2024), a=b: 2, "c: d": 0.5}`; the name ends at the first colon before a number
that ends the item."""
DELETE = object()
"""Value that marks a key to be removed."""


def sort_overrides(overrides: Sequence[str], spec: Composition) -> tuple[dict[str, str], list[tuple[list[str], Any]]]:
    """Split overrides into choices of groups, which Hydra composes, and values by path, which are set afterwards.

    The last of several overrides of a key wins. Raises ConfigError for an override that can't be read.
    """
    groups: dict[str, str] = {}
    values: list[tuple[list[str], Any]] = []
    names = group_names()
    mappings = [f"{key}." for key, parameter in walk(spec.schema) if _holds_values_by_name(parameter.hint)]
    for override in overrides:
        if (named := _name_in_mapping(override, mappings)) is not None:
            values.append(named)
            continue
        match = _OVERRIDE.fullmatch(override)
        if match is None or (match["text"] is None) != (match["prefix"] == "~"):
            raise ConfigError(f"{override}: write key=value{_guess(override, spec)}; --help lists the keys")
        prefix, key, text = match["prefix"], match["key"], match["text"] or ""
        group = key.partition("@")[0]
        removed = prefix == "~" or text.strip().lower() == "null"
        if "@" not in key and removed and may_be_null(spec.schema, group):
            values.append(([group], DELETE if prefix == "~" else text))
        elif group in names and ("@" in key or group in parameters_of(spec.schema)):
            if prefix == "~":
                groups.pop(key, None)
                if key != spec.choice:
                    groups[f"~{key}"] = ""
                continue
            choice = chosen_file(key, home(unquote(text)))
            name = choice.stem if choice in files_of(group) else register_file(group, choice)
            groups[f"+{key}" if prefix in ("+", "++") else key] = name
        elif "@" in key or "/" in key:
            raise ConfigError(f"{override}: there is no group {group}; the groups are {', '.join(names)}")
        else:
            path = key.split(".")
            if spec.shorthand and path[0] not in parameters_of(spec.schema):
                path.insert(0, spec.shorthand)
            values.append((path, DELETE if prefix == "~" else text))
    if spec.choice and spec.choice not in groups:
        raise ConfigError(
            Problem(
                spec.choice,
                MISSING,
                f"choose a {spec.choice}",
                f"there are {', '.join(choices_of(spec.choice))}. For example: {spec.example}",
            )
        )
    return groups, values


def _holds_values_by_name(hint: Any) -> bool:
    """Return whether a key of this type holds single values by name, as the mix of datasets does by path."""
    inner = typing.get_args(hint) if typing.get_origin(hint) in MAPPINGS else ()
    return len(inner) == 2 and inner[1] in (int, float, str)


def _name_in_mapping(override: str, mappings: Sequence[str]) -> tuple[list[str], Any] | None:
    """Return path and value of an override `data.mix.<name>=<value>`, whose name is any text; None for any other.

    mappings: the keys that hold values by name, each with a dot behind it.
    """
    bare = override.lstrip("+~")
    key = next((key for key in mappings if bare.startswith(key)), None)
    removed = override.startswith("~")
    name, is_set, text = (bare, "", "") if removed else bare.rpartition("=")
    if key is None or not (is_set or removed) or len(name) <= len(key):
        return None
    return [*key.rstrip(".").split("."), home(unquote(name.removeprefix(key)))], DELETE if removed else text


def may_be_null(schema: Any, group: str) -> bool:
    """Return whether the node of `group` may be null.

    Recipes add keys to such a node, which must be removed with it. Hydra can't do that, so null is set afterwards.
    """
    parameter = parameters_of(schema).get(group)
    return parameter is not None and types.NoneType in union_members(parameter.hint)


def _guess(argument: str, spec: Composition) -> str:
    """Return a hint for an argument like `--lr=1`, `--lr` or `quickstart`, or an empty string."""
    bare = argument.lstrip("-")
    if spec.choice and bare in choices_of(spec.choice):
        return f", as in {spec.choice}={bare}"
    return f", as in {bare if '=' in bare else f'{bare}=<value>'}" if argument.startswith("-") and bare else ""


def apply_value(tree: dict[str, Any], path: list[str], text: Any, schema: Any) -> None:
    """Set one key of the composed tree to the value that `text` holds for the key's type, or delete it (DELETE)."""
    set_value(tree, path, text if text is DELETE else _read(text, hint_at(schema, tree, path)))


def set_value(tree: dict[str, Any], path: list[str], value: Any) -> None:
    """Set one key of the composed tree to `value`, in which nothing is interpolated, or delete it (DELETE)."""
    node = tree
    for part in path[:-1]:
        inner = node.get(part)
        if not isinstance(inner, dict):
            if value is DELETE:
                return
            inner = node[part] = {}
        node = inner
    if value is DELETE:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = escape_interpolation(value)


def _read(text: str, hint: Any) -> Any:
    """Read `text` as a value, a list of strings, numbers by name or the bare string, whichever first suits `hint`.

    So `run_dir=2024` is a folder and `stage.lr=1` a number; `[a, b]` is a list if the key expects a list, else a name,
    and `{a: 2, b: 1}` holds numbers by name if the key expects them.
    """
    readings = [_literal(text), _literal(text, strings=True), _numbers_by_name(text), home(text)]
    for reading in readings:
        problems: list[Problem] = []
        convert(reading, hint, "", problems)
        if not problems:
            return reading
    return readings[0]


def _literal(text: str, *, strings: bool = False) -> Any:
    """Read null, a boolean, a number or a list of these; else the text without its quotes.

    strings: read nothing but text and lists of text.
    """
    stripped = text.strip()
    if stripped.startswith("[") and stripped.endswith("]"):
        items = _split(stripped[1:-1])
        if items is not None:
            return [unquote(item) if strings else _literal(item) for item in items]
    if strings:
        return unquote(text)
    constants = {"null": None, "true": True, "false": False}
    if stripped.lower() in constants:
        return constants[stripped.lower()]
    if _NUMBER.fullmatch(stripped):
        whole = stripped.lstrip("+-")
        if whole.isdecimal() and (whole == "0" or whole[0] != "0"):
            return int(stripped)
        if not whole.isdecimal():  # 007 is a name
            return float(stripped)
    return home(unquote(text))


def _numbers_by_name(text: str) -> dict[str, Any] | str:
    """Read `{<name>: <number>, ...}`; else the text. A name is any text, and quotes around it are removed."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        return text
    inner, found, at = inner[1:-1], dict[str, Any](), 0
    while inner[at:].strip():
        item = _WEIGHT.match(inner, at)
        if item is None:
            return text
        found[home(unquote(item["name"]))] = _literal(item["number"])
        at = item.end()
    return found


def _split(text: str) -> list[str] | None:
    """Split at the commas outside quotes and inner brackets; None if quotes or brackets are not closed."""
    items, depth, quote, start = [], 0, "", 0
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not text[start:at].strip():  # an apostrophe inside a name is no quote
            quote = letter
        elif letter in "[]":
            depth += 1 if letter == "[" else -1
            if depth < 0:
                return None
        elif letter == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    if quote or depth:
        return None
    items.append(text[start:].strip())
    return [] if items == [""] else items


def unquote(text: str) -> str:
    """Return `text` without quotes around the whole of it."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def home(text: str) -> str:
    """Replace a leading `~/` by the home folder."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def escape_interpolation(value: Any) -> Any:
    """Escape `${` in all strings of a value, which OmegaConf would read as an interpolation."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    if isinstance(value, dict):
        return {name: escape_interpolation(item) for name, item in value.items()}
    return [escape_interpolation(item) for item in value] if isinstance(value, (list, tuple)) else value
