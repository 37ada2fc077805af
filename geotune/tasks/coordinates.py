"""The project's only reader of coordinates: `parse_coordinates` reads and checks what a text states.

The package `coordinate_reader` does the work, in these passes: the final answer (`final_answer`) is written in plain
characters (`text`); statements with a format of their own are read (`structures`), then those of the prose (`tokens`,
`statements`); and the final one is chosen (`choice`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from geotune.geo import haversine_km
from geotune.tasks.coordinate_reader.angles import CoordinateError, read_axis
from geotune.tasks.coordinate_reader.choice import final_statement
from geotune.tasks.coordinate_reader.statements import Statement, combined_reason
from geotune.tasks.final_answer import final_answer

__all__ = [
    "SWAP_WITHIN_KM",
    "CoordinateError",
    "Coordinates",
    "check_coordinates",
    "parse_coordinates",
    "read_fields",
    "right_if_swapped",
]

SWAP_WITHIN_KM = 25.0
"""An answer counts as swapped if it is this close to the truth once latitude and longitude are exchanged."""
_CANONICAL = re.compile(
    r"""([^\d<\[\]{}"\\\u25c1]*+)\{"latitude": (-?[0-9]++\.[0-9]++), "longitude": (-?[0-9]++\.[0-9]++)\}\s*+"""
)
"""An answer that ends in the canonical form, with nothing before it that could be read, needs no analysis."""
_AXIS = re.compile(r"lat|l(?:on|ng)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A position on Earth in degrees, WGS84."""

    lat: float
    lon: float


def check_coordinates(lat: float, lon: float) -> Coordinates | CoordinateError:
    """Return two numbers as coordinates, or why they are none. Never swaps or wraps them."""
    if math.isnan(lat) or math.isnan(lon):
        return CoordinateError.not_a_number
    if abs(lat) > 90 or abs(lon) > 180:
        return CoordinateError.out_of_range
    if lat == 0 and lon == 0:
        return CoordinateError.null_island
    return Coordinates(lat, lon)


def parse_coordinates(text: str, *, pair_order: Literal["lat_lon"] | None = None) -> Coordinates | CoordinateError:
    """Read the coordinates that a text finally states, or why it gives none. Never raises.

    docs/answers.md lists what is read and what is refused. A reading consumes all that qualifies it: a digit, a
    hemisphere, a unit, a sign or an order that stands beside it and is not understood makes the answer ambiguous. Only
    the final answer counts; if it holds several statements, the last one counts, except that an alternative or a place
    mentioned in passing does not replace the answer before it. A bare pair is read as (lat, lon) only if the prompt
    asks for that order (`pair_order`).
    """
    final = _final_statement(text)
    if final.reason is not None:
        return final.reason
    if final.bare and pair_order is None:
        return CoordinateError.ambiguous
    return check_coordinates(final.lat, final.lon)


def read_fields(
    lat: str, lon: str, lat_ref: str = "", lon_ref: str = "", *, decimal_comma: bool = False
) -> Coordinates | CoordinateError:
    """Read coordinates from a field for each, such as the cells of a table's row, or why they give none.

    Each field is read from end to end: what is not understood in it makes it ambiguous.

    Args:
        lat: The latitude, in any notation of one angle.
        lon: The longitude.
        lat_ref: The hemisphere of the latitude, if it stands in a field of its own ("S").
        lon_ref: The hemisphere of the longitude.
        decimal_comma: Whether a comma between two numbers is a decimal comma; if not, it makes the field ambiguous.
    """
    if not decimal_comma and ("," in lat or "," in lon):
        return CoordinateError.ambiguous
    readings = read_axis(lat, lat_ref, "N"), read_axis(lon, lon_ref, "E")
    reason = combined_reason(*readings)
    return reason if reason is not None else check_coordinates(readings[0].value, readings[1].value)


def right_if_swapped(
    answer: str | Coordinates | CoordinateError, gold_lat: float, gold_lon: float, *, within_km: float
) -> bool:
    """Return whether an answer is wrong as given, but within `within_km` of the gold if latitude and longitude swap.

    This diagnostic is summed over many answers and corrects none of them. A bare pair in a text is read as (lat, lon).
    """
    if isinstance(answer, CoordinateError):  # a StrEnum is a str too
        return False
    stated = answer if isinstance(answer, Coordinates) else _final_statement(answer)
    if isinstance(stated, Statement) and stated.reason is not None:
        return False

    def near(place: Coordinates | CoordinateError) -> bool:
        return isinstance(place, Coordinates) and haversine_km(place.lat, place.lon, gold_lat, gold_lon) <= within_km

    as_stated, swapped = check_coordinates(stated.lat, stated.lon), check_coordinates(stated.lon, stated.lat)
    return near(swapped) and not near(as_stated)


def _final_statement(text: str) -> Statement:
    """Return the statement that a text finally makes; its `reason` is set if it gives no coordinates."""
    canonical = _CANONICAL.fullmatch(text)
    if canonical is not None and not _AXIS.search(canonical[1]):
        return Statement(float(canonical[2]), float(canonical[3]), explicit=True)
    return final_statement(final_answer(text))
