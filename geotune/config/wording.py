"""Values and near misses as messages show them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def near(name: str, known: Iterable[str], where: str = "", rest: str = "") -> str:
    """The end of a message: what was probably meant, between the place before it and what follows it."""
    matches = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    meant = " or ".join(f"{where}.{match}{rest}" if where else f"{match}{rest}" for match in matches)
    return f"; did you mean {meant}?" if meant else ""


def as_typed(value: Any) -> str:
    """A value as a message shows it: as one would type it, cut when long."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    text = f"[{','.join(map(as_typed, value))}]" if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
