from __future__ import annotations

import logging
from pathlib import Path

import pytest

from data_builders.sources.table_cells import read_cells
from data_builders.sources.tables import Row, Table, open_table
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
    assert (found.file.delimiter, found.n_rows) == (delimiter, 2)
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
    assert columns.items() <= found.columns.roles().items()


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
    name = found.file.path.name
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


def test_few_decidable_rows_that_agree_refuse_a_table_of_one_region(tmp_path: Path) -> None:
    near = "".join(f"p{i},{2 + i / 1000},{40 + i / 1000}\n" for i in range(1300))
    far = "".join(f"far{i},{139 - i},{35 + i}\n" for i in range(12))
    with pytest.raises(ConfigError) as error:
        table(tmp_path, f"IMG_ID,LAT,LON\n{near}{far}")
    assert "the rows do not tell whether the headers LAT and LON are swapped" in str(error.value)
    assert "of 1,312 rows with coordinates, 12 are legal only with the columns exchanged" in str(error.value)
    found = table(tmp_path, f"IMG_ID,LAT,LON\n{near}{far}", lat="LON", lon="LAT")
    assert rows(found)["p3"] == (40.003, 2.003)
    assert found.summary()["rows_legal_only_exchanged"] == 0


def test_a_placeholder_out_of_range_swaps_nothing(tmp_path: Path) -> None:
    near = "".join(f"p{i},{45 + i / 1000},{2 + i / 1000}\n" for i in range(990))
    found = table(tmp_path, "id,lat,lon\n" + near + "".join(f"none{i},99,9\n" for i in range(10)))
    assert rows(found)["p3"] == (45.003, 2.003)
    assert rows(found)["none3"] == "coordinates_out_of_range"


def test_slips_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = table(tmp_path, "id,lat,lon\nslip,95,3\n" + "".join(f"p{i},{40 + i},{i}\n" for i in range(40)))
    assert rows(found)["p1"] == (41, 1)
    assert "1 are legal only with the columns exchanged" in caplog.text


def test_rows_that_contradict_each_other_refuse_the_table(tmp_path: Path) -> None:
    text = "id,lat,lon\n" + "".join(f"a{i},{i},120\nb{i},120,{i}\n" for i in range(1, 20))
    with pytest.raises(ConfigError, match=r"of 38 rows .* 19 .* and 19 .*columns.lat=lat columns.lon=lon") as error:
        table(tmp_path, text)
    assert "columns.lat=lon columns.lon=lat" in str(error.value)
    assert rows(table(tmp_path, text, lat="lon", lon="lat"))["b3"] == (3, 120)


def test_hemispheres_in_columns_of_their_own(tmp_path: Path) -> None:
    text = """SourceFile,GPSLatitude,GPSLatitudeRef,GPSLongitude,GPSLongitudeRef
a.jpg,33.9,S,151.2,E
b.jpg,-33.9,S,70.6,w
signed.jpg,-33.9,,-70.6,
unsigned.jpg,33.9,,70.6,W
contrary.jpg,-33.9,N,70.6,W
wrong.jpg,33.9,E,70.6,W
equator.jpg,0,,70.6,W
"""
    found = table(tmp_path, text)
    assert rows(found) == {
        "a": (-33.9, 151.2),
        "b": (-33.9, -70.6),
        "signed": (-33.9, -70.6),
        "unsigned": "coordinates_ambiguous",
        "contrary": "coordinates_ambiguous",
        "wrong": "coordinates_ambiguous",
        "equator": (0, -70.6),
    }
    details = {each.record_id: each.detail for each in found.rows() if not isinstance(each, Row)}
    assert "its 'GPSLatitudeRef' is empty" in details["unsigned"]
    assert "the latitude is ambiguous" in details["wrong"]


def test_a_column_of_hemispheres_that_is_empty_everywhere_says_nothing(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "id,lat,lat_ref,lon,lon_ref\n1,-33.9,,151.2,\n2,33.9,,-70.6,\n")) == {
        "1": (-33.9, 151.2),
        "2": (33.9, -70.6),
    }


