"""Notations of coordinates in the cells of a table: read with everything that stands in the cell, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_builders.sources.table_cells import Angle, OrderCount, lacks_ref, read_cells
from data_builders.sources.tables import Row, open_table
from geotune.tasks.coordinates import Coordinates

NORTH = ("N", "n", "North", "north", "Nord", "Norte", "N.", "northern")
SOUTH = ("S", "s", "South", "Sud", "Sur", "Sul", "S.", "southern")
EAST = ("E", "East", "Est", "Este", "Ost", "E.")
WEST = ("W", "West", "Ouest", "Oeste", "Ovest", "W.")
latitudes = st.integers(1, 89_999).map(lambda value: value / 1000)
longitudes = st.integers(1, 179_999).map(lambda value: value / 1000)
hemispheres = st.tuples(
    st.sampled_from([(word, 1) for word in NORTH] + [(word, -1) for word in SOUTH]),
    st.sampled_from([(word, 1) for word in EAST] + [(word, -1) for word in WEST]),
)


@given(
    latitudes, longitudes, hemispheres, st.sampled_from(["{n} {h}", "{n}{h}", "{n}\u00b0 {h}", "{h} {n}", "{n}° {h}"])
)
def test_hemispheres_in_the_cell_and_beside_it(
    lat: float, lon: float, words: tuple[tuple[str, int], ...], form: str
) -> None:
    (north, up), (east, right) = words
    at = Coordinates(up * lat, right * lon)
    found = read_cells(form.format(n=lat, h=north), form.format(n=lon, h=east))
    words_alone = len(north) > 1 and "." not in north + east
    if "{n}{h}" in form or not words_alone:  # a small letter may be a unit, and a point may belong to the number
        assert found == at or not isinstance(found, Coordinates)
    else:
        assert found == at
    assert read_cells(str(lat), str(lon), north, east) == at
    assert not isinstance(read_cells(form.format(n=lat, h=east), str(lon)), Coordinates)
    assert not isinstance(read_cells(str(lat), str(lon), "", north), Coordinates)


@given(
    latitudes.map(str),
    st.sampled_from(
        (
            *(
                "{} km",
                "{} m",
                "{}%",
                "${}",
                "{}-{}",
                "{} to {}",
                "{} {}",
                "<{}",
                "{}?",
                "{}_{}",
                "+-{}",
                "--{}",
                "{}.{}",
            ),
            *(
                "~{}",
                "{} \u00b1 0.1",
                "{}\u00b10.1",
                "{}*",
                "{} (approx)",
                "approx. {}",
                "about {}",
                "\u2248{}",
                "{} +/- 1",
            ),
            *("1,{}", "{} N/A", "{} Paris", "{} O", "{}\0", "\u00ad{}", "a{}", "v{}", "2024-{}"),
        )
    ),
)
def test_what_is_not_understood_beside_a_number_refuses_it(number: str, form: str) -> None:
    cell = form.format(number, number)
    assert not isinstance(read_cells(cell, "2.5"), Coordinates)
    assert not isinstance(read_cells("2.5", cell), Coordinates)


@pytest.mark.parametrize("cell", ["N/A", "unknown", "-", "?", "null", "None", "#REF!", "TRUE", "x", "1e400", "nan"])
def test_placeholders_are_refused(cell: str) -> None:
    for pair in ((cell, cell), (cell, "2.5"), ("2.5", cell), (cell, "0")):
        assert not isinstance(read_cells(*pair), Coordinates)


@pytest.mark.parametrize(
    ("cell", "lat"),
    [
        ("\uff14\uff18.\uff18\uff15", 48.85),
        ("\u221233.9", -33.9),
        ("\u201333.9", -33.9),
        ("48:51:24", 48.856667),
        ("48\u00b051'24\"N", 48.856667),
        ("48 deg 51' 24.00\" S", -48.856667),
        ("48.85\u00b0", 48.85),
    ],
)
def test_notations_of_an_angle(cell: str, lat: float) -> None:
    assert read_cells(cell, "2.5") == Coordinates(lat, 2.5)


def test_an_angle_in_degrees_and_minutes_may_lack_its_hemisphere() -> None:
    for cell in ("33\u00b051'24\"", "33 deg 51' 24.00\"", "33.9\u00b0"):
        assert lacks_ref(Angle(cell), "lat", decimal_comma=False), cell
        assert not lacks_ref(Angle(f"{cell} S"), "lat", decimal_comma=False), cell


def test_the_letter_of_two_directions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "photo;lat;lon\n1.jpg;23.5505 S;46.6333 O\n2.jpg;45.5017 Nord;73.5673 Ouest\n3.jpg;59.9 N;10.7 Ost\n",
        encoding="utf-8",
    )
    found = list(open_table(path).rows())
    assert [(row.at.lat, row.at.lon) if isinstance(row, Row) else row.reason for row in found] == [
        "coordinates_ambiguous",
        (45.5017, -73.5673),
        (59.9, 10.7),
    ]


def test_rows_of_other_notations_decide_the_order() -> None:
    counted = OrderCount()
    for _ in range(10):
        counted.add(Angle("139\u00b041'30\" E"), Angle("35\u00b040' N"), decimal_comma=False)
    assert counted.swapped() is True
