"""Several places in one structure: which of them stands before the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geotune.tasks.coordinate_reader.angles import CoordinateError
from geotune.tasks.coordinate_reader.statements import Statement


@dataclass(frozen=True)
class Ranked:
    """A statement in an object or row, with what stands beside it about its place among others; NaN if nothing."""

    statement: Statement
    role: str
    rank: float
    confidence: float


def ambiguous() -> Statement:
    """Return a statement that is there but can't be read."""
    return Statement(reason=CoordinateError.ambiguous, explicit=True)


def first_of(found: list[Ranked]) -> Statement | None:
    """Return the one that stands before the others; a statement that is ambiguous if none does."""
    main = [each for each in found if each.role != "alternative"]
    if found and not main:
        return ambiguous()
    for roles in (("primary",), ("pair", "lat_lon", "lon_lat")):
        main = [each for each in main if each.role in roles] or main
    main = [each for each in main if not each.statement.bare] or main
    stated = [each for each in main if each.statement.reason is not CoordinateError.missing] or main
    if len({(each.statement.lat, each.statement.lon, each.statement.reason) for each in stated}) <= 1:
        return stated[0].statement if stated else None
    for values in ([-each.rank for each in stated], [each.confidence for each in stated]):
        if not any(math.isnan(value) for value in values) and sorted(values)[-1] > sorted(values)[-2]:
            return stated[values.index(max(values))].statement
    return ambiguous()
