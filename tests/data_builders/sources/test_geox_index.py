"""The builder geox_index: the questions of the benchmark, and the records that are rejected."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_builders.build import main
from geotune.errors import ConfigError
from geotune.imagery.crops import crop_box
from geotune.sample import Sample
from geotune.system import parallel
from geotune.tasks import CROSS_VIEW_TASKS, get_task

CROPPED = {name for name in CROSS_VIEW_TASKS if get_task(name).cropped}


def rejects(out: Path) -> dict[str, str]:
    lines = (json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines())
    return {line["id"]: line["reason"] for line in lines}


@pytest.fixture(scope="module")
def benchmark(every_shape: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[Sample], Path]:
    out = tmp_path_factory.mktemp("benchmark")
    return *every_shape.build(out), out


def test_39_questions_a_view(benchmark: Any) -> None:
    report, samples, _ = benchmark
    views = 6 * 20
    assert report["written"] == len(samples) == 39 * views
    assert report["tasks"] == {task: views * (9 if task in CROPPED else 1) for task in CROSS_VIEW_TASKS}
    assert report["rejected"] == {}
    assert report["source_records"] == 3 * views
    assert len({sample.id for sample in samples}) == len(samples)


def test_records_follow_the_contract(benchmark: Any) -> None:
    _, samples, _ = benchmark
    by_id = {sample.id: sample for sample in samples}
    # CVUSA has one image id for all four headings; OmniCity's file is spelt View in one index.
    for heading in "NESW":
        assert f"geox_index/CVUSA_zoom19/0000003/{heading}/cross_map_random/top_left" in by_id
    sample = by_id["geox_index/OmniCity_view1/1090/E/localization_no_prior/bottom"]
    assert (sample.source, sample.place) == ("OmniCity_view1", "OmniCity/40.100000,-80.100000")
    assert by_id["geox_index/CVUSA_zoom18/0000002/W/pose_fixed/full"].place == "CVUSA/40.200000,-80.200000"
    assert by_id["geox_index/LMMGeo_zoom20/3_270/W/pose_fixed/full"].answer == "W"
    meta = json.loads(by_id["geox_index/CVUSA_zoom19/0000003/E/cross_map_random/top_left"].meta)
    assert meta["heading_deg"] == 90
    assert meta["fov_deg"] == 90
    assert meta["crop"] == "top_left"
    assert (meta["lat"], meta["lon"], meta["capture_time"]) == (40.3, -80.3, None)
    assert meta["map_scales"] == ["zoom19"] * 4
    assert meta["index"] == "LocationSelection/CVUSA_zoom19.json"
    for sample in samples:
        task = get_task(sample.task)
        assert sample.prompt == task.prompt(explain=False)
        assert task.parse(sample.response).answer == sample.answer
        assert sample.answer in task.options


def test_answers_equal_those_of_the_tasks(benchmark: Any, every_shape: Any) -> None:
    _, samples, _ = benchmark
    files: dict[str, dict[tuple[str, str], Any]] = {}
    for sample in samples:
        meta = json.loads(sample.meta)
        if meta["index"] not in files:
            records = json.loads((every_shape.index_dir / meta["index"]).read_text())
            files[meta["index"]] = {(r["image_id"], r["GroundImage"]["orientation"]): r for r in records}
        _, _, image_id, heading, *_ = sample.id.split("/")
        record = files[meta["index"]][image_id, heading]
        assert sample.answer == get_task(sample.task).gold(record, crop=meta["crop"])


def test_images_are_what_the_index_names(benchmark: Any, every_shape: Any) -> None:
    _, samples, out = benchmark
    for sample in samples[:: len(samples) // 200]:
        meta = json.loads(sample.meta)
        family = sample.place.partition("/")[0]
        ground, *maps = sample.images
        assert Path(ground).is_relative_to(every_shape.image_root / family)  # untouched sources are not copied
        assert len(maps) == len(meta["maps"]) == get_task(sample.task).n_maps
        for path, name in zip(maps, meta["maps"], strict=True):
            source = every_shape.image_root / family / name
            if meta["crop"] == "full":
                assert Path(path) == source
                continue
            assert not Path(path).is_absolute()
            with Image.open(source) as full, Image.open(out / path) as crop:
                assert np.array_equal(np.asarray(full.crop(crop_box(meta["crop"], *full.size))), np.asarray(crop))


def test_questions_of_a_view_stand_together(benchmark: Any) -> None:
    _, samples, _ = benchmark
    views = [tuple(sample.id.split("/")[1:4]) for sample in samples]
    assert 1 + sum(a != b for a, b in itertools.pairwise(views)) == len(set(views))


def test_tasks_and_sources_can_be_chosen(every_shape: Any, tmp_path: Path) -> None:
    report, samples = every_shape.build(
        tmp_path, tasks=["cross_map", "pose_fixed"], sources=["CVUSA", "omnicity_VIEW1"]
    )
    assert report["tasks"] == {"pose_fixed": 60, "cross_map": 60}
    assert {sample.source for sample in samples} == {"CVUSA_zoom18", "CVUSA_zoom19", "OmniCity_view1"}
    assert report["images"] == 0
    assert not (tmp_path / "images" / "crops").exists()


def test_relative_folders(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"index_dir": Path(index.index_dir.name), "image_root": Path(index.image_root.name)}
    _, samples = index.build(Path("out"), tasks=["pose_fixed"], **folders)
    assert all(Path(image).is_relative_to(index.image_root) for sample in samples for image in sample.images)
    # Images inside the dataset's folder are named relative to it.
    _, samples = index.build(tmp_path, tasks=["pose_fixed"], **folders)
    assert all((tmp_path / image).is_file() for sample in samples for image in sample.images)
    assert not any(Path(image).is_absolute() for sample in samples for image in sample.images)


def test_progress_shows_on_a_terminal_only(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index.build(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    index.build(tmp_path)
    assert "25/25" in capsys.readouterr().err


def test_crops_are_reused(index: Any, tmp_path: Path) -> None:
    first, samples = index.build(tmp_path)
    again, same = index.build(tmp_path)
    assert first["images"] == 9 * 5
    assert first["images_reused"] == 0
    assert again["images"] == 0
    assert again["images_reused"] == 9 * 5
    assert same == samples
    # A map that changes gets new crops, under new names.
    (path,) = (index.image_root / "CVGloable" / "satellite").glob("*p0_*")
    Image.new("RGB", (48, 48), "red").save(path)
    third, changed = index.build(tmp_path)
    assert third["images"] == 9
    assert changed != samples


def test_processes_give_the_same(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "FEWEST_PER_PROCESS", 1)
    report, samples = index.build(tmp_path / "one")
    spread, same = index.build(tmp_path / "two", workers=2)
    assert same == samples
    assert report["images"] == spread["images"]


def test_zoom_shortcut_is_told(index: Any, tmp_path: Path) -> None:
    report, _ = index.build(tmp_path / "fair")
    assert report["audit"]["shortcuts"]["zoom"] == {"CVGloable": 0.5}

    def leak(records: list[dict]) -> None:
        for record in records:
            if not record["GroundImage"]["in_range"]:
                record["AerialImage"]["zoom_level"] = 20

    index.edit("Location4_50_in_range/CVGloable", leak)
    report, _ = index.build(tmp_path / "leaky")
    assert report["audit"]["shortcuts"]["zoom"] == {"CVGloable": 1.0}


def test_zoom_shortcut_reads_the_view_in_the_path(new_index: Callable[..., Any], tmp_path: Path) -> None:
    index = new_index(["OmniCity_view1"], [])

    def leak(records: list[dict]) -> None:
        for record in records:
            if not record["GroundImage"]["in_range"]:
                aerial = record["AerialImage"]
                name = aerial["file_path"].replace("view1", "view3")
                folder = index.image_root / "OmniCity"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((folder / aerial["file_path"]).read_bytes())
                aerial["file_path"] = name

    index.edit("Location4_50_in_range/OmniCity_View1", leak)
    report, _ = index.build(tmp_path / "out")
    assert report["audit"]["shortcuts"]["zoom"] == {"OmniCity_view1": 1.0}


def test_places_near_the_training_pool_are_told(index: Any, tmp_path: Path) -> None:
    def move(records: list[dict]) -> None:
        for record in records[:4]:
            record["GroundImage"]["real_location"] = "40.1005,-80.1"

    report, _ = index.build(tmp_path / "apart")
    assert report["audit"]["near_training"] == {"threshold_m": 150.0, "places": 5, "near": []}
    index.edit("Sampled400Data/Orin4/CVGloable", move)
    report, _ = index.build(tmp_path / "near")
    assert report["audit"]["near_training"]["near"] == [
        {"place": "CVGloable/40.100000,-80.100000", "training_place": "CVGloable/40.100500,-80.100000", "metres": 56}
    ]


def test_folders_vary(new_index: Callable[..., Any], tmp_path: Path) -> None:
    index = new_index(["LMMGeo_zoom20"], [])
    (index.index_dir / "Location4_50_in_range").rename(index.index_dir / "Location4_80InRange")
    (index.image_root / "LMMGeo").rename(index.image_root / "LLMGeo")
    report, _ = index.build(tmp_path / "out")
    assert report["written"] == 39 * 20


def _set(*path: Any) -> Callable[[dict], None]:
    *keys, last, value = path

    def change(record: dict) -> None:
        for key in keys:
            record = record[key]
        record[last] = value

    return change


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("invalid_record", lambda record: record.pop("GroundImage")),
        ("invalid_record", lambda record: record.pop("image_id")),
        ("invalid_record", _set("AerialImage", None)),
        ("invalid_record", _set("AerialImage", "zoom_level", "18")),
        ("invalid_record", _set("GroundImage", "orientation", "NE")),
        ("invalid_record", _set("GroundImage", "real_location", "91.0,0.0")),
        ("invalid_record", _set("GroundImage", "real_location", "somewhere")),
        ("invalid_record", _set("GroundImage", "fov", True)),
        ("invalid_record", _set("GroundImage", "fov", 180)),
        ("invalid_record", _set("GroundImage", "file_path", "../../etc/passwdN.jpg")),
        ("invalid_record", _set("GroundImage", "file_path", "/etc/passwdN.jpg")),
        ("invalid_record", _set("pixel distance", "far")),
        ("heading_mismatch", _set("GroundImage", "degree", 90.0)),
        ("heading_mismatch", _set("GroundImage", "file_path", "streetview2048/aS.jpg")),
        ("missing_image", _set("AerialImage", "file_path", "satellite/gone.jpg")),
        ("out_of_frame", _set("pixel distance", [0.5, -5.0])),
    ],
)
def test_a_bad_record_costs_itself_only(index: Any, tmp_path: Path, reason: str, change: Callable[[dict], Any]) -> None:
    index.edit("Orin4_SameLocation/CVGloable", lambda records: change(records[0]))
    report, samples = index.build(tmp_path, max_reject_fraction=0.1)
    assert report["rejected"] == {reason: 1}
    assert report["written"] == len(samples) == 39 * 20 - 19
    (record_id,) = rejects(tmp_path)
    assert record_id.startswith("Orin4_SameLocation/CVGloable.json/0")


def test_a_record_that_is_no_object(index: Any, tmp_path: Path) -> None:
    index.edit("Orin4_SameLocation/CVGloable", lambda records: records.__setitem__(3, "text"))
    _report, _ = index.build(tmp_path, max_reject_fraction=0.1)
    assert rejects(tmp_path) == {"Orin4_SameLocation/CVGloable.json/3": "invalid_record"}


def test_a_repeated_record(index: Any, tmp_path: Path) -> None:
    index.edit("Orin4_SameLocation/CVGloable", lambda records: records.append(records[0]))
    report, samples = index.build(tmp_path, max_reject_fraction=0.1)
    assert report["rejected"] == {"duplicate_record": 1}
    assert len(samples) == 39 * 20


def test_repeated_candidates(index: Any, tmp_path: Path) -> None:
    """A wrong map listed twice leaves one right answer (281376 of OmniCity_view3); a true map listed twice does not."""

    def repeat(records: list[dict]) -> None:
        wrong = [c["AerialImage"] for c in records[0]["AerialCandidates"] if not c["is_original"]]
        wrong[0]["file_path"] = wrong[1]["file_path"]
        true = next(c["AerialImage"] for c in records[1]["AerialCandidates"] if c["is_original"])
        other = next(c["AerialImage"] for c in records[1]["AerialCandidates"] if not c["is_original"])
        other["file_path"] = true["file_path"]
        for candidate in records[2]["AerialCandidates"]:
            candidate["is_original"] = False
        records[3]["AerialCandidates"].pop()

    index.edit("LocationSelection/CVGloable", repeat)
    report, samples = index.build(tmp_path, max_reject_fraction=0.1)
    assert report["rejected"] == {"ambiguous_candidates": 1, "invalid_record": 2}
    assert report["audit"]["repeated_candidates"] == ["LocationSelection/CVGloable.json/0_0/N"]
    assert len(samples) == 39 * 20 - 3 * 10


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("broken_image", b""),
        ("broken_image", b"<html>not found</html>"),
        ("broken_image", None),
        ("image_too_large", b"large"),
    ],
)
def test_bad_images(index: Any, tmp_path: Path, reason: str, content: bytes | None) -> None:
    path = next((index.image_root / "CVGloable" / "streetview2048").glob("*p0*S.jpg"))
    if content == b"large":
        Image.new("RGB", (200, 200)).save(path)
    else:
        path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    report, samples = index.build(tmp_path, max_image_pixels=10_000, max_reject_fraction=0.1)
    assert report["rejected"] == {reason: 3}
    assert len(samples) == 39 * 19


def test_mistakes_of_the_user(index: Any, tmp_path: Path) -> None:
    def fails(said: str, **settings: Any) -> None:
        with pytest.raises(ConfigError, match=said):
            index.build(tmp_path / "out", **settings)

    fails(r"index_dir=.*nowhere: there is no such folder", index_dir=tmp_path / "nowhere")
    fails(r"image_root=.*nowhere: there is no such folder", image_root=tmp_path / "nowhere")
    fails("index_dir=.*no index file", index_dir=tmp_path)
    fails("image_root=.*no folder CVGloable.*sources=", image_root=tmp_path)
    fails("sources=CVUSA: no index file of Orin4_SameLocation.* has this name", sources=["CVGloable", "CVUSA"])
    fails("tasks=pose: set=benchmark has pose_fixed", tasks=["pose"])
    fails("tasks=pose_random: set=train has", set="train", tasks=["pose_random"])
    fails("set=test", set="test")
    fails("workers=0", workers=0)
    (index.image_root / "CVGloable" / "streetview2048").rename(index.image_root / "CVGloable" / "elsewhere")
    fails(r"max_reject_fraction=0.01: 60 of 60 .*missing_image \(60\)")
    index.file("LocationSelection/CVGloable").write_text("[{")
    fails("LocationSelection/CVGloable.json is not JSON")
    index.file("LocationSelection/CVGloable").write_text("{}")
    fails("holds no list of records")
    index.file("LocationSelection/CVGloable").rename(index.file("LocationSelection/CVUSA_zoom18"))
    fails("Orin4_SameLocation lacks CVUSA_zoom18")
    assert not (tmp_path / "out" / "geox.jsonl").exists()


def test_command(index: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a, folder (with=signs)"
    words = [
        "builder=geox_index",
        f"index_dir={index.index_dir}",
        f"image_root={index.image_root}",
        f"out={out}",
        "workers=1",
    ]
    assert main([*words, "tasks=[pose_fixed,cross_map]"]) == 0
    assert "40 samples" in capsys.readouterr().out
    report = json.loads((out / "build_report.json").read_text())
    assert report["written"] == sum(1 for _ in (out / "geox_index.jsonl").open()) == 40
    assert report["builder"]["tasks"] == ["pose_fixed", "cross_map"]
    assert "workers" not in report["builder"]
    for wrong, said in (
        ("tasks=[pose]", "pose_fixed"),
        ("index_dir=/no/such", "/no/such"),
        ("sett=train", "set"),
        ("set=validation", "benchmark"),
        ("max_reject_fraction=7", "max_reject_fraction"),
    ):
        assert main([*words, wrong]) == 2
        message = capsys.readouterr().err
        assert said in message
        assert "Traceback" not in message
