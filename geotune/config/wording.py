"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str], where: str = "", rest: str = "") -> str:
    """Return "did you mean ...?" with the known names that are close to `name`; empty if none is close.

    where: key above the name. rest: path below the name. Both are part of the suggestion.
    """
    matches = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    meant = " or ".join(f"{where}.{match}{rest}" if where else f"{match}{rest}" for match in matches)
    return f"did you mean {meant}?" if meant else ""
