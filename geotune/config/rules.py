"""Checks of single values: each a condition and the message for a user who breaks it."""

from __future__ import annotations

import math
from typing import Any

Rule = tuple[bool, str]
"""Whether it holds, and what to say if it does not."""


def at_least(key: str, value: Any, least: int) -> Rule:
    return value is None or value >= least, f"{key}={value}: must be at least {least}"


def is_named(key: str, path: str | None) -> Rule:
    return path is None or path.strip() != "", f"{key}=: an empty name; give {key}=<path>"


def above_zero(key: str, value: float | None, remedy: str = "give a number above 0") -> Rule:
    return value is None or 0 < value < math.inf, f"{key}={value}: {remedy}"


def is_share(key: str, value: float) -> Rule:
    return 0 <= value < 1, f"{key}={value}: must lie in [0, 1)"


def is_builder(key: str, build: dict[str, Any] | None) -> Rule:
    group = "builder" if key == "builder" else f"builder@{key}"
    return build is None or "_target_" in build, f"{key}: names no builder; choose one by {group}=<name>"
