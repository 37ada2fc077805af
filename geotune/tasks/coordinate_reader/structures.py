"""Statements with a format of their own: JSON objects, tables, and notations that fix the order of the two numbers.

`read_structures` reads these first and puts one character in the place of each, so that the reader of prose meets them
as statements among others.
"""

from __future__ import annotations

from geotune.tasks.coordinate_reader.formats import read_formats
from geotune.tasks.coordinate_reader.objects import read_place_objects
from geotune.tasks.coordinate_reader.statements import Statement
from geotune.tasks.coordinate_reader.tables import read_tables
from geotune.tasks.coordinate_reader.tokens import STRUCTURE


def read_structures(text: str) -> tuple[str, list[Statement]]:
    """Return a plain text with a mark (`STRUCTURE`) for each statement that has a format of its own, and these."""
    found: list[tuple[int, int, Statement]] = []
    if "{" in text or "[" in text:
        found += read_place_objects(text)
    if "\n" in text and any(delimiter in text for delimiter in "|,;\t"):
        found += read_tables(text)
    pieces: list[str] = []
    statements: list[Statement] = []
    position = 0
    for start, end, statement in sorted(found, key=lambda each: each[:2]):
        if start < position:
            continue
        _append(text[position:start], pieces, statements)
        pieces.append(STRUCTURE)
        statements.append(statement)
        position = end
    _append(text[position:], pieces, statements)
    return "".join(pieces), statements


def _append(text: str, pieces: list[str], statements: list[Statement]) -> None:
    """Append text between structures, with its formats read."""
    plain, found = read_formats(text.replace(STRUCTURE, " "))
    pieces.append(plain)
    statements += found
