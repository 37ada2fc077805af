from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_builders.build import main
from data_builders.merge import merge_shards
from data_builders.sources.gps_csv import GpsCsv
from data_builders.sources.imageo import Imageo
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.tasks import get_task


def photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_table(path: Path, records: list[dict[str, Any]]) -> Path:
    text = io.StringIO()
    table = csv.DictWriter(text, list(records[0]))
    table.writeheader()
    table.writerows(records)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def build(builder: Any, out: Path, max_reject_fraction: float = 0.01) -> tuple[dict[str, Any], dict[str, Sample]]:
    report = builder.make(out, "d", max_reject_fraction=max_reject_fraction)
    return report, {sample.id: sample for sample in read_samples(out / "d.jsonl", check_images=True)}


def rejects(out: Path) -> dict[str, str]:
    return {line["id"]: line["reason"] for line in map(json.loads, (out / "rejected.jsonl").read_text().splitlines())}


# One table of coordinates


@pytest.fixture
def osv(tmp_path: Path) -> tuple[Path, Path]:
    """In the shape of OSV-5M: ids of digits, photos in numbered folders."""
    records = []
    for i in range(60):
        records.append(
            {
                "id": f"{385914988746550 + i}",
                "latitude": -43.8 + i,
                "longitude": -176.6 + 5 * i,
                "thumb_original_url": "",
                "country": "NZ",
                "lon_bin": 1,
                "lat_bin": 2,
                "region": "Chatham Islands",
                "city": "Waitangi" if i % 2 else "",
            }
        )
        photo(tmp_path / f"images (train)/{i % 3:02d}/{records[-1]['id']}.jpg", i)
    return write_table(tmp_path / "train, a.csv", records), tmp_path / "images (train)"


def test_jobs_of_a_cluster_look_at_their_own_photos(osv: Any, tmp_path: Path) -> None:
    next(osv[1].rglob("*7.jpg")).write_bytes(b"broken")
    settings: dict[str, Any] = {"max_reject_fraction": 0.1}
    whole = GpsCsv(*osv, limit=50, workers=1).make(tmp_path / "whole", "d", **settings)
    for number in (1, 2):
        GpsCsv(*osv, limit=50, workers=1).make(tmp_path / "out", "d", shard=f"{number}/2", **settings)
    noted = [path.read_text() for path in (tmp_path / "out/shards").glob("*.rejected.jsonl")]
    assert sorted(map(bool, noted)) == [False, True], "one of them met the broken photo"
    merged = merge_shards(tmp_path / "out")
    assert all(merged[key] == whole[key] for key in ("written", "source_records", "rejected"))
    assert set(read_samples(tmp_path / "out/d.jsonl")) == set(read_samples(tmp_path / "whole/d.jsonl"))


def test_one_question_a_photo(osv: Any, tmp_path: Path) -> None:
    report, samples = build(GpsCsv(*osv), tmp_path / "out")
    assert report["written"] == report["source_records"] == len(samples) == 60
    assert report["audit"]["table"]["columns"]["id"] == "id"
    sample = samples["gps_csv/train, a/385914988746551/geolocate"]
    assert (sample.task, sample.source) == ("geolocate", "train, a")
    assert sample.place == "train, a/-42.800000,-171.600000"
    assert sample.answer == '{"latitude": -42.8, "longitude": -171.6}'
    assert get_task("geolocate").parse(sample.response).answer == sample.answer
    assert sample.images == (str(osv[1] / "01/385914988746551.jpg"),)
    assert json.loads(sample.meta) == {
        "image_id": "385914988746551",
        "lat": -42.8,
        "lon": -171.6,
        "city": "Waitangi",
        "country": "NZ",
    }


def test_a_draw_is_seeded_and_in_the_tables_order(osv: Any, tmp_path: Path) -> None:
    everything = list(build(GpsCsv(*osv), tmp_path / "all")[1])
    draws = [list(build(GpsCsv(*osv, limit=20, seed=s), tmp_path / f"{n}")[1]) for n, s in enumerate([0, 0, 1])]
    assert draws[0] == draws[1] != draws[2]
    for draw in draws:
        assert len(draw) == 20
        assert draw == [name for name in everything if name in draw]


