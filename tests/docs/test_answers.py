"""docs/answers.md: every text in its tables about coordinates is read, or refused, as the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from geotune.tasks.coordinates import CoordinateError, Coordinates, parse_coordinates

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"


def rows(last_column: str) -> Iterator[tuple[str, str]]:
    """Yield the first text and the last cell of each row of the tables about coordinates with this last column."""
    section = PAGE.read_text(encoding="utf-8").split("## Coordinates")[1].split("\n## ")[0]
    for table in section.split(f"| Text | {last_column} |\n")[1:]:
        for line in table.split("\n\n")[0].splitlines()[1:]:
            text, _, cell = line.strip("| ").rpartition(" | ")
            yield re.match("`(.*?)`", text)[1], cell


@pytest.mark.parametrize(("text", "place"), rows("Read as"))
def test_what_is_read(text: str, place: str) -> None:
    found = parse_coordinates(text, pair_order="lat_lon")
    assert isinstance(found, Coordinates)
    assert (round(found.lat, 6), round(found.lon, 6)) == tuple(map(float, place.split(",")))


@pytest.mark.parametrize(("text", "reason"), rows("Reason"))
def test_what_is_refused(text: str, reason: str) -> None:
    assert parse_coordinates(text, pair_order="lat_lon") is CoordinateError(reason.strip("`"))


def test_every_reason_has_a_row() -> None:
    assert {reason.strip("`") for _, reason in rows("Reason")} == set(CoordinateError)
