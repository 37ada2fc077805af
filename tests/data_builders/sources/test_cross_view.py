"""The builder cross_view on small copies of the five downloads in their published layouts.

Their panoramas hold east, north and up of each direction as red, green and blue; their satellite images a white mark
where the camera stands.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_builders.build import main
from data_builders.imagery.panorama import perspective_view
from data_builders.imagery.place_images import (
    ImageJob,
    ImageSettings,
    PlaceImages,
    make_place_images,
    span_of,
    view_height,
)
from data_builders.merge import merge_shards
from data_builders.sources import cross_view
from data_builders.sources.cross_view import CrossView
from data_builders.sources.cross_view_cvusa import CVUSA_RAW_SPAN
from data_builders.synthetic import city
from geotune.errors import ConfigError
from geotune.geo import COMPASS_POINTS, compass_to_heading, haversine_km, mercator_lat_lon, mercator_tile_xy
from geotune.imagery.crops import crop_box
from geotune.imagery.symmetry import SYMMETRIES, Symmetry
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.tasks import CROSS_VIEW_TASKS, get_task
from tests.geotune.references import camera_in_crop

PLACES = 8
LAT, LON = 41.88, -87.63
STEP = 0.01
PANORAMA = (128, 64)


def coordinates(number: int) -> tuple[float, float]:
    """Places on a line northwards, 1.1 km apart."""
    return round(LAT + STEP * number, 6), LON


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=98, subsampling=0)


def compass(
    number: int, centre_heading_deg: float, size: tuple[int, int] = PANORAMA, span: float = 180.0
) -> np.ndarray:
    """A panorama whose colors encode directions; its brightness tells the places apart."""
    width, height = size
    heading = np.radians((np.arange(width) + 0.5) / width * 360 - 180 + centre_heading_deg)
    elevation = np.radians(span / 2 - (np.arange(height) + 0.5) / height * span)[:, None]
    up = np.broadcast_to(np.sin(elevation), (height, width))
    east, north = np.sin(heading) * np.cos(elevation), np.cos(heading) * np.cos(elevation)
    return np.rint((127.5 + 127.5 * np.stack([east, north, up], axis=-1)) * (1 - number / 100))


def marked(number: int, side: int, at: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """A satellite image of dim noise with a white mark `at` pixels right of and below its center."""
    image = np.random.default_rng(number).integers(0, 90, (side, side, 3))
    x, y = round(side / 2 + at[0]), round(side / 2 + at[1])
    image[y - 2 : y + 2, x - 2 : x + 2] = 255
    return image


def beside(at: tuple[float, float], offset_px: tuple[float, float], zoom: int) -> tuple[float, float]:
    """Coordinates of an image's center when the camera `at` stands `offset_px` right of and below it."""
    x, y = mercator_tile_xy(*at, zoom)
    lat, lon = mercator_lat_lon(x - offset_px[0] / 256, y - offset_px[1] / 256, zoom)
    return float(lat), float(lon)


def split_of(number: int) -> str:
    return "test" if number % 4 == 3 else "train"


def cvusa(root: Path, places: int = PLACES) -> None:
    """The common subset: satellite images of a tenth of 750 px, panoramas 5.5 times as wide as high."""
    rows: dict[str, list[list[str]]] = {"train": [], "test": []}
    everything = []
    for number in range(places):
        at, offset = coordinates(number), (20.0 - 5 * number, 10.0)
        everything.append([*at, *beside(at, offset, 19), 123.4])
        name = f"{number + 1:07d}"
        save(root / f"bingmap/19/{name}.jpg", marked(number, 75, (offset[0] / 10, offset[1] / 10)))
        save(root / f"streetview/panos/{name}.jpg", compass(number, 0, (176, 32), 360 / 5.5))
        rows[split_of(number)].append(
            [f"bingmap/19/{name}.jpg", f"streetview/panos/{name}.jpg", f"streetview/annotations/{name}.png"]
        )
    for name, lines in (("all", everything), ("splits/train-19zl", rows["train"]), ("splits/val-19zl", rows["test"])):
        path = root / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(lines)


