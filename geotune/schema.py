"""Reads plain trees (what YAML holds) into dataclasses and arguments, collecting every mistake instead of the first.

Serves the schemas of `geotune.config` and, in the same words, the targets that a recipe names by `_target_`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from geotune.errors import ConfigError

REQUIRED: Any = inspect.Parameter.empty
MISSING = "???"
"""How YAML writes a value that must still be given."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what it is and what helps."""

    key: str
    text: str
    siblings: tuple[str, ...] | None = None
    """For a key that does not exist: those that do, beside it."""

    def __str__(self) -> str:
        return f"{self.key}{self.text}"


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


def locate(target: Any, where: str) -> Callable[..., Any]:
    """The class or function that `_target_` names. Raises ConfigError when there is none."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")) or "." not in target:
        raise ConfigError(f"{where}._target_={show(target)}: expected the dotted name of a class, package.module.Class")
    parts = target.split(".")
    found: Any = None
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        if depth == 1 or not hasattr(found, parts[depth - 1]):
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise  # the module exists and misses one of its own imports
                meant = near(parts[depth - 1], dir(found)) if depth > 1 else ""
                raise ConfigError(f"{where}._target_={target}: there is no {module}{meant}") from None
        else:
            found = getattr(found, parts[depth - 1])
    if not callable(found):
        raise ConfigError(f"{where}._target_={target}: that is no class; name one, package.module.Class")
    return found


def read_arguments(
    node: Mapping[str, Any], target: Callable[..., Any], where: str, problems: list[Problem], given: Iterable[str] = ()
) -> dict[str, Any]:
    """Arguments for `target` from a config node, converted to its type hints; mistakes go to `problems`.

    `given` are names that the caller passes by itself: neither required in the node nor allowed there.
    """
    accepted = parameters_of(target)
    arguments: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{where}.{name}" if where else str(name)
        if name == "_target_" and name not in accepted:
            continue
        if name in given:
            problems.append(Problem(key, f"={show(value)}: this is set by the program; remove the key"))
        elif name not in accepted and not accepted.open:
            siblings = tuple(known for known in accepted if known not in given and known != "_target_")
            rest, leaf = _first_leaf(value)
            text = f"={show(leaf)}: no such key{near(str(name), siblings, where, rest)}"
            problems.append(Problem(key + rest, text, siblings))
        else:
            parameter = accepted.get(str(name))
            if value == MISSING:
                problems.append(_required(key, parameter.doc if parameter else ""))
            else:
                arguments[str(name)] = convert(value, parameter.hint if parameter else Any, key, problems)
    for name, parameter in accepted.items():
        if parameter.default is REQUIRED and name not in node and name not in given:
            key = f"{where}.{name}" if where else name
            schema = _schema(parameter.hint)
            if schema:  # say which of its keys are missing, by their names
                arguments[name] = convert({}, schema, key, problems)
            else:
                problems.append(_required(key, parameter.doc))
    return arguments


def convert(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    """`value`, as YAML gave it, as the type that `hint` names; a mistake goes to `problems` and gives None.

    Nothing is guessed: "5" is no number and 1 is no boolean; a whole number does for a float, a list for a tuple,
    a string for a Path or an Enum, a mapping for a dataclass. A mapping with `_target_` is checked against that target
    and stays a mapping.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return convert(value, arguments[0], key, problems)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return _check_open(value, key, problems)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, key, problems)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in arguments)
    elif hint is None or hint is types.NoneType:
        fits = value is None
    elif hint in (bool, str):
        fits = isinstance(value, hint)
    elif hint in (int, float):
        fits = isinstance(value, (int, hint)) and not isinstance(value, bool)
        value = hint(value) if fits else value
    elif inspect.isclass(hint) and issubclass(hint, Path):
        fits = isinstance(value, str)
        value = hint(value) if fits else value
    elif inspect.isclass(hint) and issubclass(hint, Enum):
        fits = value in [member.value for member in hint]
        value = hint(value) if fits else value
    elif dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return _convert_dataclass(value, hint, key, problems)
        fits = False
    elif (origin or hint) in _SEQUENCES:
        if isinstance(value, (list, tuple)):
            return _convert_sequence(value, origin or hint, arguments, key, problems)
        fits = False
    elif (origin or hint) in _MAPPINGS:
        if isinstance(value, Mapping):
            if "_target_" in value:
                return _check_open(value, key, problems)
            inner = arguments[1] if arguments else Any
            return {str(name): convert(item, inner, f"{key}.{name}", problems) for name, item in value.items()}
        fits = False
    else:
        fits = not inspect.isclass(hint) or isinstance(value, hint)
    if not fits:
        meant = near(str(value), map(str, arguments)) if origin is Literal else ""
        problems.append(Problem(key, f"={show(value)}: expected {describe(hint)}{meant}"))
        return None
    return value


_SEQUENCES = (list, tuple, set, frozenset, Sequence, Iterable)
_MAPPINGS = (dict, Mapping)


