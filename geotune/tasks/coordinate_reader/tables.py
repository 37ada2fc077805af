"""Tables that a text holds, of Markdown or CSV, with columns for the coordinates."""

from __future__ import annotations

import re

from geotune.tasks.coordinate_reader.objects import read_row
from geotune.tasks.coordinate_reader.ranking import ambiguous, first_of
from geotune.tasks.coordinate_reader.statements import Statement
from geotune.tasks.coordinate_reader.words import HEMISPHERES, SPREADS, key_role

_DIGIT = re.compile("[0-9]")
_RULE = re.compile(r"[\s|:+-]++")
_LINE = re.compile(r"[^\n]++")
_PAIRS = frozenset(("lat_lon", "lon_lat", "pair"))
_MANY_CELLS = 40
_LONGEST_HEADER = 1000


def read_tables(text: str) -> list[tuple[int, int, Statement]]:
    """Read the tables of a text whose header has coordinates: their only row, or the first ranked one."""
    found = []
    lines = [match.span() for match in _LINE.finditer(text)]
    at = 0
    while at < len(lines) - 1:
        line = text[slice(*lines[at])]
        delimiter = next((each for each in "|;\t," if each in line), "")
        names = _header(line, delimiter)
        end = at + 1
        if names:
            while end < len(lines) and delimiter in text[slice(*lines[end])] and lines[end][0] <= lines[end - 1][1] + 1:
                end += 1
            rows = [text[slice(*row)] for row in lines[at + 1 : end] if not _RULE.fullmatch(text, *row)]
            if rows:
                found.append((lines[at][0], lines[end - 1][1], _table_statement(names, rows, delimiter)))
        at = end
    return found


def _header(line: str, delimiter: str) -> list[str]:
    """Return the names of a header's columns; [] if none holds coordinates, or the line is no header."""
    if not delimiter or len(line) > _LONGEST_HEADER or _DIGIT.search(line):
        return []
    names = _cells(line, delimiter)
    roles = [key_role(name) for name in names]
    pairs = [role for role in roles if role in _PAIRS]
    stated = {"lat", "lon"} <= set(roles) or (delimiter == "|" and len(pairs) == 1)
    return names if stated and 1 < len(names) <= _MANY_CELLS else []


def _cells(line: str, delimiter: str) -> list[str]:
    cells = line.strip().strip("|").split("|") if delimiter == "|" else line.split(delimiter)
    return [cell.strip(" *_`\t\"'") for cell in cells]


def _table_statement(names: list[str], rows: list[str], delimiter: str) -> Statement:
    ranked = []
    for row in rows:
        cells = _cells(row, delimiter)
        if len(cells) != len(names):
            return ambiguous()
        unnamed = [cell.lower() for name, cell in zip(names, cells, strict=True) if not key_role(name)]
        if any(cell in HEMISPHERES or cell in SPREADS or cell in ("-", "+") for cell in unnamed):
            return ambiguous()
        stated = read_row(names, cells)
        if stated is None:
            return ambiguous()
        ranked.append(stated)
    return first_of(ranked) or ambiguous()
