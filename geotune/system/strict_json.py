"""Strict JSON, written and read: no NaN, no infinities, no key twice, no half-written file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from geotune.system.files import open_atomically


def finite(value: Any) -> Any:
    """`value` with None for every float that JSON has no word for (NaN, infinities)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_json(path: Path, content: Any) -> None:
    """Write `content` as strict JSON; the file appears complete or not at all."""
    with open_atomically(path) as file:
        file.write(json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


class NotJsonError(Exception):
    """Text that is not the JSON of one value, and why."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, value in pairs:
        if name in held:
            raise NotJsonError(f"key {name!r} comes twice")
        held[name] = value
    return held


def _refuse(constant: str) -> Any:
    raise NotJsonError(f"{constant} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def parse_json(text: str) -> Any:
    """The value that `text` holds. Raises NotJsonError."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJsonError("nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise NotJsonError(str(error)) from None