def _convert_union(value: Any, members: tuple[Any, ...], key: str, problems: list[Problem]) -> Any:
    """The first member that takes the value; if none does, what the most telling one has against it."""
    attempts: list[tuple[Any, list[Problem]]] = []
    for member in members:
        mistakes: list[Problem] = []
        converted = convert(value, member, key, mistakes)
        if not mistakes:
            return converted
        attempts.append((member, mistakes))
    inside = [mistakes for _, mistakes in attempts if any(problem.key != key for problem in mistakes)]
    if len(inside) == 1:
        problems.extend(inside[0])
    else:
        expected = " or ".join(describe(member) for member in members)
        problems.append(Problem(key, f"={show(value)}: expected {expected}"))
    return None


def _convert_dataclass(value: Mapping[str, Any], hint: Any, key: str, problems: list[Problem]) -> Any:
    mistakes: list[Problem] = []
    arguments = read_arguments(value, hint, key, mistakes)
    problems.extend(mistakes)
    if mistakes:
        return None
    try:
        return hint(**arguments)
    except ConfigError as error:  # its own __post_init__ names the key
        problems.append(Problem("", str(error)))
        return None


def _convert_sequence(
    value: Sequence[Any], kind: Any, members: tuple[Any, ...], key: str, problems: list[Problem]
) -> Any:
    hints: Sequence[Any] = [members[0] if members else Any] * len(value)
    if kind is tuple and members and members[-1] is not Ellipsis:
        if len(value) != len(members):
            problems.append(Problem(key, f"={show(value)}: expected {len(members)} values, [a, b, ...]"))
            return None
        hints = members
    pairs = enumerate(zip(value, hints, strict=True))
    items = [convert(item, hint, f"{key}[{at}]", problems) for at, (item, hint) in pairs]
    return kind(items) if kind in (tuple, set, frozenset) else items


def _check_open(value: Any, key: str, problems: list[Problem]) -> Any:
    """Check what stands below each `_target_` of a node without a schema of its own; the node stays as it is."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            try:
                read_arguments(value, locate(value["_target_"], key), key, problems)
            except ConfigError as error:
                problems.append(Problem("", str(error)))
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
    """Type hint of the key at `path`, following dataclasses and the `_target_`s of `tree`; Any where none is known."""
    if path[-1] == "_target_":
        return str
    hint: Any = root
    for part in path:
        target = tree.get("_target_") if isinstance(tree, Mapping) else None
        schema = _schema(hint)
        if schema is None and isinstance(target, str):
            try:
                schema = locate(target, "")
            except ConfigError:  # told by the validation, with its place
                return Any
        if schema is not None:
            parameter = parameters_of(schema).get(part)
            hint = parameter.hint if parameter else Any
        else:
            inner = [typing.get_args(member) for member in _members(hint) if typing.get_origin(member) in _MAPPINGS]
            hint = inner[0][1] if inner else Any
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return hint


def walk(schema: Any, where: str = "") -> Iterator[tuple[str, Parameter]]:
    """Every key of a dataclass schema with its full name, depth first; a nested schema follows its own entry."""
    for name, parameter in parameters_of(schema).items():
        key = f"{where}.{name}" if where else name
        yield key, parameter
        nested = _schema(parameter.hint)
        if nested is not None:
            yield from walk(nested, key)


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _schema(hint: Any) -> Any:
    """The dataclass that a hint names, alone or as an option; None when it names none."""
    found = [member for member in _members(hint) if dataclasses.is_dataclass(member)]
    return found[0] if len(found) == 1 else None


def is_schema(hint: Any) -> bool:
    """Whether a key of this type holds further keys that a schema names."""
    return _schema(hint) is not None


def choices_of(hint: Any) -> list[str]:
    """The values that an enumeration takes; none for any other type."""
    if typing.get_origin(hint) is Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return [str(member.value) for member in hint]
    return []


def describe(hint: Any) -> str:
    """A type hint in the words of a message: "a whole number", "one of a, b"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(member) for member in arguments)
    choices = choices_of(hint)
    if choices:
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if (origin or hint) in _SEQUENCES:
        return "a list, [a, b]"
    if (origin or hint) in _MAPPINGS or dataclasses.is_dataclass(hint):
        return "keys of its own, not a single value"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(hint, "null" if hint in (None, types.NoneType) else getattr(hint, "__name__", str(hint)))


def _required(key: str, doc: str) -> Problem:
    about = f" ({doc.splitlines()[0].rstrip('.')})" if doc else ""
    return Problem(key, f"={MISSING}: is required; give {key}=<value>{about}")


def _first_leaf(value: Any) -> tuple[str, Any]:
    """Where the first single value below a node stands (".a.b"), and that value."""
    rest = ""
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        rest += f".{name}"
    return rest, value


def near(name: str, known: Iterable[str], where: str = "", rest: str = "") -> str:
    """The end of a message: what was probably meant, between the place before it and what follows it."""
    matches = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    meant = " or ".join(f"{where}.{match}{rest}" if where else f"{match}{rest}" for match in matches)
    return f"; did you mean {meant}?" if meant else ""


def show(value: Any) -> str:
    """A value as a message shows it: as one would type it, cut when long."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    text = f"[{','.join(map(show, value))}]" if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
