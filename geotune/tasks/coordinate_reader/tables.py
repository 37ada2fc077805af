"""Tables that a text holds, of Markdown or CSV, with a column for each coordinate."""

from __future__ import annotations

import math
import re

from geotune.tasks.coordinate_reader.angles import read_axis
from geotune.tasks.coordinate_reader.ranking import Ranked, ambiguous, first_of
from geotune.tasks.coordinate_reader.statements import Statement, combined_reason
from geotune.tasks.coordinate_reader.words import key_role

_DIGIT = re.compile("[0-9]")
_RULE = re.compile(r"[\s|:+-]++")
_MANY_CELLS = 40


def read_tables(text: str) -> list[tuple[int, int, Statement]]:
    """Read the tables of a text whose header has both coordinates: their only row, or the first ranked one."""
    found = []
    lines = [(match.start(), match.end()) for match in re.finditer(r"[^\n]++", text)]
    at = 0
    while at < len(lines) - 1:
        delimiter = next((each for each in "|;\t," if each in text[slice(*lines[at])]), "")
        roles = _header(text[slice(*lines[at])], delimiter)
        end = at + 1
        if roles:
            while end < len(lines) and delimiter in text[slice(*lines[end])] and lines[end][0] <= lines[end - 1][1] + 1:
                end += 1
            rows = [text[slice(*line)] for line in lines[at + 1 : end] if not _RULE.fullmatch(text, *line)]
            if rows:
                found.append((lines[at][0], lines[end - 1][1], _table_statement(roles, rows, delimiter)))
        at = end
    return found


def _header(line: str, delimiter: str) -> list[str]:
    """Return the roles of a header's columns; [] if it has no latitude and longitude, or is no header."""
    if not delimiter or len(line) > 1000 or _DIGIT.search(line):
        return []
    roles = [key_role(cell) for cell in _cells(line, delimiter)]
    return roles if {"lat", "lon"} <= set(roles) and len(roles) <= _MANY_CELLS else []


def _cells(line: str, delimiter: str) -> list[str]:
    cells = line.strip().strip("|").split("|") if delimiter == "|" else line.split(delimiter)
    return [cell.strip(" *_`\t\"'") for cell in cells]


def _table_statement(roles: list[str], rows: list[str], delimiter: str) -> Statement:
    ranked = []
    for row in rows:
        cells = _cells(row, delimiter)
        if len(cells) != len(roles) or roles.count("lat") > 1 or roles.count("lon") > 1:
            return ambiguous()
        named = dict(zip(roles, cells, strict=True))
        if named.get("ref") or named.get("direction"):
            return ambiguous()
        lat, lon = (
            read_axis(named[axis], named.get(f"{axis}_ref", ""), letter)
            for axis, letter in (("lat", "N"), ("lon", "E"))
        )
        statement = Statement(lat.value, lon.value, combined_reason(lat, lon), explicit=True)
        numbers = [re.match(r"[0-9]++(?:\.[0-9]++)?", named.get(role, "")) for role in ("rank", "confidence")]
        rank, confidence = (float(number[0]) if number else math.nan for number in numbers)
        ranked.append(Ranked(statement, "", rank, confidence))
    return first_of(ranked) or ambiguous()
