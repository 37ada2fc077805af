"""Checks of single values. Each returns whether the value is allowed, and the message for a user if it is not."""

from __future__ import annotations

import math
from typing import Any

Rule = tuple[bool, str]
"""Whether the value is allowed, and the message if it is not."""


def at_least(key: str, value: Any, least: int) -> Rule:
    """Require a value of at least `least`, or null."""
    return value is None or value >= least, f"{key}={value}: must be at least {least}"


def is_named(key: str, path: str | None) -> Rule:
    """Require a path that is not blank, or null."""
    return path is None or path.strip() != "", f"{key}=: the name is empty; give {key}=<path>"


def above_zero(key: str, value: float | None, remedy: str = "give a number above 0") -> Rule:
    """Require a finite number above 0, or null."""
    return value is None or 0 < value < math.inf, f"{key}={value}: {remedy}"


def is_share(key: str, value: float) -> Rule:
    """Require a number in [0, 1)."""
    return 0 <= value < 1, f"{key}={value}: must be at least 0 and below 1"


def is_builder(key: str, build: dict[str, Any] | None) -> Rule:
    """Require a node that names a builder by `_target_`, or null."""
    group = "builder" if key == "builder" else f"builder@{key}"
    return build is None or "_target_" in build, f"{key}: names no builder; choose one by {group}=<name>"
