"""Overrides written from values: the text that the command line reads as the same value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return one `key=value` override for each key; parsing them gives the same values."""
    return [f"{key}={text(value)}" for key, value in values.items()]


_NOT_PLAIN = re.compile(
    r"\s*(null|true|false|[+-]?[\d.]\S*|[+-]?inf|nan|\[.*\]|'.*'|\".*\"|)\s*|~(/.*)?", re.I | re.DOTALL
)


def text(value: Any) -> str:
    """Write a value as in an override. A string gets quotes if it would be parsed as another type without them."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(_item(item) for item in value)}]"
    if isinstance(value, str) and _NOT_PLAIN.fullmatch(value):
        return f'"{value}"' if value.startswith("'") else f"'{value}'"
    return str(value)


def _item(value: Any) -> str:
    plain = text(value)
    return f"'{plain}'" if isinstance(value, str) and plain == value and re.search(r"[,\[\]'\"]", value) else plain
