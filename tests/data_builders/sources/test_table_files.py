"""Files that are given as tables: what is no CSV file is called what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import zipfile
from pathlib import Path

import pytest

from data_builders.sources.table_files import read_table
from geotune.errors import ConfigError

CSV = "id,lat,lon,city\n" + "".join(f"{i},4{i}.5,2.25,Orléans\n" for i in range(10))


def archive(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name), content)  # without the time, which would be in the tests' names
    return buffer.getvalue()


def database(path: Path) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("create table photos (id text, lat real, lon real)")
    return path.read_bytes()


ODS = b"application/vnd.oasis.opendocument.spreadsheet"
KINDS: list[tuple[bytes, str, str]] = [
    (archive(**{"xl/workbook.xml": b"<x/>" * 400}), "Excel workbook", "export"),
    (archive(mimetype=ODS, **{"content.xml": b"<x/>"}), "OpenDocument spreadsheet", "export"),
    (archive(**{"Index/Document.iwa": b"x"}), "Numbers spreadsheet", "export"),
    (archive(**{"word/document.xml": b"x"}), "text document", "export"),
    (archive(**{"photos.csv": CSV.encode()}), "zip archive", "unpack"),
    (archive(**{"xl/workbook.xml": b"<x/>"})[:40], "damaged", "unpack"),
    (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "Excel workbook", "export"),
    (gzip.compress(CSV.encode(), mtime=0), "gzip", "unpack"),
    (bz2.compress(CSV.encode()), "bzip2", "unpack"),
    (lzma.compress(CSV.encode()), "compressed (xz)", "unpack"),
    (b"PAR1\x15\x04" + bytes(60), "Parquet", "pandas"),
    (b"ARROW1\0\0" + bytes(60), "Arrow", "pandas"),
    (b"%PDF-1.7\n%\xe2\xe3", "PDF", "CSV file itself"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG", "CSV file itself"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
    (b"\n<!DOCTYPE html>\n<html><body><table><tr><td>id", "HTML", "download the CSV file itself"),
    (b'<html xmlns:x="urn:schemas-microsoft-com:office:excel"><table>', "Excel workbook", "export"),
    (b'\xef\xbb\xbf<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2">', "KML", "pandas"),
    (b'<?xml version="1.0"?><gpx version="1.1">', "GPX", "pandas"),
    (b'[\n {"id": 1, "lat": 2, "lon": 3}]', "JSON", "pandas"),
    (b'{"id": 1, "lat": 2, "lon": 3}\n', "JSON", "pandas"),
    (CSV.encode("utf-16-le"), "UTF-16LE without a byte order mark", "iconv -f UTF-16LE"),
    (CSV.encode("utf-16-be"), "UTF-16BE without a byte order mark", "iconv -f UTF-16BE"),
    (b"\x80\x04\x95" + bytes(200), "binary file", "CSV file itself"),
]


@pytest.mark.parametrize(("content", "what", "remedy"), KINDS, ids=[what for _, what, _ in KINDS])
def test_what_is_no_csv_file_is_called_what_it_is(tmp_path: Path, content: bytes, what: str, remedy: str) -> None:
    path = tmp_path / "table.csv"  # the content decides, not the name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_table(path, "csv", lambda file: list(file.rows()))
    said = str(error.value)
    assert what in said
    assert remedy in said
    assert "cp1252" not in said


def test_a_database_is_called_one(tmp_path: Path) -> None:
    database(tmp_path / "photos.db")
    with pytest.raises(ConfigError, match="SQLite database, not a CSV file"):
        read_table(tmp_path / "photos.db", "csv", lambda file: list(file.rows()))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_a_csv_file_is_read_whatever_its_name(tmp_path: Path, encoding: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CSV.encode(encoding))
    assert read_table(path, "csv", lambda file: [cells for _, cells in file.rows()][9]) == [
        *("9", "49.5", "2.25", "Orléans")
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "latin1", "mac_roman", "gb18030"])
def test_text_in_another_encoding_names_the_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(CSV.encode(encoding))
    with pytest.raises(ConfigError, match=r"line 2 is not UTF-8 .* save it as UTF-8"):
        read_table(path, "csv", lambda file: list(file.rows()))


def test_headers_that_only_begin_like_other_files(tmp_path: Path) -> None:
    for header in ("[id],[lat],[lon]", "version,lat,lon", "PARK,lat,lon", "{id},lat,lon"):
        path = tmp_path / "t.csv"
        path.write_text(f"{header}\n1,2,3\n")
        assert read_table(path, "csv", lambda file: file.header) == tuple(header.split(","))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_first_line_that_states_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"sep={delimiter}\r\n" + CSV.replace(",", delimiter))
    found = read_table(path, "csv", lambda file: (file.header, file.delimiter, [cells for _, cells in file.rows()]))
    assert found[:2] == (("id", "lat", "lon", "city"), delimiter)
    assert len(found[2]) == 10


@pytest.mark.parametrize(
    ("first", "delimiter"),
    [
        ('"sep=;"', ";"),
        ('sep=";"', ";"),
        ("sep=;;;", ";"),
        ('"sep=,",,', ","),
        ("SEP = | ", "|"),
        (r"sep=\t", "\t"),
        ("\n\nsep=^", "^"),
        ("sep=,", ";"),  # it is wrong
    ],
)
def test_forms_of_that_line(tmp_path: Path, first: str, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{first}\n" + "id/lat/lon\na/1/2\n".replace("/", delimiter))
    found = read_table(path, "csv", lambda file: (file.header, file.delimiter, list(file.rows())))
    assert found == (("id", "lat", "lon"), delimiter, [(first.count("\n") + 3, ["a", "1", "2"])])


def cells(tmp_path: Path, text: str) -> list[list[str]]:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return read_table(path, "csv", lambda file: [cells for _, cells in file.rows()])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_quotation_marks_that_join_rows_are_refused(tmp_path: Path, delimiter: str) -> None:
    table = 'id,title,lat,lon\n1,"Big Ben,51.5,-0.12\n2,Tower",48.8,2.3\n3,x,4,5\n'.replace(",", delimiter)
    with pytest.raises(ConfigError, match="a quotation mark joins lines 2 to 3, which are rows"):
        cells(tmp_path, table)
    paragraph = 'id,title,lat,lon\n1,"Big\nBen",51.5,-0.12\n'.replace(",", delimiter)
    assert cells(tmp_path, paragraph) == [["1", "Big\nBen", "51.5", "-0.12"]]


def test_quoted_cells_may_follow_a_space(tmp_path: Path) -> None:
    table = '"id", "title", "lat", "lon"\n   1, "Paris, 48.9", 48.5, 2.5\n'
    assert cells(tmp_path, table) == [["1", "Paris, 48.9", "48.5", "2.5"]]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("id\tlat, deg\tlon, deg\n1\t2\t3\n", ("id", "lat, deg", "lon, deg")),
        ("id;photo, name, author, x, y;lat;lon\n1;p;2;3\n", ("id", "photo, name, author, x, y", "lat", "lon")),
        ('id,"Lat\n(deg)","Lon\n(deg)"\n1,2,3\n', ("id", "Lat (deg)", "Lon (deg)")),
    ],
)
def test_the_delimiter_is_the_one_under_which_the_coordinates_are_found(
    tmp_path: Path, text: str, header: tuple[str, ...]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert read_table(path, "csv", lambda file: file.header) == header
    assert len(cells(tmp_path, text)) == 1


def test_unnamed_columns_at_the_end_may_lack(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,lat,lon,,\n1,48,2,,\n2,49,3\n3,4\n4,1,2,,,5\n")
    found = read_table(tmp_path / "t.csv", "csv", lambda file: [file.by_column(each) for _, each in file.rows()])
    assert [each and each["lon"] for each in found] == ["2", "3", None, None]


def test_an_address_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is an address, not a file; download the table"):
        read_table(Path("https://x.org/t.csv"), "csv", lambda file: file.header)
