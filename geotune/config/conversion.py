"""Conversion of plain trees, as YAML holds them, to option dataclasses. It collects every mistake.

The schemas of `geotune.config` and the options of the classes that a recipe names by `_target_` follow the same rules.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from geotune.config.options import PartOptions
from geotune.config.parameters import (
    MAPPINGS,
    MISSING,
    REQUIRED,
    SEQUENCES,
    nested_schema,
    parameters_of,
    type_in_words,
    union_members,
)
from geotune.config.targets import options_of, slot_options
from geotune.config.wording import near
from geotune.errors import ConfigError, Problem


def read_options(node: Mapping[str, Any], schema: Any, where: str, problems: list[Problem]) -> Any:
    """Make the option dataclass `schema` from a config node, whose values are converted to the types of its fields.

    where: key of the node. Adds mistakes to `problems`, and returns None if there are any.
    """
    accepted = parameters_of(schema)
    arguments: dict[str, Any] = {}
    mistakes: list[Problem] = []
    for name, value in node.items():
        key = _join(where, name)
        if name == "_target_" and name not in accepted:
            continue
        if name not in accepted:
            siblings = tuple(known for known in accepted if known != "_target_")
            rest, leaf = _first_leaf(value)
            meant = near(str(name), siblings, where, rest)
            mistakes.append(Problem(key + rest, leaf, "no such key", meant, siblings))
        elif value == MISSING:
            mistakes.append(_required(key, accepted[name].doc))
        else:
            arguments[name] = convert(value, accepted[name].hint, key, mistakes)
    for name, parameter in accepted.items():
        if parameter.default is REQUIRED and name not in node:
            nested = nested_schema(parameter.hint)
            if nested:  # so that the message names the keys that are missing
                arguments[name] = convert({}, nested, _join(where, name), mistakes)
            else:
                mistakes.append(_required(_join(where, name), parameter.doc))
    made = None
    if not mistakes:
        try:
            made = schema(**arguments)
        except ConfigError as error:  # its keys are those of the fields
            mistakes = [problem.below(where) for problem in error.problems]
    problems.extend(mistakes)
    return made


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else str(name)


def convert(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    """Convert a value that YAML holds to the type `hint`. Adds a mistake to `problems` and returns None for it.

    The conversion is strict: "5" is not a number and 1 is not a boolean. A whole number is accepted as a float, a list
    as a tuple, a string as a Path or an Enum, and a mapping as a dataclass. A mapping with `_target_` is checked
    against that target and stays a mapping.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return convert(value, arguments[0], key, problems)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return _check_open(value, key, problems)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, key, problems)
    kind = origin or hint
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _convert_dataclass(value, hint, key, problems)
    if kind in SEQUENCES and isinstance(value, (list, tuple)):
        return _convert_sequence(value, kind, arguments, key, problems)
    if kind in MAPPINGS and isinstance(value, Mapping):
        if "_target_" in value:
            return _check_open(value, key, problems)
        inner = arguments[1] if arguments else Any
        return {str(name): convert(item, inner, f"{key}.{name}", problems) for name, item in value.items()}
    fits, converted = _convert_scalar(value, hint)
    if not fits:
        meant = near(str(value), map(str, arguments)) if origin is Literal else ""
        problems.append(Problem(key, value, f"expected {type_in_words(hint)}", meant))
        return None
    return converted


def _convert_scalar(value: Any, hint: Any) -> tuple[bool, Any]:
    """Return whether a value fits a type that holds no further keys or items, and the converted value if it does."""
    kind = typing.get_origin(hint) or hint
    if kind is Literal:
        return any(value == choice and type(value) is type(choice) for choice in typing.get_args(hint)), value
    if hint is None or hint is types.NoneType:
        return value is None, value
    if hint in (bool, str):
        return isinstance(value, hint), value
    if hint in (int, float):
        fits = isinstance(value, (int, hint)) and not isinstance(value, bool)
        return fits, hint(value) if fits else value
    if inspect.isclass(hint) and issubclass(hint, Path):
        fits = isinstance(value, (str, Path))
        return fits, hint(value) if fits else value
    if inspect.isclass(hint) and issubclass(hint, Enum):
        fits = value in [member.value for member in hint]
        return fits, hint(value) if fits else value
    if dataclasses.is_dataclass(hint) or kind in SEQUENCES or kind in MAPPINGS:
        return False, value
    return not inspect.isclass(hint) or isinstance(value, hint), value