@pytest.mark.parametrize("name", ["lat_h", "LatHalf", "lat letter", "which lat"])
def test_a_column_that_holds_hemispheres_under_another_name_is_asked_about(tmp_path: Path, name: str) -> None:
    text = f"id,lat,{name},lon\n1,33.9,S,151.2\n2,48.85,,2.35\n3,48.85,North,2.35\n"
    with pytest.raises(ConfigError, match=f"columns.lat_ref={name}, or give columns.lat=lat"):
        table(tmp_path, text)
    assert rows(table(tmp_path, text, lat_ref=name))["1"] == (-33.9, 151.2)
    assert rows(table(tmp_path, text, lat="lat"))["1"] == (33.9, 151.2)
    for odd in ("7", "?", "N/A", "Southern Hemisphere"):
        with pytest.raises(ConfigError, match=f"columns.lat_ref={name}"):
            table(tmp_path, f"{text}4,,{odd},\n")
    assert rows(table(tmp_path, text.replace("S", "").replace("North", "")))["1"] == (33.9, 151.2)


def test_hemispheres_go_with_their_column_when_headers_are_swapped(tmp_path: Path) -> None:
    text = "id,lat,lat_ref,lon,lon_ref\n" + "".join(f"p{i},{120 + i},W,{30 + i},S\n" for i in range(12))
    found = table(tmp_path, text)
    assert found.swapped
    assert rows(found)["p2"] == (-32, -122)


def test_degrees_minutes_and_seconds_in_columns_of_their_own(tmp_path: Path) -> None:
    text = """id;lat_deg;lat_min;lat_sec;lat_dir;lon_deg;lon_min;lon_sec;lon_dir
a;33;51;24,6;S;151;12;40;E
b;33;51;;S;151;12;;E
cut;33;;;S;151;12;40;E
"""
    assert rows(table(tmp_path, text)) == {
        "a": (-33.856833, 151.211111),
        "b": (-33.85, 151.2),
        "cut": "coordinates_ambiguous",
    }


def test_two_columns_that_look_like_one_coordinate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    header = "id,lat,lon,gt_lat,gt_long\n"
    with caplog.at_level(logging.WARNING):
        found = table(tmp_path, f"{header}1,48.86,2.29,48.8584,2.2945\n2,,,10,20\n")
    assert rows(found) == {"1": (48.86, 2.29), "2": "coordinates_missing"}
    assert "lat and lon; gt_lat and gt_long" in caplog.text
    with pytest.raises(ConfigError, match=r"in 1 of 2 rows they differ") as error:
        table(tmp_path, f"{header}1,48.86,2.29,48.8584,2.2945\n2,10,20,10,21\n")
    assert "columns.lat=gt_lat columns.lon=gt_long" in str(error.value)
    found = table(tmp_path, f"{header}1,48,2,49,3\n", lat="gt_lat", lon="gt_long")
    assert rows(found) == {"1": (49, 3)}


def test_coordinates_of_another_datum_are_refused(tmp_path: Path) -> None:
    names = {
        "WGS84": True,
        "WGS 84": True,
        "EPSG:4326": True,
        "World Geodetic System 1984": True,
        "urn:ogc:def:crs:OGC:1.3:CRS84": True,
        "EPSG:4326 (WGS84)": True,
        "not recorded": True,
        "": True,
        "NAD83": True,
        "ETRS89": True,
        "EPSG:4269": True,
        "EPSG:4258": True,
        "GPS": True,
        "-": True,
        "nan": True,
        "2021-05-01": True,
        "TOKYO": False,
        "not WGS84": False,
        "GCJ-02 (not WGS84)": False,
        "NAD27 to WGS84": False,
        "EPSG:32631 from 4326": False,
        "WGS84 / UTM zone 31N": False,
        "NAD27": False,
        "GCJ-02": False,
        "BD-09": False,
        "EPSG:3857": False,
        "EPSG:43260": False,
    }
    text = "".join(f"{number},48.5,2.5,{name}\n" for number, name in enumerate(names))
    for column in ("geodeticDatum", "GPSMapDatum", "EXIF:GPSMapDatum", "crs", "srid", "EPSG code", "datum"):
        found = rows(table(tmp_path, f"id,decimalLatitude,decimalLongitude,{column}\n{text}"))
        assert [at == (48.5, 2.5) for at in found.values()] == list(names.values())
        assert set(found.values()) == {(48.5, 2.5), "coordinates_other_datum"}
    both = "id,lat,lon,datum,srid\n1,48.5,2.5,WGS84,3857\n2,48.5,2.5,WGS84,4326\n"
    assert rows(table(tmp_path, both)) == {"1": "coordinates_other_datum", "2": (48.5, 2.5)}


def test_invisible_characters_in_headers_and_cells(tmp_path: Path) -> None:
    text = "\ufeff\ufeffid,\u200elat, lon\n\u200e1,\u200e48.5,\u00a02.5\u200f\n2,\u00ad48.5,2.5\n"
    found = rows(table(tmp_path, text))
    assert found["1"] == (48.5, 2.5)
    assert isinstance(found["2"], str), "a soft hyphen may be what is left of a minus"


def test_columns_by_name_settle_it(tmp_path: Path) -> None:
    named = table(tmp_path, SWAPPED, lat="LAT", lon="LON")
    assert rows(named)["p3"] == "coordinates_out_of_range"
    right = table(tmp_path, "a,b,c\n1,2,3\n", id="a", lat="c", lon="b")
    assert rows(right) == {"1": (3, 2)}


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        (b"id,lat,lon\n1,2,3\nM\xfcnchen,2,3\n", {}, "line 3 is not UTF-8 (byte 0xfc at 2)"),
        (b'id,lat,lon\n1,2,3\n"open,2,3\n', {}, "can't be read as CSV (line 3:"),
        (b"id,lat,lon\n", {}, "no row below the header"),
        (b"", {}, "this file is empty"),
        (b"id|lat|lon\n1|2|3\n", {}, "separate the cells by commas, semicolons or tabs"),
        (b"# exported\nid,lat,lon\n1,2,3\n", {}, "separate the cells by commas, semicolons or tabs"),
        (b"1.jpg,48.5,2.5\n2.jpg,48.6,2.6\n", {}, "the first line holds numbers, so this table has no header"),
        (b"1.jpg,48.5,2.5\n2.jpg,48.6,2.6\n", {"lat": "48.5", "lon": "2.5", "id": "1.jpg"}, "has no header"),
        (b"id,lat_rad,lon_rad\n1,2,3\n", {}, "lat_rad is not read as one: radians"),
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


def test_a_builder_without_the_key_columns_does_not_name_it(tmp_path: Path) -> None:
    (tmp_path / "dataset1_info.csv").write_text("id,north,lon\n1,2,3\n")
    with pytest.raises(ConfigError, match="no column looks like the lat; correct the table") as error:
        open_table(tmp_path / "dataset1_info.csv", key="root")
    assert "columns." not in str(error.value)


def test_without_an_id_column_a_photo_is_named_by_its_path_where_its_name_is_shared(tmp_path: Path) -> None:
    lines = "a/1.jpg,1,2", "b/1.jpg,3,4", "c/2.jpg,5,6", "3.jpg,7,8", "3.png,9,10", "c/2.jpg,5,6"
    found = table(tmp_path, "SourceFile,FileName,lat,lon\n" + "".join(f"{x.replace(',', ',_,', 1)}\n" for x in lines))
    seen = [(row.id, row.shared_name) if isinstance(row, Row) else (row.record_id, row.reason) for row in found.rows()]
    assert seen == [
        ("a/1.jpg", True),
        ("b/1.jpg", True),
        ("2", False),
        ("3.jpg", True),
        ("3.png", True),
        ("2", "duplicate_id"),
    ]


def test_one_photo_has_one_row(tmp_path: Path) -> None:
    found = table(tmp_path, "id,file,lat,lon\n1,a.jpg,1,2\n2,a.jpg,3,4\n3,b.jpg,5,6\n")
    assert rows(found) == {"1": (1, 2), "2": "duplicate_image", "3": (5, 6)}
