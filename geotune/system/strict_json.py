"""Strict JSON, written and read: no NaN, no infinities, no repeated keys, no half-written files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from geotune.system.files import open_atomically


def finite(value: Any) -> Any:
    """Replace every float in `value` that JSON can't express (NaN, infinities) by None."""
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
    """A text is not the strict JSON of one value; the message is the reason."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict. Raises NotJsonError if a key is repeated."""
    held: dict[str, Any] = {}
    for name, value in pairs:
        if name in held:
            raise NotJsonError(f"key {name!r} comes twice")
        held[name] = value
    return held


def _reject(constant: str) -> Any:
    """Raise NotJsonError for NaN or an infinity."""
    raise NotJsonError(f"{constant} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_reject)


def parse_json(text: str) -> Any:
    """Return the value that `text` holds. Raises NotJsonError."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJsonError("nested too deeply") from None
    except ValueError as error:  # a number of too many digits for an int
        raise NotJsonError(str(error)) from None
