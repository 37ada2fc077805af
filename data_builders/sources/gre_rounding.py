"""How precisely a published answer states its coordinates, and whether it states the true ones that precisely."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from geotune.tasks.coordinates import Coordinates

SLACK_DEG = 2e-6
"""Allowed beyond an answer's rounding, because the answer and the truth are compared with six decimals."""
_NUMBER = r"\d+(?:\.\d+|,\d+(?![.\d]))?"
_GAP = r"[^\d\n,;/|]{1,10}?(?:(?<=\S), {0,2})?"  # a mark of degrees or minutes, with spaces and a comma behind it
MIN_DIGITS = 2
"""Decimals from which a truth may count as rounded: with fewer, trailing zeros may have got lost."""
_ANGLE = re.compile(rf"(?<![\d.])(?=({_NUMBER})(?:{_GAP}({_NUMBER})(?:{_GAP}({_NUMBER}))?)?)")


def states_the_truth(text: str, stated: Coordinates, truth: Coordinates) -> bool:
    """Whether the coordinates that a text states are the truth, but for the rounding of either.

    Each axis of the text has its own rounding: half a unit of its last digit of degrees, minutes or seconds.
    Coordinates whose digits are not found in the text count as exact. The truth has one rounding, half a unit of the
    last digit of the more precise axis, if that has at least `MIN_DIGITS` decimals.
    """
    off_lat = abs(stated.lat - truth.lat)
    off_lon = abs(math.remainder(stated.lon - truth.lon, 360))
    digits = max(len(f"{value:.6f}".rstrip("0").partition(".")[2]) for value in (truth.lat, truth.lon))
    of_truth = 0.5 * 10.0**-digits if digits >= MIN_DIGITS else 0.0
    return all(
        off <= max(rounding_deg(text, value), of_truth) + SLACK_DEG
        for off, value in ((off_lat, stated.lat), (off_lon, stated.lon))
        if off > SLACK_DEG
    )


def rounding_deg(text: str, value: float) -> float:
    """Half a unit in degrees of the last digit with which a text states an angle; 0 if it states no such angle.

    Where the angle stands several times, the finest rounding counts: a text may also round what it states.
    """
    roundings = [
        half_a_unit
        for match in _ANGLE.finditer(text)
        for angle, half_a_unit in _angles([part for part in match.groups() if part is not None])
        if abs(angle - abs(value)) <= SLACK_DEG
    ]
    return min(roundings, default=0.0)


def _angles(parts: list[str]) -> Iterator[tuple[float, float]]:
    """The angles that one to three neighboring numbers may be, each with half a unit of its last digit, in degrees."""
    whole, comma, _ = parts[0].partition(",")
    if comma:  # may part two numbers instead
        yield float(whole), 0.5
    angle = 0.0
    for unit, part in zip((1, 60, 3600), parts, strict=False):
        number = part.replace(",", ".")
        angle += float(number) / unit
        yield angle, 0.5 * 10.0 ** -len(number.partition(".")[2]) / unit
        if "." in number:
            return
