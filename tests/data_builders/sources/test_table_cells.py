"""The cells of a row: read wholly or not at all; and the order of the two columns."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_builders.sources.table_cells import (
    FEW_SHARE,
    MIN_DECIDABLE,
    Angle,
    OrderCount,
    lacks_ref,
    read_angles,
    read_cells,
    same_place,
    why_not,
)
from data_builders.sources.table_files import INVISIBLE
from geotune.tasks.coordinates import CoordinateError, Coordinates

latitudes = st.integers(-89_999, 89_999).filter(bool).map(lambda value: value / 1000)
longitudes = st.integers(-179_999, 179_999).filter(bool).map(lambda value: value / 1000)


@given(latitudes, longitudes, st.sampled_from(["", "0", "000", "e0"]), st.text(f" \t\u00a0{INVISIBLE}", max_size=3))
def test_numbers_are_read_in_every_spelling(lat: float, lon: float, end: str, around: str) -> None:
    at = Coordinates(lat, lon)
    assert read_cells(f"{around}{lat}{end}", f"{lon:+}{end}{around}") == at
    assert read_cells(f"{lat}".replace(".", ","), f"{lon}".replace(".", ","), decimal_comma=True) == at
    for hemisphere, sign in (("N", 1), ("S", -1)):
        assert read_cells(f"{abs(lat)}", f"{lon}", hemisphere) == Coordinates(sign * abs(lat), lon)
    for hemisphere, sign in (("E", 1), ("W", -1)):
        assert read_cells(f"{lat}", f"{abs(lon)}", "", hemisphere) == Coordinates(lat, sign * abs(lon))


@given(latitudes, longitudes)
def test_a_hemisphere_that_contradicts_its_coordinate_is_refused(lat: float, lon: float) -> None:
    assert not isinstance(read_cells(f"{-abs(lat)}", f"{lon}", "N"), Coordinates)
    assert not isinstance(read_cells(f"+{abs(lat)}", f"{lon}", "S"), Coordinates)
    assert not isinstance(read_cells(f"{lat}", f"{abs(lon)}", "", "N"), Coordinates)
    assert not isinstance(read_cells(f"{abs(lat)}", f"{lon}", "E"), Coordinates)
    assert not isinstance(read_cells(f"{lat}", f"{abs(lon)}", "5", "E"), Coordinates)
    assert read_cells(f"{-abs(lat)}", f"{lon}", "S") == Coordinates(-abs(lat), lon)


@pytest.mark.parametrize(
    "cell",
    ["1e400", "+-5", "--5", "4851.40", "0051.40", "5,1", "48.8.5", "inf", "nan", "", "-", "5 to 6"],
)
def test_cells_that_are_no_one_number_are_refused(cell: str) -> None:
    assert not isinstance(read_cells(cell, "2.5"), Coordinates)
    assert not isinstance(read_cells("2.5", cell), Coordinates)


def angle(degrees: str, minutes: str = "", seconds: str = "", ref: str = "") -> Angle:
    return Angle(degrees, ref, minutes, seconds)


@given(st.integers(0, 89), st.integers(0, 59), st.integers(0, 599), st.booleans())
def test_degrees_minutes_and_seconds_of_their_own(degrees: int, minutes: int, tenths: int, south: bool) -> None:
    assume(degrees or minutes or tenths)
    size = degrees + minutes / 60 + tenths / 36000
    at = Coordinates(pytest.approx(-size if south else size, abs=1e-6), pytest.approx(2.5, abs=1e-6))  # type: ignore[arg-type]
    whole, minute, second = str(degrees), str(minutes), str(tenths / 10)
    east = angle("2", "30", "0")
    referred = angle(whole, minute, second, "S" if south else "N")
    assert read_angles(referred, east, decimal_comma=False) == at
    assert read_angles(angle("-" * south + whole, minute, second), east, decimal_comma=False) == at


@pytest.mark.parametrize(
    "cells",
    [("48.5", "51", "24"), ("48", "51.5", "24"), ("48", "", "24"), ("48", "", ""), ("48", "61", "1"), ("48", "x", "")],
)
def test_parts_that_do_not_fit_together_are_refused(cells: tuple[str, str, str]) -> None:
    assert not isinstance(read_angles(angle(*cells), angle("2", "30"), decimal_comma=False), Coordinates)


def test_whole_minutes_of_a_column_of_floats_are_whole() -> None:
    floats = angle("48.0", "51.0", "30.24"), angle("2.0", "17.0", "40.0")
    assert read_angles(*floats, decimal_comma=False) == Coordinates(48.8584, 2.294444)


def test_whole_coordinates_may_stand_among_divided_ones() -> None:
    assert read_angles(angle("48.8584"), angle("2", "30"), decimal_comma=False) == Coordinates(48.8584, 2.5)


def test_a_missing_hemisphere_is_told_from_a_sign() -> None:
    for cell, lacks in (("33.9", True), ("-33.9", False), ("+33.9", False), ("0", False), ("33.9 S", False)):
        assert lacks_ref(Angle(cell), "lat", decimal_comma=False) is lacks, cell
    assert lacks_ref(angle("33", "54"), "lat", decimal_comma=False)
    assert not lacks_ref(angle("-33", "54"), "lat", decimal_comma=False)
    assert not lacks_ref(Angle("18.4 W"), "lon", decimal_comma=False)


def test_the_cell_that_is_not_understood_is_named() -> None:
    assert why_not(Angle("95"), Angle("2"), decimal_comma=False) == "the latitude is out_of_range"
    assert why_not(Angle("Paris"), Angle("2"), decimal_comma=False) == "the latitude is no coordinate"
    assert why_not(Angle("48"), Angle(""), decimal_comma=False) == "the longitude is missing"
    assert why_not(Angle("0"), Angle("0"), decimal_comma=False) == ""


def test_two_columns_of_one_place_agree_up_to_rounding() -> None:
    precise = Angle("48.8584"), Angle("2.2945")
    for lat, lon, same in (
        ("48.86", "2.29", True),
        ("48.87", "2.29", False),
        ("", "", None),
        ("48.85840", "362", None),
    ):
        assert same_place(precise, (Angle(lat), Angle(lon)), decimal_comma=False) is same
    assert same_place((Angle("1"), Angle("180")), (Angle("1"), Angle("-180")), decimal_comma=False)


def count(*, labelled: int = 0, exchanged: int = 0, either: int = 0) -> OrderCount:
    counted = OrderCount()
    for lat, lon, times in (("40", "-120", labelled), ("-120", "40", exchanged), ("40", "20", either)):
        for number in range(times):
            counted.add(Angle(f"{lat}.{number}"), Angle(lon), decimal_comma=False)
    return counted


@given(st.integers(0, 3000), st.integers(MIN_DECIDABLE, 60))
def test_enough_rows_of_one_mind_swap_the_headers(either: int, exchanged: int) -> None:
    share = exchanged / (exchanged + either)
    assert count(exchanged=exchanged, either=either).swapped() is (True if share > FEW_SHARE else None)


@given(st.integers(1, 60), st.integers(0, 3000))
def test_copies_of_one_mistake_swap_nothing(copies: int, more: int) -> None:
    counted = count(either=copies + more)
    for _ in range(copies):
        counted.add(Angle("99"), Angle("9"), decimal_comma=False)
    assert counted.swapped() is False


@given(st.sampled_from("NSEW"), st.sampled_from("NSEW"), st.integers(1, 60))
def test_hemispheres_of_their_own_do_not_tell_the_order(first: str, second: str, rows: int) -> None:
    counted = OrderCount()
    for number in range(rows):
        counted.add(Angle(f"30.{number}", first), Angle("70.25", second), decimal_comma=False)
    assert (counted.as_labelled, counted.exchanged, counted.swapped()) == (0, 0, False)


@given(st.integers(2, 9))
def test_a_small_table_is_swapped_if_all_its_rows_say_so(rows: int) -> None:
    assert count(exchanged=rows).swapped() is True
    assert count(exchanged=rows, labelled=1).swapped() is not True


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 2))
def test_a_mistyped_row_swaps_nothing(labelled: int, either: int, slips: int) -> None:
    assert count(labelled=labelled, either=either + 2 * slips, exchanged=slips).swapped() is False


@pytest.mark.parametrize(
    ("counted", "swapped"),
    [
        (count(labelled=100, exchanged=100), None),
        (count(labelled=100, exchanged=10), None),
        (count(labelled=1000, exchanged=20), False),
        (count(labelled=2, exchanged=100), True),
        (count(exchanged=4, either=8), None),
        (count(exchanged=9, either=991), False),
        (count(exchanged=1), None),
        (count(either=100), False),
        (OrderCount(rows=100_000, exchanged=20, places={(f"{i}", "") for i in range(10)}), False),
        (count(exchanged=10, either=990), None),
    ],
)
def test_the_decidable_rows_decide(counted: OrderCount, swapped: bool | None) -> None:
    assert counted.swapped() is swapped


@pytest.mark.parametrize(
    ("lat", "lon"), [(Angle("139.7 E"), Angle("35.66 N")), (Angle("139\u00b041'30\""), Angle("35\u00b040'"))]
)
def test_rows_of_every_notation_decide(lat: Angle, lon: Angle) -> None:
    counted = OrderCount()
    counted.add(lat, lon, decimal_comma=False)
    assert (counted.as_labelled, counted.exchanged) == (0, 1)
    counted.add(lon, lat, decimal_comma=False)
    assert (counted.as_labelled, counted.exchanged, counted.rows) == (1, 1, 2)


def test_cells_that_state_nothing_are_missing() -> None:
    assert read_cells("", " \u200e") == CoordinateError.missing
    assert read_cells("48", "") == CoordinateError.incomplete
