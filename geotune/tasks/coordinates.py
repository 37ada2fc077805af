"""The project's only reader of coordinates: `parse_coordinates` reads and checks what a text states.

It has three passes: tokens (`coordinate_tokens`), fields and pairs (`coordinate_statements`), and the choice of the
final statement in this module.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import Literal

from geotune.geo import haversine_km
from geotune.tasks.coordinate_statements import CoordinateError, NamedField, Statement, StatementReader
from geotune.tasks.coordinate_tokens import ESCAPE, final_text, unescape

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
_RESTATED_DEG = 0.01
"""A bare pair this close to the answer before it only repeats that answer."""


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

    These forms are read: named fields in any order (lat, latitude, lon, lng, long, longitude; in JSON, nested, fenced
    or single-quoted, and in prose); hemispheres (48.85 N, N 48.85, 48.85 degrees north); degrees, minutes and seconds;
    and a pair under a heading that names its order. Only the last `<answer>` counts; without an answer tag, only the
    text after the thoughts. If that holds several statements, the last one counts, even if it gives no coordinates. A
    bare pair is read as (lat, lon) only if the prompt asks for that order (`pair_order`).
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

    Args:
        lat: The latitude, in any notation of one angle.
        lon: The longitude.
        lat_ref: The hemisphere of the latitude, if it stands in a field of its own ("S").
        lon_ref: The hemisphere of the longitude.
        decimal_comma: Whether a comma between two numbers is a decimal comma.
    """
    fields = {"latitude": f"{lat} {lat_ref}".strip(), "longitude": f"{lon} {lon_ref}".strip()}
    return parse_coordinates(json.dumps(fields, ensure_ascii=False))


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
    """Return the last statement of a text's final answer; its `reason` is set if it gives no coordinates."""
    reader = StatementReader(ESCAPE.sub(unescape, final_text(text)))
    events = list(reader.events())
    final: Statement | None = None
    pending: NamedField | None = None
    otherwise = CoordinateError.missing
    for event, following in itertools.zip_longest(events, events[1:]):
        if isinstance(event, CoordinateError):
            otherwise = event
        elif isinstance(event, Statement):
            pending = None
            final = final if final is not None and _comments_on(final, event) else event
        elif pending is None or pending.axis == event.axis:
            pending = event
        elif (
            isinstance(following, NamedField)
            and following.axis == pending.axis
            and reader.fields_apart(event, following) < reader.fields_apart(pending, event)
        ):
            pending = event  # the previous field is left over from a draft: this field belongs to the next
        else:
            statement, pending = reader.both(pending, event), None
            final = final if final is not None and _comments_on(final, statement) else statement
    halved = pending is not None and pending.reading.reason is not CoordinateError.missing
    if pending is not None and halved and (final is None or pending.explicit):  # cut off, or half a correction
        return Statement(reason=CoordinateError.incomplete)
    return final or Statement(reason=otherwise)


def _comments_on(answer: Statement, later: Statement) -> bool:
    """Return whether a later statement only comments on an answer, so that the answer still holds.

    It does if it is mentioned in passing in the same JSON object ("reason": "48 N, 2 E is Paris"), or if it is a bare
    pair that repeats the answer's numbers in either order.
    """
    if answer.explicit and not later.explicit and later.braces and answer.braces == later.braces:
        return True
    if not later.bare or later.reason is not None or answer.reason is not None or answer.bare:
        return False
    return any(
        abs(later.lat - lat) <= _RESTATED_DEG and abs(later.lon - lon) <= _RESTATED_DEG
        for lat, lon in ((answer.lat, answer.lon), (answer.lon, answer.lat))
    )
