"""The base of all option dataclasses: each is a schema of a config, the argument of a constructor and its own check."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, cast

from geotune.config.parameters import parameters_of, type_in_words, union_members
from geotune.errors import ConfigError, Problem


@dataclass
class Options:
    """Options that are legal once they exist.

    A field's default is its value in a config that does not set it; a field without a default is required. The
    docstring below a field is its text in `--help`. A text given for a field of the type Path becomes a Path.

    Raises:
        ConfigError: A value is not one of the values that its type lists, or `check` found mistakes.
    """

    def __post_init__(self) -> None:
        wrong, schema = [], type(self)
        for name, parameter in parameters_of(cast(Any, schema)).items():
            value, members = getattr(self, name), set(union_members(parameter.hint))
            if isinstance(value, str) and Path in members:
                setattr(self, name, Path(value))
            legal = [choice for member in members for choice in typing.get_args(member) if _is_literal(member)]
            legal += [None] * (NoneType in members)
            if all(member is NoneType or _is_literal(member) for member in members) and value not in legal:
                wrong.append(Problem(name, value, f"expected {type_in_words(parameter.hint)}"))
        problems = wrong or list(self.check())
        if problems:
            raise ConfigError(*problems)

    def check(self) -> Iterator[Problem]:
        """Yield every mistake that the types allow. Keys are those of the fields; nested options check themselves."""
        yield from ()

    def check_inputs(self) -> Iterator[Problem]:
        """Yield the files and folders that are missing, when they are about to be read.

        They may be missing earlier: the leg of a chain can read what a leg before it writes.
        """
        yield from ()


@dataclass
class PartOptions(Options):
    """Options of a part of a run, whose class a recipe names by `_target_` beside them.

    The class takes its options as the argument `config`. A class of your own names its options as the class attribute
    `Config`, a subclass of the options that the part has here.
    """

    targets: ClassVar[tuple[str, ...]] = ()
    """Classes of geotune that have these options in place of the part's own; they are not imported to find that out."""

    _target_: str = field(default="", kw_only=True)
    """Class of the part, package.module.Class."""


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal
