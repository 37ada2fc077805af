"""Files of located photos: JSON lines, CSV and GeoJSON say the same, and other programs read them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from geotune.errors import ConfigError
from geotune.inference.locating import Located, as_json, read_answers
from geotune.inference.results import check_readable, totals, totals_line, write_located

PARIS = "48.857, 2.352"
LOCATED = (
    read_answers(Path("a, b.jpg"), [PARIS] * 4 + ["a wall"]),
    read_answers(Path("b.jpg"), ["a wall"] * 3),
    read_answers(Path("c.jpg"), ["47.3769, 8.5417", "a wall"]),
    Located(Path('d".jpg'), error='image d".jpg is empty (0 bytes)'),
)
ROWS = [as_json(each) for each in LOCATED]
SUMMARY = {"totals": totals(ROWS, 6), "left_out": {"no image": 2}}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    write_located(path, rows, SUMMARY)
    return path


def test_totals_count_every_photo() -> None:
    assert SUMMARY["totals"] == {"photos": 6, "located": 2, "without_answer": 1, "unreadable": 1, "not_asked": 2}
    line = "2 of 6 photos located, 1 without a readable answer, 1 not readable, 2 not asked yet"
    assert totals_line(totals(ROWS, 6)) == line
    assert totals_line(totals(ROWS[:1], 1)) == "1 of 1 photos located"
    with pytest.raises(ConfigError, match=r"^image=x: no image can be used: is empty \(and 1 more\); name a photo"):
        check_readable(["is empty", "is gone"], "x")


def test_json_lines_hold_everything(tmp_path: Path) -> None:
    file = write(tmp_path / "r.JSONL", ROWS)
    assert [json.loads(line) for line in file.read_bytes().splitlines()] == ROWS


def test_csv(tmp_path: Path) -> None:
    file = write(tmp_path / "r.csv", ROWS[:2])
    assert file.read_bytes().startswith(b"image,latitude,longitude,radius_50_km,radius_90_km,answers_read,")
    first, second = csv.DictReader(file.read_text(encoding="ascii").splitlines())
    assert first["image"] == "a, b.jpg"
    assert (first["latitude"], first["longitude"]) == ("48.857000", "2.352000")
    assert (first["radius_50_km"], first["radius_90_km"]) == ("0.000", "0.000")
    assert (first["answers_read"], first["answers_unread"]) == ("4", "1")
    assert (first["nearest_place"], first["nearest_country"], first["error"]) == ("Paris", "France", "")
    assert [second[name] for name in ("latitude", "radius_50_km", "nearest_place")] == [""] * 3
    assert (second["answers_read"], second["answers_unread"], second["unread_reasons"]) == ("0", "3", "missing 3")
    # Excel takes a file for UTF-8 only if it begins with a byte order mark.
    file = write(tmp_path / "excel.csv", ROWS)
    assert file.read_bytes().startswith(b"\xef\xbb\xbfimage,")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert rows[2]["nearest_place"] == "Zürich"
    assert rows[2]["radius_50_km"] == "", "one readable answer has no radius"
    assert rows[3]["image"] == 'd".jpg'
    assert rows[3]["error"] == 'image d".jpg is empty (0 bytes)'


def test_geojson_is_that_of_rfc_7946(tmp_path: Path) -> None:
    tree = json.loads(write(tmp_path / "r.geojson", ROWS).read_text(encoding="utf-8"))
    assert (tree["type"], tree["totals"], tree["left_out"]) == ("FeatureCollection", *SUMMARY.values())
    assert "crs" not in tree
    for feature, row in zip(tree["features"], ROWS, strict=True):
        assert feature.keys() == {"type", "geometry", "properties"}
        assert feature["type"] == "Feature"
        assert feature["properties"]["image"] == row["image"]
        assert not {"type", "geometry", "features"} & feature["properties"].keys()
    assert tree["features"][0]["geometry"] == {"type": "Point", "coordinates": [2.352, 48.857]}, "longitude first"
    assert [feature["geometry"] for feature in tree["features"]][1::2] == [None, None], "not located, but there"
    assert tree["features"][1]["properties"]["answers_unread"] == 3
    assert json.loads(write(tmp_path / "none.geojson", []).read_text())["features"] == []


def test_any_name_gives_valid_files(tmp_path: Path) -> None:
    photo = Located(Path(os.fsdecode(b"M\xfcnchen\n.jpg")), error="is empty")
    for ending in ("jsonl", "csv", "geojson"):
        text = write(tmp_path / f"r.{ending}", [as_json(photo)]).read_bytes().decode("utf-8")
        assert "\ufffd" not in text
        assert "\\xfcnchen" in text
    assert len((tmp_path / "r.jsonl").read_bytes().splitlines()) == 1


def test_a_link_keeps_being_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "r.csv"
    link.symlink_to(tmp_path / "disk" / "there.csv")
    write(link, ROWS)
    write(link, ROWS[:1])
    assert link.is_symlink()
    assert len((tmp_path / "disk" / "there.csv").read_bytes().splitlines()) == 2
    assert os.listdir(tmp_path / "disk") == ["there.csv"]
