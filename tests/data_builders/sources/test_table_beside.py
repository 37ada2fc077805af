"""Columns beside the coordinates whose names say nothing: their cells tell that a table can't be read without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_builders.sources.table_hemispheres import hemisphere_in
from data_builders.sources.tables import Row, Table, open_table
from geotune.errors import ConfigError


def table(tmp_path: Path, header: str, *lines: str, **chosen: str) -> Table:
    path = tmp_path / "t.csv"
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return open_table(path, chosen)


def places(found: Table) -> list[tuple[float, float] | str]:
    return [(row.at.lat, row.at.lon) if isinstance(row, Row) else row.reason for row in found.rows()]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("id,lat,NorS,lon,EorW", "1,33.5,S,151,W"),
        ("id,lat,,lon,", "1,33.5,S,151,W"),
        ("id,lat,Unnamed: 2,lon,Unnamed: 4", "1,33.5,S,151,W"),
        ("id,lat,Unnamed: 2,lon,Unnamed: 4", "1,33.5,-1,151,-1"),
        ("id,lat,dir1,lon,dir2", "1,33.5,S,151,W"),
        ("id,dir1,lat,dir2,lon", "1,S,33.5,W,151"),
        ("id,lat,lon,quadrant", "1,33.5,151,SW"),
        ("id,lat,lon,title,south,west", "1,33.5,151,x,1,0"),
        ("id,lat,lon,is_south,is_west", "1,33.5,151,True,True"),
        ("id,lat,lat_sgn,lon,lon_sgn", "1,33.5,-1,151,-1"),
        ("id,lat,lat_pm,lon,lon_pm", "1,33.5,-,151,-"),
        ("id,lat,lat_negative,lon", "1,33.5,1,151"),
        ("id,lat,lat_neg,lon", "1,33.5,True,151"),
        ("id,lat,lath,lon,lonh", "1,33.5,S,151,W"),
        ("id,lat,lat_h,lon,lon_h", "1,33.5,\u5357,151,\u897f"),
        ("id,lat,lat_h,lon,lon_h", "1,33.5,Southern Hemisphere,151,Western Hemisphere"),
        ("id,lat,lat_h,lon,lon_h", "1,33.5,South latitude,151,West longitude"),
        ("id,lat,lat_h,lon,lon_h", "1,33.5,b'S',151,b'W'"),
    ],
)
@pytest.mark.parametrize("odd", ["", "N/A", "?", "x"])
def test_signs_of_their_own_are_asked_about(tmp_path: Path, header: str, line: str, odd: str) -> None:
    names, cells = header.split(","), line.split(",")
    other = ["2", *("" if name in ("lat", "lon") else cell for name, cell in zip(names[1:], cells[1:], strict=True))]
    if odd and any(name.startswith("lat_h") for name in names):  # a cell that is no hemisphere disarms nothing
        other = ["2", "", odd, "", odd]
    with pytest.raises(ConfigError, match=r"looks like the (hemisphere|sign) of the lat.*columns\.lat=lat"):
        table(tmp_path, header, line, ",".join(other))
    assert places(table(tmp_path, header, line, lat="lat", lon="lon")) == [(33.5, 151)]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("id,deg_lat,min_lat,deg_lon,min_lon", "1,48,51,2,17"),
        ("id,lat_dd,lat_mm,lat_ss,lon_dd,lon_mm,lon_ss", "1,48,51,30,2,17,40"),
        ("id,lat_deg,lat_mm,lon_deg,lon_mm", "1,48,51,2,17"),
        ("id,lat_deg,lat_arcminutes,lon_deg,lon_arcminutes", "1,48,51,2,17"),
        ("id,lat_deg,lat_dm,lon_deg,lon_dm", "1,48,51.4,2,17.5"),
        ("id,Lat Deg,Min,Sec,Lon Deg,Min,Sec", "1,48,51,30,2,17,40"),
        ("id,Latitude,Minutes,Longitude,Minutes.1", "1,48,51,2,17"),
        ("id,lat,latm,lon,lonm", "1,48,51,2,17"),
        ("id,lat,lat_primes,lon,lon_primes", "1,48,51,2,17"),
        ("id,latitude,latitude_1,longitude,longitude_1", "1,48,51,2,17"),
        ("id,lat,lat_decimals,lon,lon_decimals", "1,48,858,2,294"),
        ("id,lat,a,lon,b", "1,48,51,2,17"),
        ("id,lat_grados,lat_minutos,lon_grados,lon_minutos", "1,48,51,2,17"),
    ],
)
def test_whole_degrees_beside_unknown_numbers_are_asked_about(tmp_path: Path, header: str, line: str) -> None:
    with pytest.raises(ConfigError, match=r"whole degrees, and the column .* looks like minutes .*columns\.lat_min="):
        table(tmp_path, header, line)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("id,lat,lon,min_lat,min_lon", "1,48.5,2.5,48,2"),
        ("id,lat,lon,min_lat,max_lat", "1,48,2,47,49"),
        ("id,lat,lon,lat_bin,lon_bin", "1,48,2,12,7"),
        ("id,lat,lon,pred_lat,pred_lon", "1,48,2,47,3"),
        ("id,lat,lon,altitude", "1,48,2,35"),
        ("id,lat,lon,region", "1,48,2,North"),
        ("id,lat,lon,country_code", "1,48,2,SE"),
        ("id,lat,lon,north,south,east,west", "1,48.1,2.1,48.2,48,2.2,2"),
        ("id,lat,lon,note", "1,48.5,2.5,-"),
        ("id,lat,lon,valid", "1,48.5,2.5,True"),
        ("id,lat,lon,class", "1,48.5,2.5,1"),
        ("id,lat,lon,ns", "1,48.5,2.5,123"),
        ("id,lat,lat_note,lon", "1,48.5,beside the river,2.5"),
    ],
)
def test_other_columns_are_no_question(tmp_path: Path, header: str, line: str) -> None:
    (at,) = places(table(tmp_path, header, line))
    assert at in ((48, 2), (48.5, 2.5), (48.1, 2.1))


@given(
    st.sampled_from([("S", "N"), ("South", "N"), ("W", "E"), ("Western", "Eastern"), ("Ouest", "Est")]),
    st.lists(st.booleans(), min_size=1, max_size=30).filter(any),
)
def test_a_hemisphere_of_no_axis_is_that_which_its_cells_name(
    tmp_path_factory: pytest.TempPathFactory, words: tuple[str, str], rows: list[bool]
) -> None:
    lines = [f"{i},30.5,70.25,{words[not negative]}" for i, negative in enumerate(rows)]
    found = table(tmp_path_factory.mktemp("t"), "id,lat,lon,hemisphere", *lines)
    signs = [-1 if negative else 1 for negative in rows]
    lat = words[0] in ("S", "South")
    assert places(found) == [(30.5 * (sign if lat else 1), 70.25 * (1 if lat else sign)) for sign in signs]


def test_signed_coordinates_agree_with_their_hemisphere(tmp_path: Path) -> None:
    lines = "1,30.5,-70.25,Western", "2,31.5,-71.25,Western"
    assert places(table(tmp_path, "id,lat,lon,hemisphere", *lines)) == [(30.5, -70.25), (31.5, -71.25)]


@pytest.mark.parametrize("cells", [("N", "W"), ("NW", "SW"), ("1", "0"), ("upper", "lower")])
def test_a_hemisphere_whose_axis_is_not_told_is_refused(tmp_path: Path, cells: tuple[str, str]) -> None:
    lines = [f"{i},30.5,70.25,{cell}" for i, cell in enumerate(cells)]
    with pytest.raises(ConfigError, match=r"do not tell whose hemisphere it is.*columns.lat_ref=hemisphere"):
        table(tmp_path, "id,lat,lon,hemisphere", *lines)
    assert places(table(tmp_path, "id,lat,lon,hemisphere", *lines, lat="lat", lon="lon")) == [(30.5, 70.25)] * 2


def test_hemispheres_of_the_other_axis_reject_their_rows(tmp_path: Path) -> None:
    lines = [f"{i},30.5,E,70.25,S" for i in range(20)]
    assert set(places(table(tmp_path, "id,lat,lat_ref,lon,lon_ref", *lines))) == {"coordinates_ambiguous"}


@pytest.mark.parametrize(
    ("cell", "letter"),
    [
        *(("S", "S"), ("s.", "S"), ("South", "S"), ("southern", "S"), ("S\\x00", "S"), ("['S']", "S"), ("Ost", "E")),
        *(("West longitude", "W"), ("S (South)", "S"), ("\u5357", "S"), ("\u4e1c\u7ecf", "E"), ("o", "O")),
        *(("not S", None), ("N or S", None), ("S1", None), ("Paris", None), ("", None), ("N/S", None)),
    ],
)
def test_hemispheres_in_cells(cell: str, letter: str | None) -> None:
    assert hemisphere_in(cell) == letter


@pytest.mark.parametrize(
    "cell",
    ["[33, 51, 24]", "(33.0, 51.0, 24.0)", "33/1, 51/1, 2400/100", "33; 51; 24", "[33, 51.4, 0]", "(33, 51, 24/1)"],
)
@pytest.mark.parametrize(
    ("lat_ref", "lon_ref"), [("S", "E"), ("b'S'", "b'E'"), ("S\\x00", "E\\x00"), ("\u5357", "\u4e1c")]
)
def test_values_as_python_prints_them_have_a_hemisphere(tmp_path: Path, cell: str, lat_ref: str, lon_ref: str) -> None:
    header = "file,GPSLatitudeRef,GPSLatitude,GPSLongitudeRef,GPSLongitude"
    found = table(tmp_path, header, f'a.jpg,{lat_ref},"{cell}",{lon_ref},"{cell}"')
    assert places(found) == [(-33.856667, 33.856667)]
    for broken in (f"{cell[:-1]}9/0", f"{cell}, 1", f"[{cell}"):
        (at,) = places(table(tmp_path, header, f'a.jpg,{lat_ref},"{broken}",{lon_ref},"{cell}"'))
        assert isinstance(at, str)
    (alone,) = places(table(tmp_path, "file,lat,lon", f'a.jpg,"{cell}","{cell}"'))
    assert isinstance(alone, str)


def test_a_placeholder_for_a_hemisphere_is_none(tmp_path: Path) -> None:
    lines = "1,33.5,S,151,W", "2,-33.6,N/A,-151,unknown", "3,33.6,N/A,-151,", "4,33.6,-,151,E"
    found = places(table(tmp_path, "id,lat,lat_ref,lon,lon_ref", *lines))
    assert found == [(-33.5, -151), (-33.6, -151), "coordinates_ambiguous", "coordinates_ambiguous"]
