"""The questions of GeoX-Bench's training pool: other places' maps are drawn evenly and show other ground."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from geotune.geo import haversine_km
from geotune.sample import Sample


@pytest.fixture(scope="module")
def train(every_shape: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[Sample], Path]:
    out = tmp_path_factory.mktemp("train")
    return *every_shape.build(out, set="train", min_distance_m=100), out


def test_48_questions_a_location(train: Any) -> None:
    report, samples, _ = train
    # CVUSA's ten locations stand in both of its files and are asked about once.
    assert Counter(Counter(sample.place for sample in samples).values()) == {48: 20}
    assert report["written"] == 48 * 20
    assert report["tasks"] == {"pose_fixed": 80, "localization_prior": 80, "intra_map": 720, "cross_map": 80}
    assert Counter(sample.source for sample in samples) == {
        "CVGloable": 480,
        "CVUSA_zoom18": 240,
        "CVUSA_zoom19": 240,
    }


def test_drawn_maps_tell_nothing_by_themselves(train: Any) -> None:
    report, samples, _ = train
    assert set(report["audit"]["shortcuts"]["zoom"].values()) == {0.5}
    assert report["audit"]["answers"]["localization_prior"] == {"false": 40, "true": 40}
    assert report["audit"]["answers"]["cross_map"] == {str(position): 20 for position in range(4)}
    places = {}
    for sample in samples:
        if sample.task == "pose_fixed":
            places[sample.source, json.loads(sample.meta)["maps"][0]] = sample.place
    others: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        meta = json.loads(sample.meta)
        assert len(set(meta["map_scales"])) == 1
        assert len(set(sample.images)) == len(sample.images)
        if sample.task in ("localization_prior", "cross_map"):
            for number, name in enumerate(meta["maps"]):
                other = places.get((sample.source, name))
                assert (other == sample.place) == (number == meta["true_map"]) or other is None
                if other is not None and number != meta["true_map"]:
                    lat, lon = map(float, other.partition("/")[2].split(","))
                    assert haversine_km(meta["lat"], meta["lon"], lat, lon) > 0.1
                if number != meta["true_map"]:
                    others[f"{sample.source} {sample.task}"][name] += 1
    for used in others.values():
        assert max(used.values()) - min(used.values()) <= 2


def test_draws_depend_on_the_seed_alone(index: Any, tmp_path: Path) -> None:
    _, first = index.build(tmp_path / "a", set="train", seed=3)
    _, again = index.build(tmp_path / "b", set="train", seed=3, workers=2)
    _, other = index.build(tmp_path / "c", set="train", seed=4)

    def question(sample: Sample) -> tuple[str, str, str]:
        return sample.id, sample.answer, sample.meta

    assert list(map(question, first)) == list(map(question, again))
    assert [sample.id for sample in first] == [sample.id for sample in other]
    assert list(map(question, first)) != list(map(question, other))


def test_no_map_of_the_same_ground(index: Any, tmp_path: Path) -> None:
    """Of ten places in a row 100 m apart, some have too few others 500 m away; no nearer map is drawn."""

    def gather(records: list[dict]) -> None:
        for number, record in enumerate(records):
            record["GroundImage"]["real_location"] = f"{41 + number // 4 * 0.0009:.6f},-80.0"

    index.edit("Sampled400Data/Orin4/CVGloable", gather)
    report, samples = index.build(tmp_path / "out", set="train", max_reject_fraction=1)
    assert report["rejected"]["too_few_other_maps"] > 0
    latitudes = {
        json.loads(sample.meta)["maps"][0]: json.loads(sample.meta)["lat"]
        for sample in samples
        if sample.task == "pose_fixed"
    }
    for sample in samples:
        meta = json.loads(sample.meta)
        for number, name in enumerate(meta["maps"]):
            if number != meta["true_map"]:
                assert abs(latitudes[name] - meta["lat"]) * 111_200 > 499


def test_a_map_that_is_gone_is_not_drawn(index: Any, tmp_path: Path) -> None:
    (gone,) = (index.image_root / "CVGloable" / "satellite").glob("*p12_*")
    gone.unlink()
    report, samples = index.build(tmp_path, set="train", max_reject_fraction=0.2)
    assert report["rejected"] == {"missing_image": 4}
    assert len(samples) == 9 * 48
    assert not any(str(gone) in sample.images for sample in samples)