def vigor(root: Path, places: int = PLACES) -> None:
    """One city; satellite images of a tenth of 640 px, cameras anywhere in their inner half."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(places):
        at = coordinates(number)
        right, down = 140.0 - 40 * number, -100.0 + 20 * number
        there = beside(at, (right, down), 20)
        pano, satellite = f"id-_{number},{at[0]},{at[1]},.jpg", f"satellite_{there[0]}_{there[1]}.png"
        save(root / "Chicago/panorama" / pano, compass(number, 0))
        save(root / "Chicago/satellite" / satellite, marked(number, 64, (right / 10, down / 10)))
        others = " ".join(f"{satellite} 300.0 300.0" for _ in range(3))
        lines[split_of(number)].append(f"{pano} {satellite} {down} {-right} {others}")
    for split, rows in lines.items():
        path = root / f"splits__corrected/Chicago/same_area_balanced_{split}__corrected.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n")


def cvglobal(root: Path, places: int = PLACES) -> None:
    for number in range(places):
        lat, lon = coordinates(number)
        degrees = 40 * number
        name = f"{lat:.8f},{lon:.8f}_2022-{number + 1:02d}_pa_no-{number}_d{degrees}_z3.jpg"
        save(root / split_of(number) / "streetview2048" / name, compass(number, degrees))
        save(root / split_of(number) / "satellite" / name, marked(number, 64))


def omnicity(root: Path, places: int = PLACES) -> None:
    for number in range(places):
        lat, lon = coordinates(number)
        split = split_of(number)
        name = f"{lat:.6f},{lon:.6f}_2020-11_pano{number}_d334_z2.jpg"
        save(root / f"street-level/image-panorama/image-panorama-{split}" / name, compass(number, 180))
        for view in (1, 2):
            folder = root / f"satellite-level/image-satellite/satellite-image-view{view}/view{view}-{split}"
            save(folder / name, marked(100 * view + number, 64))


def llmgeo(root: Path, places: int = PLACES) -> None:
    for number in range(places):
        lat, lon = coordinates(number)
        heading = 90 * (number % 4)
        folder = root / "dataset" / ("test/h0" if number % 4 == 3 else "train/comprehensive") / "usa"
        save(folder / f"{lon}_{lat}_h{heading}_p0_f90.jpg", np.full((32, 32, 3), 40 + heading / 2))


def tiles(root: Path, zoom: int, places: int = PLACES) -> None:
    """Tiles around every place; each camera stands on a white mark."""
    side = 256
    canvas: dict[tuple[int, int], np.ndarray] = {}
    for number in range(places):
        x, y = (float(v) * side for v in mercator_tile_xy(*coordinates(number), zoom))
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                key = int(x // side) + dx, int(y // side) + dy
                canvas.setdefault(key, np.random.default_rng(abs(hash(key))).integers(0, 90, (side, side, 3)))
        for px in range(round(x) - 2, round(x) + 2):
            for py in range(round(y) - 2, round(y) + 2):
                canvas[px // side, py // side][py % side, px % side] = 255
    for (x, y), pixels in canvas.items():
        save(root / f"{zoom}/{x}/{y}.png", pixels)


SOURCES: dict[str, Callable[[Path, int], None]] = {
    "cvusa": cvusa,
    "vigor": vigor,
    "cvglobal": cvglobal,
    "omnicity": omnicity,
    "llmgeo": llmgeo,
}


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of all five downloads, and tiles; tests must not change them."""
    root = tmp_path_factory.mktemp("downloads (all)")
    for name, make in SOURCES.items():
        make(root / name, PLACES)
    tiles(root / "tiles", 19)
    return root


def builder(root: Path, source: str, **settings: Any) -> CrossView:
    own: dict[str, Any] = {"negative_km": (0.3, 20.0), "view_size": 48, "map_size": 48, "workers": 1}
    if source == "llmgeo":
        own |= {"tiles": root / "tiles", "zoom": 19, "stitched_px": 96}
    return CrossView(source=source, root=root / source, **own | settings)


def build(
    root: Path, source: str, out: Path, *, max_reject_fraction: float = 0, **settings: Any
) -> tuple[dict[str, Any], list[Sample]]:
    report = builder(root, source, **settings).make(out, "data", max_reject_fraction=max_reject_fraction)
    return report, list(read_samples(out / "data.jsonl", check_images=True))


def reasons(out: Path) -> dict[str, str]:
    lines = (json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines())
    return {line["id"]: line["reason"] for line in lines}


def pixels(out: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(out / name).convert("RGB")).astype(float)


@pytest.fixture(scope="module")
def built(downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict, list[Sample], Path]]:
    """The training part of every source."""
    folders = {name: tmp_path_factory.mktemp(name) for name in SOURCES}
    return {name: (*build(downloads, name, out), out) for name, out in folders.items()}


TRAIN = 6
PANORAMAS = ("cvusa", "vigor", "cvglobal", "omnicity")


