"""JSON that every reader accepts: no NaN, no infinities, no half-written file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from geotune.sample import open_atomically


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
