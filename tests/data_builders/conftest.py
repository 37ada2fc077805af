"""Small index folders in the layouts that GeoX-Bench publishes, quirks included, with an image at every path."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_builders.sources.geox_index import GeoxIndex
from geotune.records import read_samples
from geotune.sample import Sample

HEADINGS = {"N": 0, "E": 90, "S": 180, "W": 270}
PLACES = 5
SIZE = 48


@dataclass(frozen=True)
class Index:
    """A folder of index files and the folder of their images."""

    index_dir: Path
    image_root: Path

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"index_dir": self.index_dir, "image_root": self.image_root, "workers": 1, **more}

    def build(
        self, out: Path, *, max_reject_fraction: float = 0.01, **settings: Any
    ) -> tuple[dict[str, Any], list[Sample]]:
        """Build the dataset `geox` in `out`; returns its report and its samples."""
        report = GeoxIndex(**self.settings(**settings)).make(out, "geox", max_reject_fraction=max_reject_fraction)
        return report, list(read_samples(out / "geox.jsonl"))

    def file(self, name: str) -> Path:
        return self.index_dir / f"{name}.json"

    def edit(self, name: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
        """Apply `change` to the records of one index file and write the file anew."""
        records = json.loads(self.file(name).read_text())
        change(records)
        self.file(name).write_text(json.dumps(records))


def _map(source: str, number: int) -> dict[str, Any]:
    lat, lon = 40 + number / 10, -80 - number / 10
    zoom = int(source.rpartition("zoom")[2]) if "zoom" in source else 18 if source == "CVGloable" else None
    name = {
        "CVGloable": f"satellite/{lat},{lon}_2022-12_p{number}_d167_z3.jpg",
        "CVUSA": f"{zoom}/{number:07d}.jpg",
        "LMMGeo": f"ProcessedTiles/{number}.png",
        "OmniCity": f"./satellite-level/satellite-image-{source[-5:].lower()}/{lat},{lon}_2020-11_p{number}_z2.jpg",
        "VIGOR": f"map/p-{number},{lat},{lon},.png",
    }[source.partition("_")[0]]
    return {"file_path": name, "zoom_level": zoom, "centered": True}


def _ground(source: str, number: int, heading: str) -> dict[str, Any]:
    lat, lon = 40 + number / 10, -80 - number / 10
    family = source.partition("_")[0]
    name = {
        "CVGloable": f"streetview2048/{lat},{lon}_2022-12_p{number}_d167_z3{heading}.jpg",
        "CVUSA": f"views/{number:07d}{heading}.jpg",
        "LMMGeo": f"{HEADINGS[heading]}/{number}.png",
        "OmniCity": f"./street-level/image-panorama/{lat},{lon}_2020-11_p{number}_z2{heading}.jpg",
        "VIGOR": f"image/p-{number},{lat},{lon},{heading}.jpg",
    }[family]
    return {
        "file_path": name,
        "fov": 90,
        "capture_time": None if family in ("CVUSA", "VIGOR") else "2022-12",
        "real_location": f"{lat},{lon}",
        "orientation": heading,
        "degree": HEADINGS[heading] if family == "VIGOR" else float(HEADINGS[heading]),
    }


def _record(source: str, number: int, heading: str) -> dict[str, Any]:
    family = source.partition("_")[0]
    image_id = {
        "CVGloable": f"{number}_{HEADINGS[heading]}",
        "CVUSA": f"{number:07d}",
        "LMMGeo": f"{number}_{HEADINGS[heading]}",
    }.get(family, f"{1000 * number + HEADINGS[heading]}")
    record: dict[str, Any] = {"image_id": image_id, "source": "train", "GroundImage": _ground(source, number, heading)}
    if family != "CVGloable":
        record["original_id"] = str(number)
    if family == "CVUSA":
        record |= {"real distance": [0.5, -0.4], "pixel distance": [-1.5, 1.1]}
    return record


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))


def _draw(index_dir: Path, image_root: Path) -> None:
    for file in index_dir.rglob("*.json"):
        family = file.stem.split("_zoom")[0].split("_view")[0].split("_View")[0]
        for record in json.loads(file.read_text()):
            maps = [record, *record.get("AerialCandidates", [])]
            names = [
                record["GroundImage"]["file_path"],
                *(m["AerialImage"]["file_path"] for m in maps if "AerialImage" in m),
            ]
            for name in names:
                path = image_root / family / name
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                colors = np.random.default_rng(list(str(path.relative_to(image_root)).encode())).integers(
                    0, 256, (6, 6, 3)
                )
                Image.fromarray(colors.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.NEAREST).save(path)


def make_index(root: Path, benchmark: list[str], pool: list[str]) -> Index:
    """Write the index files of the named sources, with `PLACES` places each and four views per place."""
    index = Index(root / "index", root / "images (real)")
    for source in benchmark:
        views = [(number, heading) for number in range(PLACES) for heading in HEADINGS]
        pose = [_record(source, n, h) | {"AerialImage": _map(source, n)} for n, h in views]
        localization, cross_map = [], []
        for turn, (n, h) in enumerate(views):
            true = bool((turn + n) % 2)
            record = _record(source, n, h) | {"AerialImage": _map(source, n if true else (n + 1) % PLACES)}
            record["GroundImage"]["in_range"] = true
            localization.append(record)
            numbers = [(n + 1) % PLACES, (n + 2) % PLACES, (n + 3) % PLACES]
            numbers.insert(turn % 4, n)
            record = _record(source, n, h)
            record["GroundImage"]["in_range"] = False  # stale in the published files
            record["AerialCandidates"] = [{"AerialImage": _map(source, k), "is_original": k == n} for k in numbers]
            cross_map.append(record)
        _write(index.file(f"Orin4_SameLocation/{source}"), pose)
        _write(index.file(f"Location4_50_in_range/{source.replace('view', 'View')}"), localization)
        _write(index.file(f"LocationSelection/{source}"), cross_map)
    for source in pool:
        records = [
            _record(source, n, h) | {"AerialImage": _map(source, n)}
            for n in range(10, 10 + 2 * PLACES)
            for h in HEADINGS
        ]
        _write(index.file(f"Sampled400Data/Orin4/{source}"), records)
    _draw(index.index_dir, index.image_root)
    return index


ALL_LAYOUTS = ["CVGloable", "CVUSA_zoom18", "CVUSA_zoom19", "LMMGeo_zoom20", "OmniCity_view1", "VIGOR_Chicago"]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index of one source, for the benchmark and for the training pool."""
    return make_index(tmp_path, ["CVGloable"], ["CVGloable"])


@pytest.fixture
def new_index(tmp_path: Path) -> Callable[[list[str], list[str]], Index]:
    """A function that writes an index from the names of the benchmark's sources and of the pool's sources."""
    return partial(make_index, tmp_path)


@pytest.fixture(scope="session")
def every_shape(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index with records of all published layouts; tests must not change it."""
    return make_index(tmp_path_factory.mktemp("geox"), ALL_LAYOUTS, ["CVGloable", "CVUSA_zoom18", "CVUSA_zoom19"])
