"""What a dataclass or a callable accepts: names, types, defaults and texts."""

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
"""How YAML writes a value that must still be given."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One field of a dataclass or one argument of a callable."""

    name: str
    hint: Any
    default: Any
    doc: str


class Parameters(dict[str, Parameter]):
    """What a target accepts, by name; `open` when it takes any keyword."""

    open: bool = False


@cache
def parameters_of(target: Callable[..., Any]) -> Parameters:
    """Fields of a dataclass or arguments of a class or function, with resolved type hints."""
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
    """The value of a dataclass field's default, factories included (a signature shows them as an opaque object)."""
    for spec in dataclasses.fields(target):
        if spec.name == name and spec.default_factory is not dataclasses.MISSING:
            try:
                return spec.default_factory()
            except TypeError:  # a nested schema with required fields of its own
                return REQUIRED
    return default


def _docs_of(target: Any) -> dict[str, str]:
    """Text of the string literals that stand below the fields of a dataclass, base classes included."""
    docs: dict[str, str] = {}
    for cls in reversed(inspect.getmro(target)) if inspect.isclass(target) else ():
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, SyntaxError):  # no source at hand: keys without texts
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
    """Every key of a dataclass schema with its full name, depth first; a nested schema follows its own entry."""
    for name, parameter in parameters_of(schema).items():
        key = f"{where}.{name}" if where else name
        yield key, parameter
        nested = nested_schema(parameter.hint)
        if nested is not None:
            yield from walk(nested, key)


def union_members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def nested_schema(hint: Any) -> Any:
    """The dataclass that a hint names, alone or as an option; None when it names none."""
    found = [member for member in union_members(hint) if dataclasses.is_dataclass(member)]
    return found[0] if len(found) == 1 else None


def is_schema(hint: Any) -> bool:
    """Whether a key of this type holds further keys that a schema names."""
    return nested_schema(hint) is not None


def literal_values(hint: Any) -> list[str]:
    """The values that an enumeration takes; none for any other type."""
    if typing.get_origin(hint) is Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return [str(member.value) for member in hint]
    return []


def type_in_words(hint: Any) -> str:
    """A type hint in the words of a message: "a whole number", "one of a, b"."""
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
