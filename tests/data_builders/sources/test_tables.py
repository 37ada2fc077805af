from __future__ import annotations

import logging
from pathlib import Path

import pytest

from data_builders.sources.tables import Row, Table, open_table, read_cells
from geotune.errors import ConfigError
from geotune.tasks.coordinates import CoordinateError, Coordinates


def table(tmp_path: Path, text: str | bytes, **columns: str) -> Table:
    path = tmp_path / "photos, (1).csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_table(path, columns)


def rows(table: Table) -> dict[str, tuple[float, float] | str]:
    """Coordinates by id, or the reason why there are none."""
    return {
        row.id if isinstance(row, Row) else row.record_id: (row.at.lat, row.at.lon)
        if isinstance(row, Row)
        else row.reason
        for row in table.rows()
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_byte_order_marks(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = ["id", "Latitude", "Longitude", "City"], ["007", "48.85", "2.35", "Orléans"], ["1e5", "-33.9", "18.4", ""]
    text = "".join(delimiter.join(line) + "\r\n" for line in lines)
    found = table(tmp_path, text.encode(encoding))
    assert (found.delimiter, found.n_rows) == (delimiter, 2)
    assert rows(found) == {"007": (48.85, 2.35), "1e5": (-33.9, 18.4)}
    assert [row.names for row in found.rows() if isinstance(row, Row)] == [{"city": "Orléans"}, {}]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("IMG_ID,AUTHOR,LAT,LON,S3_Label", {"id": "IMG_ID", "lat": "LAT", "lon": "LON"}),
        ("image_id,url,city,country,continent,latitude,longitude,img_path", {"id": "image_id", "image": "img_path"}),
        ("id,latitude,longitude,thumb_original_url,country,lon_bin,lat_bin", {"id": "id", "lat": "latitude"}),
        ("image_id,pred_lat,pred_lon,true_lat,true_lon", {"lat": "true_lat", "lon": "true_lon"}),
        ("file name;lng;lat", {"image": "file name", "lon": "lng", "lat": "lat"}),
    ],
)
def test_published_headers_are_understood(tmp_path: Path, header: str, columns: dict[str, str]) -> None:
    delimiter = ";" if ";" in header else ","
    found = table(tmp_path, f"{header}\n" + delimiter.join("1" for _ in header.split(delimiter)) + "\n")
    assert columns.items() <= found.columns.items()


def test_each_bad_row_says_why_and_none_is_filled_in(tmp_path: Path) -> None:
    text = """id,lat,lon,city
ok,1.5,2.5,a
pole,90,0,
antimeridian,-18.1,180.0,
empty,,,b
half,3.5,,
island,0,0,Unknown
words,N/A,N/A,
far,91,2,
nan,nan,2,
ok,7,8,twice
,7,8,

degrees,48°51'24"N,2°21'03"E,
"""
    text = text.replace("48°51'24\"N", '"48°51\'24""N"').replace("2°21'03\"E", '"2°21\'03""E"')
    found = table(tmp_path, text + "cut,1\nshifted,Paris, France,48.8,2.3\n")
    assert found.n_rows == 14
    result = [(r.id, "") if isinstance(r, Row) else (r.record_id, r.reason) for r in found.rows()]
    name = found.path.name
    assert result == [
        ("ok", ""),
        ("pole", ""),
        ("antimeridian", ""),
        ("empty", "coordinates_missing"),
        ("half", "coordinates_incomplete"),
        ("island", "coordinates_null_island"),
        ("words", "coordinates_missing"),
        ("far", "coordinates_out_of_range"),
        ("nan", "coordinates_not_a_number"),
        ("ok", "duplicate_id"),
        (f"{name}:12", "no_id"),
        ("degrees", ""),
        (f"{name}:15", "wrong_cell_count"),
        (f"{name}:16", "wrong_cell_count"),
    ]
    assert rows(found)["degrees"] == (48.856667, 2.350833)


def test_decimal_commas_only_where_commas_part_nothing() -> None:
    assert read_cells("48,85", "-2,5", decimal_comma=True) == Coordinates(48.85, -2.5)
    assert not isinstance(read_cells("48,85", "2,5,1", decimal_comma=True), Coordinates)
    assert read_cells("1_0", "2") != Coordinates(10, 2)
    assert read_cells("1e-5", "-0.00001") == Coordinates(0.00001, -0.00001)
    assert read_cells("inf", "2") in (CoordinateError.not_a_number, CoordinateError.out_of_range)


SWAPPED = "IMG_ID,LAT,LON\n" + "".join(f"p{i},{-120 + i},{40 + i / 10}\n" for i in range(40))


def test_swapped_headers_are_found_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = table(tmp_path, SWAPPED)
    assert "LAT and LON are swapped" in caplog.text
    assert found.summary()["swapped_headers"] is True
    assert rows(found)["p3"] == (40.3, -117)
    assert len([at for at in rows(found).values() if isinstance(at, tuple)]) == 40


@pytest.mark.parametrize(
    "text",
    [
        # One slip among many rows, all of which would be legal either way round.
        "id,lat,lon\nslip,95,3\n" + "".join(f"p{i},{40 + i},{i}\n" for i in range(40)),
        # Rows that are legal one way only, of both kinds: no single mistake of the header.
        "id,lat,lon\nslip,95,3\np1,40,-120\n",
    ],
)
def test_slips_of_single_rows_swap_nothing(tmp_path: Path, text: str) -> None:
    found = table(tmp_path, text)
    assert not found.swapped
    assert rows(found)["slip"] == "coordinates_out_of_range"


def test_columns_by_name_settle_it(tmp_path: Path) -> None:
    named = table(tmp_path, SWAPPED, lat="LAT", lon="LON")
    assert rows(named)["p3"] == "coordinates_out_of_range"
    right = table(tmp_path, "a,b,c\n1,2,3\n", id="a", lat="c", lon="b")
    assert rows(right) == {"1": (3, 2)}


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        (b"id,lat,lon\n1,2,3\nM\xfcnchen,2,3\n", {}, "line 3 is not UTF-8 (byte 0xfc at 2)"),
        (b'id,lat,lon\n1,2,3\n"open,2,3\n', {}, "can't be read as CSV"),
        (b"id,lat,lon\n", {}, "no row below the header"),
        (b"", {}, "no column looks like the lat"),
        (b"id,north,lon\n1,2,3\n", {}, "columns.lat=<name>"),
        (b"who,lat,lon\n1,2,3\n", {}, "columns.id=<name>"),
        (b"id,lat,lat,lon\n1,2,3,4\n", {}, "(its lat) twice"),
        (b"id,lat,lon\n1,2,3\n", {"lat": "y"}, "columns.lat=y"),
        (b"id,lat,lon\n1,2,3\n", {"latitude": "lat"}, "columns.latitude=lat"),
    ],
)
def test_tables_that_cannot_be_read_say_why(tmp_path: Path, text: bytes, columns: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        table(tmp_path, text, **columns)
    assert said in str(error.value)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"csv=.*can't be read"):
        open_table(tmp_path / "none.csv")
