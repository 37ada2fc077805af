"""Wording of messages: values as a user types them, and suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def near(name: str, known: Iterable[str], where: str = "", rest: str = "") -> str:
    """Return "; did you mean ...?" with the known names that are close to `name`; empty if none is close.

    where: key above the name. rest: path below the name. Both are part of the suggestion.
    """
    matches = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    meant = " or ".join(f"{where}.{match}{rest}" if where else f"{match}{rest}" for match in matches)
    return f"; did you mean {meant}?" if meant else ""


def as_typed(value: Any) -> str:
    """Return a value as a user types it, cut to 80 characters."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    text = f"[{','.join(map(as_typed, value))}]" if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