@pytest.mark.parametrize("source", PANORAMAS)
def test_39_questions_a_view(built: Any, source: str) -> None:
    report, samples, _ = built[source]
    views = 4 * TRAIN * (2 if source == "omnicity" else 1)
    expected = {t: views * (9 if get_task(t).cropped else 1) for t in CROSS_VIEW_TASKS}
    assert report["tasks"] == expected
    assert report["rejected"] == {}
    for sample in samples:
        task = get_task(sample.task)
        assert sample.prompt == task.prompt(explain=False)
        assert task.parse(sample.response).answer == sample.answer
    for task, counts in report["audit"]["answers"].items():
        assert set(counts) == set(get_task(task).options)
        assert max(counts.values()) - min(counts.values()) <= (9 if get_task(task).cropped else 1)


@pytest.mark.parametrize("source", PANORAMAS)
def test_views_look_where_they_say(built: Any, source: str) -> None:
    _, samples, out = built[source]
    towards = {"N": (0, 1), "E": (1, 0), "S": (0, -1), "W": (-1, 0)}
    for sample in samples:
        if sample.task == "pose_fixed":
            view = pixels(out, sample.images[0])
            middle = view[view.shape[0] // 2 - 1 : view.shape[0] // 2 + 1, 23:25].mean(axis=(0, 1))
            bright = 1 - round((json.loads(sample.meta)["lat"] - LAT) / STEP) / 100
            east, north, up = middle / bright / 127.5 - 1
            assert (east, north) == pytest.approx(towards[sample.answer], abs=0.12)
            assert up == pytest.approx(0, abs=0.1)
            left, right = view[view.shape[0] // 2, 2], view[view.shape[0] // 2, -3]
            clockwise = towards["NESW"["NESW".index(sample.answer) - 3]]
            assert (right - left)[:2] @ np.array(clockwise) > 60


@pytest.mark.parametrize("source", [*SOURCES])
def test_the_camera_stands_in_the_middle_of_its_map(built: Any, source: str) -> None:
    _, samples, out = built[source]
    maps = {sample.images[1]: sample for sample in samples if sample.task == "pose_fixed"}
    for name in maps:
        image = pixels(out, name).mean(axis=2)
        assert image.shape == (48, 48)
        rows, columns = np.nonzero(image > 0.75 * image.max())
        assert image.max() > 150
        assert abs(rows.mean() - 23.5) <= 1.5
        assert abs(columns.mean() - 23.5) <= 1.5


@pytest.mark.parametrize("source", [*SOURCES])
def test_crops_are_where_they_say(built: Any, source: str) -> None:
    _, samples, out = built[source]
    for sample in [s for s in samples if s.task == "intra_map"][::5]:
        image = pixels(out, sample.images[1]).mean(axis=2)
        rows, columns = np.nonzero(image > 0.75 * image.max())
        x, y = camera_in_crop(sample.answer, 48, 48)
        assert image.shape == (32, 32)
        assert (columns.mean() + 0.5) / 32 == pytest.approx(x, abs=0.06)
        assert (rows.mean() + 0.5) / 32 == pytest.approx(y, abs=0.06)


@pytest.mark.parametrize("source", PANORAMAS)
def test_other_maps_are_of_the_same_scale_and_at_the_right_distance(built: Any, source: str) -> None:
    report, samples, _ = built[source]
    at = {json.loads(s.meta)["maps"][0]: json.loads(s.meta) for s in samples if s.task == "pose_fixed"}
    used: Counter[str] = Counter()
    for sample in samples:
        meta = json.loads(sample.meta)
        own = at[f"{sample.source}/{meta['image_id']}"]
        assert len(set(meta["map_scales"])) == 1
        others = [name for name in meta["maps"] if name != f"{sample.source}/{meta['image_id']}"]
        for name in others:
            assert name.startswith(f"{sample.source}/")
            assert 0.3 <= haversine_km(own["lat"], own["lon"], at[name]["lat"], at[name]["lon"]) <= 20
        if sample.task == "cross_map":
            assert len(set(meta["maps"])) == 4
            assert meta["maps"][int(sample.answer)] not in others
            used.update(others)
        elif sample.task == "localization_prior":
            assert (sample.answer == "false") == (len(others) == 1)
    assert max(used.values()) - min(used.values()) <= 3
    assert report["audit"]["other_maps_km"]["cross_map"]["min"] >= 0.3


def test_jobs_of_a_cluster_share_the_work(built: Any, downloads: Path, tmp_path: Path) -> None:
    whole, samples, _ = built["omnicity"]
    for tasks in (None, ["pose_fixed", "intra_map"]):
        out, job = tmp_path / str(tasks), builder(downloads, "omnicity", tasks=tasks)
        parts = [job.make(out, "data", shard=f"{number}/3") for number in (1, 2, 3)]
        assert sum(part["images"] for part in parts) == whole["images"], "each image is made by one job"
        assert parts[0]["images"] < whole["images"] or tasks is None, "maps that it shows are cropped, no others"
        merged = merge_shards(out)
        assert tasks is not None or merged["audit"]["answers"] == whole["audit"]["answers"]
        wanted = {sample for sample in samples if tasks is None or sample.task in tasks}
        assert set(read_samples(out / "data.jsonl")) == wanted


def test_a_job_begins_with_its_own_places(downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw(job: ImageJob, settings: ImageSettings, folder: Path) -> PlaceImages:
        drawn.append(f"CVGloable/{job.lat:.6f},{job.lon:.6f}")
        return make_place_images(job, settings, folder)

    monkeypatch.setattr(cross_view, "make_place_images", draw)
    builder(downloads, "cvglobal").make(tmp_path, "data", shard="2/3")
    own = {json.loads(line)["place"] for line in (tmp_path / "shards/data.00002-of-00003.jsonl").open()}
    assert set(drawn[: len(own)]) == own < set(drawn)


def test_dated_maps_show_how_far_they_are_from_the_photos(downloads: Path, tmp_path: Path) -> None:
    report, samples = build(downloads, "cvglobal", tmp_path, map_time="2023-01")
    assert {json.loads(s.meta)["map_time"] for s in samples} == {"2023-01"}
    # Photos are of January, February, March, May, June and July 2022.
    months = {"12", "11", "10", "8", "7", "6"}
    assert report["audit"]["map_months_after_view"] == dict.fromkeys(months, len(samples) // 6)
    assert "Age of the maps" in (tmp_path / "build_report.html").read_text(encoding="utf-8")


def test_places_are_spelt_as_in_the_published_index(built: Any) -> None:
    first = {source: samples[0] for source, (_, samples, _) in built.items()}
    where = "41.880000,-87.630000"
    assert {source: sample.place for source, sample in first.items()} == {
        "cvusa": f"CVUSA/{where}",
        "vigor": f"VIGOR_Chicago/{where}",
        "cvglobal": f"CVGloable/{where}",
        "omnicity": f"OmniCity/{where}",
        "llmgeo": f"LMMGeo/{where}",
    }
    assert first["cvusa"].id == "cross_view/CVUSA_zoom19/0000001/N/pose_fixed/full"
    assert first["vigor"].id == "cross_view/VIGOR_Chicago/id-_0/N/pose_fixed/full"
    assert json.loads(first["cvglobal"].meta)["capture_time"] == "2022-01"
    assert json.loads(first["llmgeo"].meta)["country"] == "usa"


def test_single_views_are_used_as_they_are(built: Any, downloads: Path) -> None:
    _, samples, _ = built["llmgeo"]
    for sample in samples:
        path = Path(sample.images[0])
        assert path.is_relative_to(downloads / "llmgeo")
        if sample.task == "pose_fixed":
            assert f"_h{90 * 'NESW'.index(sample.answer)}_" in path.name


def test_vigors_labels_agree_with_its_coordinates(built: Any) -> None:
    assert all(float(json.loads(s.meta)["label_differs_px"]) < 1 for s in built["vigor"][1])


def test_wide_panoramas_give_wide_views(built: Any) -> None:
    """A panorama of 65 degrees does not fill a square view of 90 degrees: the view is cut, not padded with black."""
    _, samples, out = built["cvusa"]
    view = pixels(out, samples[0].images[0])
    assert view.shape[:2] == (view_height(48, 90, 360 / 5.5), 48) == (30, 48)
    assert (view.sum(axis=2) > 0).all()


def test_raw_cvusa_panoramas_show_no_view_southwards(downloads: Path, tmp_path: Path) -> None:
    cvusa(tmp_path / "cvusa")
    for path in (tmp_path / "cvusa/streetview/panos").iterdir():
        save(path, compass(0, 0))
    assert span_of(128, 64, CVUSA_RAW_SPAN) == CVUSA_RAW_SPAN
    report, _ = build(tmp_path, "cvusa", tmp_path / "out", tasks=["pose_fixed"])
    assert report["audit"]["answers"]["pose_fixed"] == {"E": 6, "N": 6, "W": 6}
    report, _ = build(tmp_path, "cvusa", tmp_path / "full", tasks=["pose_fixed"], span_deg=(360.0, 180.0))
    assert report["audit"]["answers"]["pose_fixed"]["S"] == 6


def test_eight_views_of_130_degrees(downloads: Path, tmp_path: Path) -> None:
    report, samples = build(downloads, "vigor", tmp_path, views=8, fov_deg=130, tasks=["pose_fixed", "cross_map"])
    assert report["tasks"] == {"pose_fixed": 4 * TRAIN, "cross_map": 8 * TRAIN}
    assert {sample.id.split("/")[3] for sample in samples} == set(COMPASS_POINTS)
    assert all(json.loads(sample.meta)["fov_deg"] == 130 for sample in samples)


def test_headings_can_be_corrected(downloads: Path, tmp_path: Path) -> None:
    """An offset of 180 degrees swaps the images of north and south."""
    settings: dict[str, Any] = {"tasks": ["pose_fixed"]}
    _, plain = build(downloads, "vigor", tmp_path / "a", **settings)
    _, turned = build(downloads, "vigor", tmp_path / "b", heading_offset_deg=180, **settings)
    for one, other in zip(plain, [turned[i ^ 2] for i in range(len(turned))], strict=True):
        assert np.abs(pixels(tmp_path / "a", one.images[0]) - pixels(tmp_path / "b", other.images[0])).mean() < 2
    _, named = build(downloads, "cvglobal", tmp_path / "c", heading_from_name=False, **settings)
    _, right = build(downloads, "cvglobal", tmp_path / "d", **settings)
    first, fifth = named[0].images[0], named[4].images[0]
    assert first == right[0].images[0]  # d0
    assert fifth != right[4].images[0]  # d40


def test_a_rebuild_makes_no_image_again(downloads: Path, tmp_path: Path) -> None:
    first, samples = build(downloads, "vigor", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.*")}
    again, same = build(downloads, "vigor", tmp_path)
    assert (again["images"], again["images_reused"]) == (0, first["images"])
    assert samples == same
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.*")}
    assert first["images"] == TRAIN * (4 + 1 + 9)


def test_the_published_split_is_kept_and_its_overlap_told(built: Any, downloads: Path, tmp_path: Path) -> None:
    report, train, _ = built["cvusa"]
    held, test = build(
        downloads, "cvusa", tmp_path, part="test", tasks=["localization_prior", "pose_fixed"], guard_km=1.2
    )
    assert {s.place for s in train} & {s.place for s in test} == set()
    assert len({s.place for s in test}) == PLACES - TRAIN
    assert report["audit"]["split"]["overlap"]["near"] == 0
    overlap = held["audit"]["split"]["overlap"]
    assert (overlap["training_places"], overlap["near"]) == (6, 3)  # both neighbours of the fourth, one of the eighth
    assert overlap["nearest"][0]["metres"] == pytest.approx(1112, abs=2)


def test_blocks_part_the_sources_from_each_other(tmp_path: Path) -> None:
    """The training places of one build stay away from the held-out places of another."""
    for name in ("vigor", "cvglobal"):
        SOURCES[name](tmp_path / name, 40)
    settings: dict[str, Any] = {
        "split": "blocks", "block_km": 4, "test_share": 0.25, "guard_km": 1.5, "tasks": ["pose_fixed"], "split_seed": 6,
    }  # fmt: skip
    at = {}
    for source, part in (("vigor", "train"), ("cvglobal", "test")):
        report, samples = build(
            tmp_path, source, tmp_path / f"out_{part}", part=part, max_reject_fraction=1, **settings
        )
        at[part] = np.array(sorted({tuple(map(float, s.place.split("/")[1].split(","))) for s in samples}))
        assert set(report["audit"]["split"]["places"]) == {"guard", "test", "train"}
    km = haversine_km(*(at["train"][:, None, axis] for axis in (0, 1)), *(at["test"][None, :, axis] for axis in (0, 1)))
    assert km.min() > 1.5


def test_held_out_datasets_and_earlier_ones_are_kept_clear_of(built: Any, downloads: Path, tmp_path: Path) -> None:
    tasks = {"tasks": ["pose_fixed"]}
    _, first = build(downloads, "vigor", tmp_path / "first", places=3, **tasks)
    report, second = build(downloads, "vigor", tmp_path / "second", exclude=[str(tmp_path / "first")], **tasks)
    assert report["audit"]["split"]["excluded"] == 3
    assert {s.place for s in first} & {s.place for s in second} == set()
    assert len({s.place for s in (*first, *second)}) == TRAIN
    # By place and not by name: CVGlobal's test places keep CVUSA's training ones away.
    build(downloads, "cvglobal", tmp_path / "test", part="test", **tasks)
    report, kept = build(
        downloads, "cvusa", tmp_path / "train", held_out=[str(tmp_path / "test")], guard_km=1.2, **tasks
    )
    assert report["audit"]["split"]["near_held_out"] == 3
    assert len({s.place for s in kept}) == TRAIN - 3


def test_samples_per_task_are_balanced_and_seeded(downloads: Path, tmp_path: Path) -> None:
    report, first = build(downloads, "cvglobal", tmp_path / "a", samples_per_task=8)
    assert set(report["tasks"].values()) == {8}
    for task, counts in report["audit"]["answers"].items():
        options = get_task(task).options
        assert max(counts.values()) - min(counts.get(option, 0) for option in options) <= 1
        assert len({s.place for s in first if s.task == task}) >= 4
    _, again = build(downloads, "cvglobal", tmp_path / "b", samples_per_task=8)
    _, other = build(downloads, "cvglobal", tmp_path / "c", samples_per_task=8, seed=1)
    assert [s.id for s in again] == [s.id for s in first] != [s.id for s in other]


def test_explanations_where_the_source_has_text(downloads: Path, tmp_path: Path) -> None:
    name = next((downloads / "cvglobal/train/streetview2048").iterdir()).name
    (tmp_path / "texts.json").write_text(json.dumps({name: "A grey street with a tower."}))
    _, samples = build(
        downloads, "cvglobal", tmp_path / "out", texts=tmp_path / "texts.json", tasks=["pose_fixed", "intra_map"]
    )
    told = [sample for sample in samples if sample.response.startswith("A grey street with a tower.\n{")]
    assert len(told) == 4 * 10
    assert all(sample.prompt == get_task(sample.task).prompt(explain=True) for sample in told)
    assert all("explain" not in sample.prompt for sample in samples if sample not in told)


@pytest.mark.parametrize("augment", ["turn", "mirror", "both"])
def test_augmented_labels_are_true_of_the_city_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    """Every augmented question shows the images that a mirrored and turned town would give."""
    monkeypatch.setattr(city, "OFF_MIDDLE", 0.0)
    rng = np.random.default_rng(0)
    towns = {}
    for number in range(5):
        lat, lon = coordinates(number)
        name = f"{lat:.8f},{lon:.8f}_2022-01_p{number}_d0_z3"
        towns[name] = city.draw_towns(np.random.default_rng(number), 1, 2)[0]
        save(tmp_path / "cvglobal/train/streetview2048" / f"{name}.png", city.panorama(towns[name], rng, noise=0))
        save(tmp_path / "cvglobal/train/satellite" / f"{name}.png", city.satellite_image(towns[name], rng, noise=0))

    def turned(name: str, kind: Symmetry) -> city.Town:
        return replace(towns[name], walls=kind.map(towns[name].walls), plazas=kind.map(towns[name].plazas))

    @cache
    def drawn(name: str, kind: Symmetry) -> np.ndarray:
        return city.satellite_image(turned(name, kind), rng, noise=0)

    tasks = ["pose_fixed", "pose_random", "intra_map", "cross_map"]
    out = tmp_path / "out"
    _, samples = build(tmp_path, "cvglobal", out, augment=augment, map_size=96, tasks=tasks)
    seen = set()
    for sample in samples:
        meta = json.loads(sample.meta)
        kind = next(s for s in SYMMETRIES[augment] if s.name == meta["symmetry"])
        seen.add(kind.name)
        own = turned(meta["image_id"], kind)
        if sample.task == "pose_fixed":
            view = pixels(out, sample.images[0])
            said = perspective_view(city.panorama(own, rng, noise=0), compass_to_heading(sample.answer), (48, 48))
            assert np.abs(view - said).mean() < 4
        for name, file in zip(meta["maps"], sample.images[1:], strict=True):
            whole = drawn(name.partition("/")[2], kind)
            if meta["crop"] != "full":
                left, top, right, bottom = crop_box(meta["crop"], 96, 96)
                whole = whole[top:bottom, left:right]
            assert (pixels(out, file) != whole).any(axis=2).mean() < 0.03
        if sample.task == "intra_map":
            assert sample.answer == meta["crop"]
        if sample.task == "cross_map":
            assert meta["maps"][int(sample.answer)].endswith(meta["image_id"])
    assert len(seen) > 1


def test_every_bad_record_is_named(tmp_path: Path) -> None:
    vigor(tmp_path / "vigor")
    folder = tmp_path / "vigor/Chicago"
    labels = tmp_path / "vigor/splits__corrected/Chicago/same_area_balanced_train__corrected.txt"
    lines = labels.read_text().splitlines()
    panoramas = [line.split()[0] for line in lines]
    (folder / "panorama" / panoramas[0]).unlink()
    (folder / "panorama" / panoramas[1]).write_bytes(b"no image")
    save(folder / "panorama" / panoramas[2], np.zeros((40, 40, 3)))
    far = beside(coordinates(50), (250, 0), 20)
    save(folder / "panorama/far,42.38,-87.63,.jpg", compass(0, 0))
    save(folder / f"satellite/satellite_{far[0]}_{far[1]}.png", marked(0, 64))
    more = [
        f"far,42.38,-87.63,.jpg satellite_{far[0]}_{far[1]}.png 0.0 -250.0",
        "pano,91.5,-87.63,.jpg satellite_41_-87.png 0 0",
        "only_a_name.jpg",
        f"../../{lines[3]}",
        lines[4],
    ]
    labels.write_text("\n".join([*lines, *more]) + "\n")
    out = tmp_path / "out"
    report, _ = build(tmp_path, "vigor", out, max_reject_fraction=1, tasks=["pose_fixed", "cross_map"])
    file = f"Chicago/{labels.name}"
    assert reasons(out) == {
        "VIGOR_Chicago/id-_0": "missing_image",
        "VIGOR_Chicago/id-_1": "broken_image",
        "VIGOR_Chicago/id-_2": "not_a_panorama",
        "VIGOR_Chicago/far": "out_of_frame",
        f"{file}:8": "invalid_record",
        f"{file}:9": "invalid_record",
        f"{file}:10": "invalid_record",
        "VIGOR_Chicago/id-_5": "duplicate_record",
        # Three places are left: none has three others.
        **{f"VIGOR_Chicago/id-_{n}/cross_map": "too_few_other_maps" for n in (4, 5, 6)},
    }
    assert report["tasks"] == {"pose_fixed": 12}
    assert report["source_records"] == 11


def test_cvusa_names_that_do_not_fit_say_what_was_expected_and_found(tmp_path: Path) -> None:
    root = tmp_path / "cvusa"
    cvusa(root)
    table, splits = root / "all.csv", root / "splits/train-19zl.csv"
    rows = splits.read_text().splitlines()

    def pair(satellite: str, panorama: str) -> str:
        return f"bingmap/19/{satellite},streetview/panos/{panorama},streetview/annotations/0.png"

    save(root / "streetview/panos/input0000005.jpg", compass(4, 0, (176, 32), 360 / 5.5))
    (root / "streetview/panos/0000006.jpg").rename(root / "streetview/panos/6.png")
    save(root / "bingmap/19/0000007.jpg", np.zeros((20, 100, 3)))
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join(["lat,lon,lat,lon,heading", *lines, "8.0,9.0,5.0", "here,9.0", "", "1,41.88,-87.63,41.88"])
    )
    wrong = {
        "image,panorama,annotation": "the panorama 'panorama' is named by no id; expected <number from 1>.jpg",
        pair("0000001.jpg", "pano_1.jpg"): "'streetview/panos/pano_1.jpg' is named by no id",
        pair("1a.jpg", "0000001.jpg"): "the satellite image 'bingmap/19/1a.jpg' is named by no id",
        pair("0000002.jpg", "0000001.jpg"): "have different ids",
        pair("0.jpg", "0.jpg"): "named by no id; expected <number from 1>",
        "bingmap/19/0000001.jpg;streetview/panos/0000001.jpg": "expected a satellite image, a comma and a panorama",
        pair("0000099.jpg", "0000099.jpg"): "all.csv has 12 rows, and none for the id 99",
        pair("0000009.jpg", "0000009.jpg"): "row 9 of all.csv holds '8.0, 9.0, 5.0'; expected latitude and longitude",
        pair("0000010.jpg", "0000010.jpg"): "row 10 of all.csv holds 'here, 9.0'",
        pair("0000011.jpg", "0000011.jpg"): "row 11 of all.csv holds ''",
        pair("0000012.jpg", "0000012.jpg"): "row 12 of all.csv puts camera and satellite image far apart",
        rows[4]: f"image {root}/streetview/panos/0000006.jpg is missing: its folder holds 6.png",
        pair("0000007.jpg", "0000007.jpg"): "0000007.jpg has 100 x 20 pixels; a map is square",
    }
    splits.write_text("\n".join([*rows[:3], pair("0000005.jpg", "input0000005.jpg"), *wrong]) + "\n")
    out = tmp_path / "out"
    _, samples = build(tmp_path, "cvusa", out, max_reject_fraction=1, tasks=["pose_fixed"])
    told = {line["detail"] for line in map(json.loads, (out / "rejected.jsonl").read_text().splitlines())}
    for words in wrong.values():
        assert [words in detail for detail in told].count(True) >= 1, (words, told)
    assert len(told) == len(wrong)
    at = {json.loads(sample.meta)["image_id"]: json.loads(sample.meta)["lat"] for sample in samples}
    assert at == {f"{n + 1:07d}": coordinates(n)[0] for n in (0, 1, 2, 4)}, "the header of all.csv shifts no place"


@pytest.mark.parametrize("source", [*SOURCES])
def test_a_folder_that_is_no_download_says_what_was_expected_and_found(
    downloads: Path, tmp_path: Path, source: str
) -> None:
    (tmp_path / "root/photos").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"root=.*streetview|are missing: expected .*, but this folder holds photos"):
        CrossView(source=source, root=tmp_path / "root").make(tmp_path / "out", "data")
    if source != "cvglobal":  # it is found at any depth
        with pytest.raises(
            ConfigError, match=f"but this folder holds .*; give root={re.escape(str(downloads / source))}"
        ):
            CrossView(source=source, root=downloads).make(tmp_path / "out", "data")


def test_a_lonely_place_has_pose_questions_only(tmp_path: Path) -> None:
    """No other place's map can stand beside its own, so that all its localization answers would be true."""
    cvglobal(tmp_path / "cvglobal")
    name = "10.00000000,20.00000000_2022-01_lonely_d0_z3.jpg"
    save(tmp_path / "cvglobal/train/streetview2048" / name, compass(0, 0))
    save(tmp_path / "cvglobal/train/satellite" / name, marked(50, 64))
    tasks = ["pose_fixed", "localization_prior", "localization_no_prior", "cross_map"]
    report, samples = build(tmp_path, "cvglobal", tmp_path / "out", max_reject_fraction=1, tasks=tasks)
    assert {sample.task for sample in samples if "lonely" in sample.id} == {"pose_fixed"}
    assert report["rejected"] == {"too_few_other_maps": 2}
    assert report["tasks"] == {
        "pose_fixed": 4 * (TRAIN + 1),
        "localization_prior": 4 * TRAIN,
        "localization_no_prior": 36 * TRAIN,
        "cross_map": 4 * TRAIN,
    }


def test_a_missing_tile_is_named(downloads: Path, tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    with pytest.raises(ConfigError, match="missing_tile"):
        build(downloads, "llmgeo", tmp_path / "out", tiles=tmp_path / "tiles", tasks=["pose_fixed"])
    with pytest.raises(ConfigError, match="no_satellite_image"):
        build(downloads, "llmgeo", tmp_path / "out", tiles=None, zoom=None, tasks=["pose_fixed"])


def test_mistakes_name_the_key(downloads: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"source": "cvact"}, "source=cvact"),
        ({"negative_km": (5.0, 0.3)}, r"negative_km=\[5.0,0.3\]"),
        ({"fov_deg": 180.0}, "fov_deg=180"),
        ({"tasks": ["geolocate"]}, "tasks=geolocate"),
        ({"test_share": 1.5}, "test_share=1.5"),
        ({"places": 0}, "places=0"),
        ({"view_size": 3}, "view_size=3"),
        ({"source": "llmgeo", "tiles": tmp_path}, "zoom=null"),
    ):
        with pytest.raises(ConfigError, match=message):
            CrossView(**{"source": "vigor", "root": downloads / "vigor", **settings})
    with pytest.raises(ConfigError, match=r"root=.*none: there is no such folder"):
        CrossView(source="vigor", root=tmp_path / "none").make(tmp_path / "out", "data")
    for source in SOURCES:
        with pytest.raises(ConfigError, match="root="):
            CrossView(source=source, root=tmp_path).make(tmp_path / "out", "data")
    cvglobal(tmp_path / "cvglobal/unsplit")
    for part in ("train", "test"):
        (tmp_path / "cvglobal/unsplit" / part).rename(tmp_path / "cvglobal/unsplit" / f"some_{part}")
    with pytest.raises(ConfigError, match=r"split=published: cvglobal at .* publishes no split"):
        build(tmp_path, "cvglobal", tmp_path / "out")
    with pytest.raises(ConfigError, match="exclude="):
        build(downloads, "vigor", tmp_path / "out", exclude=[str(tmp_path / "nothing")])


def test_the_command(downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["builder=cross_view", "source=vigor", f"root={downloads / 'vigor'}", f"out={tmp_path / 'a, b'}"]
    sizes = ["view_size=48", "map_size=48", "workers=1", "negative_km=[0.3, 20]", "samples_per_task=4", "views=8"]
    assert main([*words, *sizes]) == 0
    assert json.loads((tmp_path / "a, b/build_report.json").read_text())["written"] == 28
    three = [*words[:3], f"out={tmp_path / 'three'}", *sizes, "places=3", "tasks=[pose_fixed]"]
    assert main(three) == 0
    others = [*words[:3], f"out={tmp_path / 'others'}", *sizes, f"exclude={tmp_path / 'three'}", "tasks=[pose_fixed]"]
    assert main(others) == 0
    assert json.loads((tmp_path / "others/build_report.json").read_text())["audit"]["split"]["excluded"] == 3
    assert main(["builder=cross_view", "--help"]) == 0
    assert "negative_km" in capsys.readouterr().out
    assert main([*words, "negative_km=[5, 1]"]) == 2