def test_bad_images_are_rejected_each_with_its_reason(osv: Any, tmp_path: Path) -> None:
    table, images = osv
    ids = [f"{385914988746550 + i}" for i in range(6)]
    files = [images / f"{i % 3:02d}/{name}.jpg" for i, name in enumerate(ids)]
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:200])
    files[2].unlink()
    Image.new("L", (400, 300)).save(files[3])
    photo(images / "other" / files[4].name)
    Image.new("CMYK", (8, 8)).save(files[5])
    report, samples = build(GpsCsv(table, images, max_image_pixels=100_000), tmp_path / "out", max_reject_fraction=0.1)
    assert rejects(tmp_path / "out") == {
        ids[0]: "broken_image",
        ids[1]: "broken_image",
        ids[2]: "missing_image",
        ids[3]: "image_too_large",
        ids[4]: "ambiguous_image",
    }
    assert report["source_records"] == 60 == len(samples) + 5


@pytest.mark.parametrize("ids", [True, False])
def test_no_photo_gets_the_label_of_another(tmp_path: Path, ids: bool) -> None:
    photo(tmp_path / "photos/b/IMG_0001.jpg")
    records = [
        {"SourceFile": f"{folder}/IMG_0001.jpg", "lat": lat, "lon": 2.5} for folder, lat in (("a", 10), ("b", 20))
    ]
    if ids:
        records = [{"id": f"{folder}-IMG_0001", **record} for folder, record in zip("ab", records, strict=True)]
    table = write_table(tmp_path / "t.csv", records)
    _, samples = build(GpsCsv(table, tmp_path / "photos"), tmp_path / "out", 1)
    (sample,) = samples.values()
    assert json.loads(sample.answer)["latitude"] == 20
    assert list(rejects(tmp_path / "out").values()) == ["missing_image"]


