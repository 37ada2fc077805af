"""Fields of option dataclasses: names, types, defaults and help texts."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

REQUIRED: Any = dataclasses.MISSING
MISSING = "???"
"""Value that stands in YAML for a required value that is not given."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One field of a dataclass."""

    name: str
    hint: Any
    default: Any
    doc: str
    """Help text; empty if there is none."""


@cache
def parameters_of(schema: Any) -> dict[str, Parameter]:
    """Return the fields of a dataclass that its constructor takes, with resolved type hints."""
    hints = typing.get_type_hints(schema, include_extras=True)
    docs = _docs_of(schema)
    return {
        spec.name: Parameter(spec.name, hints[spec.name], _default_of(spec), docs.get(spec.name, ""))
        for spec in dataclasses.fields(schema)
        if spec.init
    }


def _default_of(spec: dataclasses.Field[Any]) -> Any:
    """Return the default of a field, `REQUIRED` if it has none."""
    if spec.default is not dataclasses.MISSING:
        return spec.default
    if spec.default_factory is dataclasses.MISSING:
        return REQUIRED
    try:
        return spec.default_factory()
    except TypeError:  # nested options with required fields of their own
        return REQUIRED


def _docs_of(target: Any) -> dict[str, str]:
    """Return the string literals below the fields of a dataclass and its bases, by field name."""
    docs: dict[str, str] = {}
    for cls in reversed(inspect.getmro(target)):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, SyntaxError):  # the source is not available: the keys have no texts
            continue
        assert isinstance(body, ast.ClassDef)
        for line, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
                text = ast.literal_eval(below.value) if isinstance(below.value, ast.Constant) else None
                if isinstance(text, str):
                    docs[line.target.id] = inspect.cleandoc(text)
    return docs


SEQUENCES = (list, tuple, set, frozenset, Sequence, Iterable)
MAPPINGS = (dict, Mapping)


def walk(
    schema: Any, where: str = "", chosen: Callable[[Any, str], Any] = lambda schema, key: schema
) -> Iterator[tuple[str, Parameter]]:
    """Yield every key of a dataclass schema with its full name, depth first; a nested schema comes before its keys.

    chosen: returns the schema to use in place of the nested one of a key.
    """
    for name, parameter in parameters_of(schema).items():
        key = f"{where}.{name}" if where else name
        yield key, parameter
        nested = nested_schema(parameter.hint)
        if nested is not None:
            yield from walk(chosen(nested, key), key, chosen)


def union_members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the hint alone if it is no union."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def nested_schema(hint: Any) -> Any:
    """Return the dataclass that a hint names, also as `X | None`; None if it names no dataclass."""
    found = [member for member in union_members(hint) if dataclasses.is_dataclass(member)]
    return found[0] if len(found) == 1 else None


def is_schema(hint: Any) -> bool:
    """Return whether a key of this type holds the keys of a nested schema."""
    return nested_schema(hint) is not None


def literal_values(hint: Any) -> list[str]:
    """Return the values of a Literal or an Enum as text; an empty list for any other type."""
    if typing.get_origin(hint) is Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return [str(member.value) for member in hint]
    return []


def type_in_words(hint: Any) -> str:
    """Describe a type hint for a message: "a whole number", "one of a, b"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return type_in_words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_in_words(member) for member in arguments)
    choices = literal_values(hint)
    if choices:
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if (origin or hint) in SEQUENCES:
        return "a list, [a, b]"
    if origin in MAPPINGS and arguments[-1:] == (float,):
        return "numbers by name, {<name>: <number>}"
    if (origin or hint) in MAPPINGS or dataclasses.is_dataclass(hint):
        return "keys of its own, not a single value"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(hint, "null" if hint in (None, types.NoneType) else getattr(hint, "__name__", str(hint)))
