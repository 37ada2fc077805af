"""Checks of single values: each yields the mistake, if there is one. None stands for null, which every check allows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from geotune.errors import ABSENT, Problem


def at_least(key: str, value: float | None, least: int, remedy: str = "") -> Iterator[Problem]:
    """Require a value of at least `least`."""
    if value is not None and not value >= least:
        yield Problem(key, value, f"must be at least {least}", remedy)


def above_zero(key: str, value: float | None, remedy: str = "give a number above 0") -> Iterator[Problem]:
    """Require a finite number above 0."""
    if value is not None and not 0 < value < math.inf:
        yield Problem(key, value, remedy)


def is_share(key: str, value: float) -> Iterator[Problem]:
    """Require a number in [0, 1)."""
    if not 0 <= value < 1:
        yield Problem(key, value, "must be at least 0 and below 1")


def is_named(key: str, path: str | None) -> Iterator[Problem]:
    """Require a path that is not blank."""
    if path is not None and not path.strip():
        yield Problem(key, "", "the name is empty", "give {key}=<path>")


def is_builder(key: str, build: dict[str, Any] | None, choice: str = "builder@{key}") -> Iterator[Problem]:
    """Require a node that names a builder by `_target_`. choice: key of the override that chooses one."""
    if build is not None and "_target_" not in build:
        yield Problem(key, ABSENT, "names no builder", f"choose one by {choice}=<name>")


def are_among(key: str, names: Iterable[Any] | None, known: Collection[Any]) -> Iterator[Problem]:
    """Require at least one name, and that all are known."""
    if names is None:
        return
    listed = ", ".join(map(str, known))
    if not list(names):
        yield Problem(key, [], "there must be at least one", f"choose from {listed}")
    for name in names:
        if name not in known:
            yield Problem(key, name, f"choose from {listed}")


def is_folder(key: str, path: Path | None, remedy: str = "give an existing one") -> Iterator[Problem]:
    """Require a folder that exists."""
    if path is not None and not path.is_dir():
        yield Problem(key, path, "there is no such folder", remedy)
