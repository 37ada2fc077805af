"""Overrides: what a user types on the command line, read as the types of the keys ask."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Sequence
from typing import Any

from geotune.config.compositions import Composition
from geotune.config.conversion import Problem, convert, hint_at
from geotune.config.parameters import MISSING, parameters_of, union_members
from geotune.config.recipe_files import choices_of, chosen_file, files_of, group_names, register_file
from geotune.errors import ConfigError

_OVERRIDE = re.compile(r"(?P<prefix>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@-]*)(?:=(?P<text>.*))?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
DELETE = object()
"""Stands for the value of a key that is to be removed."""


def sort_overrides(overrides: Sequence[str], spec: Composition) -> tuple[dict[str, str], list[tuple[list[str], Any]]]:
    """Choices of groups for Hydra, and values by path for ourselves; the last of several wins."""
    groups: dict[str, str] = {}
    values: list[tuple[list[str], Any]] = []
    names = group_names()
    for word in overrides:
        match = _OVERRIDE.fullmatch(word)
        if match is None or (match["text"] is None) != (match["prefix"] == "~"):
            raise ConfigError(f"{word}: write key=value{_guess(word, spec)}; --help lists the keys")
        prefix, key, text = match["prefix"], match["key"], match["text"] or ""
        group = key.partition("@")[0]
        removed = prefix == "~" or text.strip() == "null"
        if "@" not in key and removed and _may_be_null(spec.schema, group):
            values.append(([group], DELETE if prefix == "~" else text))
        elif group in names and ("@" in key or group in parameters_of(spec.schema)):
            if prefix == "~":
                groups[f"~{key}"] = ""
                continue
            choice = chosen_file(key, unquote(text))
            name = choice.stem if choice in files_of(group) else register_file(group, choice)
            groups[f"+{key}" if prefix in ("+", "++") else key] = name
        elif "@" in key or "/" in key:
            raise ConfigError(f"{word}: there is no group {group}; the groups are {', '.join(names)}")
        else:
            path = key.split(".")
            if spec.shorthand and path[0] not in parameters_of(spec.schema):
                path.insert(0, spec.shorthand)
            values.append((path, DELETE if prefix == "~" else text))
    if spec.choice and spec.choice not in groups:
        raise ConfigError(
            f"{spec.choice}={MISSING}: choose one, for example {spec.example!r}; "
            f"there are {', '.join(choices_of(spec.choice))}"
        )
    return groups, values


def _may_be_null(schema: Any, group: str) -> bool:
    """Whether the choice of `group` may be null: recipes give such a node keys of their own, which must go as well."""
    parameter = parameters_of(schema).get(group)
    return parameter is not None and types.NoneType in union_members(parameter.hint)


def _guess(word: str, spec: Composition) -> str:
    """A remedy for `--lr=1`, `--lr 1` and a bare `quickstart`."""
    bare = word.lstrip("-")
    if spec.choice and bare in choices_of(spec.choice):
        return f", as in {spec.choice}={bare}"
    return f", as in {bare if '=' in bare else f'{bare}=<value>'}" if word.startswith("-") and bare else ""


def apply_value(tree: dict[str, Any], path: list[str], text: Any, config: Any) -> None:
    """Set (or delete) one key of the composed tree, reading the text as the key's type asks."""
    node = tree
    for part in path[:-1]:
        inner = node.get(part)
        if not isinstance(inner, dict):
            if text is DELETE:
                return
            inner = node[part] = {}
        node = inner
    if text is DELETE:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = escape_interpolation(_read(text, hint_at(config, tree, path)))


def _read(text: str, hint: Any) -> Any:
    """The first reading of `text` that suits the key's type: as a value, as a list of strings, as the bare string.

    So `run_dir=2024` is a folder, `stage.lr=1` a number, and `[a, b]` a list where one is expected, a name elsewhere.
    """
    readings = [_literal(text), _literal(text, strings=True), _home(text)]
    for reading in readings:
        problems: list[Problem] = []
        convert(reading, hint, "", problems)
        if not problems:
            return reading
    return readings[0]


def _literal(text: str, *, strings: bool = False) -> Any:
    """null, a boolean, a number or a list of such; else the text without its quotes. `strings`: lists of text only."""
    stripped = text.strip()
    if stripped.startswith("[") and stripped.endswith("]"):
        items = _split(stripped[1:-1])
        if items is not None:
            return [unquote(item) if strings else _literal(item) for item in items]
    if strings:
        return unquote(text)
    words = {"null": None, "true": True, "false": False}
    if stripped.lower() in words:
        return words[stripped.lower()]
    if _NUMBER.fullmatch(stripped):
        whole = stripped.lstrip("+-")
        if whole.isdecimal() and (whole == "0" or whole[0] != "0"):
            return int(stripped)
        if not whole.isdecimal():  # 007 is a name
            return float(stripped)
    return _home(unquote(text))


def _split(text: str) -> list[str] | None:
    """Items between commas, none inside quotes or inner brackets; None when those do not close."""
    items, depth, quote, start = [], 0, "", 0
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not text[start:at].strip():  # an apostrophe inside a name opens nothing
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
    """`text` without the quotes around it, if there are any."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _home(text: str) -> str:
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def escape_interpolation(value: Any) -> Any:
    """The same value for OmegaConf, which would read `${` in a string as an interpolation."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    if isinstance(value, dict):
        return {name: escape_interpolation(item) for name, item in value.items()}
    return [escape_interpolation(item) for item in value] if isinstance(value, (list, tuple)) else value
