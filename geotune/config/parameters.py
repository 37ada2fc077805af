"""Parameters of dataclasses and callables: names, types, defaults and help texts."""

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

REQUIRED: Any = inspect.Parameter.empty
MISSING = "???"
"""Value that stands in YAML for a required value that is not given."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One field of a dataclass or one argument of a callable."""

    name: str
    hint: Any
    default: Any
    doc: str
    """Help text; empty if there is none."""


class Parameters(dict[str, Parameter]):
    """Parameters of a target by name; `open` is true if the target accepts any keyword."""

    open: bool = False


@cache
def parameters_of(target: Callable[..., Any]) -> Parameters:
    """Return the fields of a dataclass, or the arguments of a class or function, with resolved type hints."""
    owner = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    hints = typing.get_type_hints(owner, include_extras=True)
    docs = _docs_of(target)
    found = Parameters()
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found.open = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            default = parameter.default
            if dataclasses.is_dataclass(target):
                default = _default_of(target, name, default)
            found[name] = Parameter(name, hints.get(name, Any), default, docs.get(name, ""))
    return found


def _default_of(target: Any, name: str, default: Any) -> Any:
    """Return the default of a dataclass field; of a factory the value that it makes, which the signature hides."""
    for spec in dataclasses.fields(target):
        if spec.name == name and spec.default_factory is not dataclasses.MISSING:
            try:
                return spec.default_factory()
            except TypeError:  # a nested schema with required fields of its own
                return REQUIRED
    return default


def _docs_of(target: Any) -> dict[str, str]:
    """Return the string literals below the fields of a dataclass and its bases, by field name."""
    docs: dict[str, str] = {}
    for cls in reversed(inspect.getmro(target)) if inspect.isclass(target) else ():
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


def walk(schema: Any, where: str = "") -> Iterator[tuple[str, Parameter]]:
    """Yield every key of a dataclass schema with its full name, depth first; a nested schema comes before its keys."""
    for name, parameter in parameters_of(schema).items():
        key = f"{where}.{name}" if where else name
        yield key, parameter
        nested = nested_schema(parameter.hint)
        if nested is not None:
            yield from walk(nested, key)


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
    if (origin or hint) in MAPPINGS or dataclasses.is_dataclass(hint):
        return "keys of its own, not a single value"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(hint, "null" if hint in (None, types.NoneType) else getattr(hint, "__name__", str(hint)))