def test_addresses_need_names(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.jpg")
    photo(tmp_path / "photos/b.jpg")
    records = [
        {"photo_id": "a.jpg", "lat": 48.85, "lon": 2.35, "city": "Paris", "country": "France"},
        {"photo_id": "b.jpg", "lat": 10, "lon": 20, "city": "", "country": "unknown"},
    ]
    table = write_table(tmp_path / "t.csv", records)
    _, samples = build(GpsCsv(table, tmp_path / "photos", task="address"), tmp_path / "out", 0.5)
    (sample,) = samples.values()
    assert sample.id == "gps_csv/t/a.jpg/address"
    assert json.loads(sample.answer) | {"city": "Paris", "country": "France", "latitude": 48.85} == json.loads(
        sample.answer
    )
    assert rejects(tmp_path / "out") == {"b.jpg": "no_answer_in_table"}


def test_the_command_and_its_help(osv: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["builder=gps_csv", f"csv={osv[0]}", f"images={osv[1]}", f"out={tmp_path / 'o'}", "columns.lat=latitude"]
    assert main([*words, "limit=7"]) == 0
    assert "7 samples" in capsys.readouterr().out
    assert main([*words, "columns.lon=x y"]) == 2
    assert "columns.lon=x y" in capsys.readouterr().err
    for builder in ("gps_csv", "imageo", "geocaption"):
        assert main([f"builder={builder}", "--help"]) == 0
        text = capsys.readouterr().out
        keys = text[text.index(f"keys of the builder {builder}:") :].splitlines()[1:]
        keys = keys[: keys.index("")]
        assert all(len(line.split(maxsplit=1)[1].partition("[")[0]) > 10 for line in keys), text


def test_settings_that_cannot_be_meant(osv: Any) -> None:
    with pytest.raises(ConfigError, match="limit=0"):
        GpsCsv(*osv, limit=0)
    with pytest.raises(ConfigError, match=r"images=.*no such folder"):
        GpsCsv(osv[0], osv[1] / "none").build(None)  # type: ignore[arg-type]


# IMAGEO-Bench's tables


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    root = tmp_path / "imageo"
    root.mkdir()
    one = {"image_id": "0002-4ea9", "orig_id": "81.0", "city": "Trenton", "city_id": "18", "country": "United States"}
    one |= {"continent": "North America", "latitude": "40.4", "longitude": "-93.4", "img_path": "img/4/0002-4ea9.jpeg"}
    write_table(root / "dataset1_info.csv", [one])
    photo(root / "dataset1/0002-4ea9.jpeg")
    two = {
        "name": "Cafe",
        "address": "Cafe, 36 Ave #104, Montgomery, AL 36104",
        "latitude": "32.4",
        "longitude": "-86.3",
    }
    park = "Park, 500 17th St N, Birmingham, AL 35203, United States"
    wrong = {"address": "University, 360 Ave, Boston, MA 02115", "latitude": "28.6478898", "longitude": "180.0"}
    write_table(
        root / "dataset2_info.csv",
        [
            {"image_id": "1_0x88_0x9a"} | two | {"street": "Cafe, 36 Ave #104", "city": "Montgomery", "state": "AL"},
            {"image_id": "28_0x88_0x96"}
            | {**two, "name": "Park", "address": park}
            | {"street": "Park, 500 17th St N, Birmingham", "city": "AL 35203", "state": ""},
            {"image_id": "15_0x89_0xc9"} | {**two, **wrong} | {"street": "U", "city": "Boston", "state": "MA"},
        ],
    )
    for name in ("1_0x88_0x9a", "28_0x88_0x96", "15_0x89_0xc9"):
        photo(root / f"dataset2/{name}.jpg")
    three = {"image_id": "GJVA", "address": "Bridge, Mackinaw City, MI 49701", "latitude": "45.8", "longitude": "-84.7"}
    three |= {"street": "Bridge", "city": "", "state": "MI", "country": "USA"}
    write_table(root / "dataset3_info.csv", [three])
    photo(root / "dataset3/GJVA.jpg.jpg")
    return root


def test_imageo_asks_for_addresses_of_all_three_sets(bench: Path, tmp_path: Path) -> None:
    report, samples = build(Imageo(bench), tmp_path / "out", 0.2)
    answers = {name: json.loads(sample.answer) for name, sample in samples.items()}
    known = {name: {key: value for key, value in answer.items() if value} for name, answer in answers.items()}
    assert known == {
        "imageo/dataset1/0002-4ea9/address": {
            "city": "Trenton",
            "country": "United States",
            "latitude": 40.4,
            "longitude": -93.4,
        },
        "imageo/dataset2/1_0x88_0x9a/address": {
            "street": "Cafe, 36 Ave #104",
            "city": "Montgomery",
            "state": "AL",
            "latitude": 32.4,
            "longitude": -86.3,
        },
        # Published cut at the wrong comma; no country is made up.
        "imageo/dataset2/28_0x88_0x96/address": {
            "street": "Park, 500 17th St N",
            "city": "Birmingham",
            "state": "AL",
            "latitude": 32.4,
            "longitude": -86.3,
        },
        "imageo/dataset3/GJVA/address": {
            "street": "Bridge",
            "state": "MI",
            "country": "USA",
            "latitude": 45.8,
            "longitude": -84.7,
        },
    }
    assert rejects(tmp_path / "out") == {"15_0x89_0xc9": "outside_country"}
    assert report["audit"]["mended_addresses"] == {"dataset1": 0, "dataset2": 1, "dataset3": 0}
    for sample in samples.values():
        assert get_task("address").parse(sample.response).answer == sample.answer


def test_imageo_takes_what_is_there_and_says_what_is_not(bench: Path, tmp_path: Path) -> None:
    report, _ = build(Imageo(bench, sets=[1, 3], tasks=["address", "geolocate"]), tmp_path / "out")
    assert report["tasks"] == {"address": 2, "geolocate": 2}
    assert report["source_records"] == 2
    (bench / "dataset2_info.csv").unlink()
    assert Imageo(bench).sets == [1, 3]
    for settings, said in (
        ({"sets": [4]}, "sets=4"),
        ({"tasks": ["judge"]}, "tasks=judge"),
        ({"tasks": []}, r"tasks=\[\]"),
    ):
        with pytest.raises(ConfigError, match=said):
            Imageo(bench, **settings)
    with pytest.raises(ConfigError, match=r"expected dataset1_info.csv"):
        build(Imageo(tmp_path), tmp_path / "none")
    with pytest.raises(ConfigError, match=r"dataset2_info.csv"):
        build(Imageo(bench, sets=[2]), tmp_path / "two")