def _convert_union(value: Any, members: tuple[Any, ...], key: str, problems: list[Problem]) -> Any:
    """Convert to the first member of a union that accepts the value.

    If no member accepts it, the mistakes are those of the only member that found some below `key`, or else one mistake
    that lists all members.
    """
    attempts: list[tuple[Any, list[Problem]]] = []
    for member in members:
        mistakes: list[Problem] = []
        converted = convert(value, member, key, mistakes)
        if not mistakes:
            return converted
        attempts.append((member, mistakes))
    inside = [
        mistakes
        for member, mistakes in attempts
        if any(problem.key != key for problem in mistakes)
        or (dataclasses.is_dataclass(member) and isinstance(value, Mapping))
    ]
    if len(inside) == 1:
        problems.extend(inside[0])
    else:
        expected = " or ".join(type_in_words(member) for member in members)
        problems.append(Problem(key, value, f"expected {expected}"))
    return None


def _convert_dataclass(value: Mapping[str, Any], hint: Any, key: str, problems: list[Problem]) -> Any:
    """Convert a mapping to the dataclass `hint`; options of a part are those of the class that `_target_` names."""
    if issubclass(hint, PartOptions):
        if value.get("_target_") in (None, "", MISSING):
            problems.append(_required(_join(key, "_target_"), parameters_of(hint)["_target_"].doc))
            return None
        try:
            hint = slot_options(hint, value["_target_"], key)
        except ConfigError as error:
            problems.extend(error.problems)
            return None
    return read_options(value, hint, key, problems)


def _convert_sequence(
    value: Sequence[Any], kind: Any, members: tuple[Any, ...], key: str, problems: list[Problem]
) -> Any:
    """Convert the items of a list or tuple to the type hints `members`, and the whole to `kind`."""
    hints: Sequence[Any] = [members[0] if members else Any] * len(value)
    if kind is tuple and members and members[-1] is not Ellipsis:
        if len(value) != len(members):
            problems.append(Problem(key, value, f"expected {len(members)} values, [a, b, ...]"))
            return None
        hints = members
    pairs = enumerate(zip(value, hints, strict=True))
    items = [convert(item, hint, f"{key}[{at}]", problems) for at, (item, hint) in pairs]
    return kind(items) if kind in (tuple, set, frozenset) else items


def _check_open(value: Any, key: str, problems: list[Problem]) -> Any:
    """Check the options below each `_target_` of a node that has no schema. Returns the node unchanged."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            try:
                schema = options_of(value["_target_"], key)
            except ConfigError as error:
                problems.extend(error.problems)
            else:
                read_options(value, schema, key, problems)
        else:
            for name, item in value.items():
                _check_open(item, f"{key}.{name}", problems)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            _check_open(item, f"{key}[{at}]", problems)
    elif value == MISSING:
        problems.append(_required(key, ""))
    return value


def hint_at(root: Any, tree: Any, path: Sequence[str]) -> Any:
    """Return the type hint of the key at `path`, or Any if it has none.

    root: schema of the whole tree. The search follows its dataclasses and the targets that `tree` names by `_target_`.
    """
    if path[-1] == "_target_":
        return str
    hint: Any = root
    group = ""
    for part in path:
        target = tree.get("_target_") if isinstance(tree, Mapping) else None
        schema = nested_schema(hint)
        if isinstance(target, str) and (schema is None or issubclass(schema, PartOptions)):
            try:
                schema = options_of(target, "") if schema is None else slot_options(schema, target, group)
            except ConfigError:  # the validation reports it, with its key
                return Any
        if schema is not None:
            parameter = parameters_of(schema).get(part)
            hint = parameter.hint if parameter else Any
        else:
            inner = [typing.get_args(member) for member in union_members(hint) if typing.get_origin(member) in MAPPINGS]
            hint = inner[0][1] if inner else Any
        tree = tree.get(part) if isinstance(tree, Mapping) else None
        group = part
    return hint


def _required(key: str, doc: str) -> Problem:
    """Return the mistake of leaving out a required key, whose help text is `doc`."""
    about = f" ({doc.splitlines()[0].rstrip('.')})" if doc else ""
    return Problem(key, MISSING, "is required", f"give {key}=<value>{about}")


def _first_leaf(value: Any) -> tuple[str, Any]:
    """Return the path of the first leaf below a node (".a.b"), and its value."""
    rest = ""
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        rest += f".{name}"
    return rest, value


def as_plain(value: Any) -> Any:
    """Return a converted value as YAML holds it: options as mappings of their fields, paths and enumerations as text.

    The fields are those that the constructor takes, so that the result can be converted again.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: as_plain(getattr(value, name)) for name in parameters_of(cast(Any, type(value)))}
    if isinstance(value, Mapping):
        return {name: as_plain(item) for name, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((as_plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
