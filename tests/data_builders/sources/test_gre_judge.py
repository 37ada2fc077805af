"""Judge samples from a model's own predictions: verdicts, balance, determinism, and errors."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_builders.build import main
from data_builders.sources.gre_judge import GreJudge
from geotune.errors import ConfigError
from geotune.geo import haversine_km
from geotune.records import read_samples, write_samples
from geotune.runs.predictions import Prediction, read_predictions, write_predictions
from geotune.sample import Sample, Turn
from geotune.tasks import get_task
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import GEOLOCATE, coordinates_json

PHOTOS = 30


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset of photos and the predictions on it: one third right, one third far off, one third without answer."""
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    samples, predictions = [], []
    for index in range(PHOTOS):
        at = Coordinates(40 + index / 10, -3.0)
        gold = coordinates_json(at)
        turns = (Turn("user", GEOLOCATE.prompt(explain=False)), Turn("assistant", GEOLOCATE.target(gold)))
        place = f"test/{at.lat:.6f},{at.lon:.6f}"
        samples.append(Sample(f"photo/{index}", ("photo.jpg",), turns, task="geolocate", answer=gold, place=place))
        said = coordinates_json(Coordinates(at.lat + (0.1 if index % 3 == 0 else 5), at.lon))
        raw = f"<think>Dry hills, number {index}.</think><answer>{said}</answer>"
        answer, reason = (None, "no_answer") if index % 3 == 2 else (said, None)
        predictions.append(
            Prediction("photos", f"photo/{index}", "geolocate", place, "test", gold, raw, answer, reason, 0.0)
        )
    write_samples(tmp_path / "photos.jsonl", samples)
    write_predictions(tmp_path / "step_000200.jsonl", predictions)
    return tmp_path / "step_000200.jsonl", tmp_path / "photos.jsonl"


def build(files: tuple[Path, Path], out: Path, **settings: Any) -> tuple[dict[str, Any], list[Sample]]:
    predictions, data = files
    builder = GreJudge(predictions=predictions, data=str(data), **settings)
    report = builder.make(out, "judge", max_reject_fraction=0)
    return report, list(read_samples(out / "judge.jsonl", check_images=True))


def rewrite(files: tuple[Path, Path], change: Any) -> None:
    write_predictions(files[0], change(list(read_predictions(files[0]))))


def test_draws_are_left_out(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, plain = build(files, tmp_path / "plain")
    rewrite(files, lambda read: [*read, *(replace(p, repeat=2, raw=f"{p.raw} Again.") for p in read)])
    report, samples = build(files, tmp_path / "out")
    assert samples == plain
    assert (report["audit"]["predictions"]["draws"], report["audit"]["predictions"]["read"]) == (30, 60)


def test_right_and_wrong_are_balanced_and_true(files: tuple[Path, Path], tmp_path: Path) -> None:
    report, samples = build(files, tmp_path / "out")
    assert Counter(sample.answer for sample in samples) == {"true": 10, "false": 10}
    assert report["audit"]["predictions"] == {
        "correct": 10,
        "incorrect": 10,
        "no_answer": 10,
        "read": 30,
        "threshold_km": 25.0,
    }
    judge = get_task("judge")
    for sample in samples:
        meta = json.loads(sample.meta)
        lat, lon = map(float, sample.place.partition("/")[2].split(","))
        said = GEOLOCATE.coordinates(meta["predicted_answer"])
        assert meta["distance_km"] == pytest.approx(haversine_km(said.lat, said.lon, lat, lon), abs=1e-3)
        assert sample.answer == ("true" if meta["distance_km"] <= 25 else "false")
        assert meta["predicted_answer"] in sample.prompt
        assert "Reasoning: Dry hills, number" in sample.prompt
        assert "<think>" not in sample.prompt
        assert judge.parse(sample.response).answer == sample.answer


def test_the_draw_depends_on_the_seed_and_not_on_the_files_order(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, first = build(files, tmp_path / "a", samples=8)
    _, other = build(files, tmp_path / "b", samples=8, seed=1)
    rewrite(files, lambda rows: random.Random(3).sample(rows, len(rows)))
    _, shuffled = build(files, tmp_path / "c", samples=8)
    assert [s.id for s in first] == [s.id for s in shuffled]
    assert {s.id for s in first} != {s.id for s in other}
    assert Counter(sample.answer for sample in first) == {"true": 4, "false": 4}


def test_several_predictions_on_one_photo(files: tuple[Path, Path], tmp_path: Path) -> None:
    rewrite(files, lambda rows: [*rows, *(replace(row, raw=row.raw + " Again.") for row in rows)])
    _, samples = build(files, tmp_path / "out", reasoning=False)
    assert len({sample.id for sample in samples}) == len(samples) == 40
    assert not any("Reasoning" in sample.prompt for sample in samples)


def test_the_threshold_decides(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"threshold_km=1: 0 predictions are right and 20 wrong"):
        build(files, tmp_path / "out", threshold_km=1)
    with pytest.raises(ConfigError, match=r"20 predictions are right and 0 wrong"):
        build(files, tmp_path / "out", threshold_km=1000)


def test_what_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    good = list(read_predictions(files[0]))
    refused = {
        "answers the task 'pose_fixed'": [*good[:3], replace(good[3], task="pose_fixed")],
        "has no true coordinates": [*good[:3], replace(good[3], gold="")],
        "lacks 1 of the predicted samples": [*good, replace(good[0], id="photo/of another dataset")],
        "has no prediction": [],
    }
    for message, rows in refused.items():
        write_predictions(files[0], rows)
        with pytest.raises(ConfigError, match=message):
            build(files, tmp_path / "out")
    write_predictions(files[0], good)
    with files[0].open("a") as file:
        file.write('{"id": "photo/3"}\n')
    with pytest.raises(ConfigError, match=r"step_000200.jsonl:31: not a prediction, task=None"):
        build(files, tmp_path / "out")
    with pytest.raises(ConfigError, match="predictions="):
        GreJudge(predictions=tmp_path / "none.jsonl", data="x").make(tmp_path, "judge")


def test_other_suites_are_passed_over_when_one_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    rewrite(files, lambda rows: [*rows, replace(rows[0], suite="geox", task="pose_fixed", gold="N")])
    report, _ = build(files, tmp_path / "out", suite="photos")
    assert report["audit"]["predictions"]["of_other_suites"] == 1
    with pytest.raises(ConfigError, match="of the suite 'none'"):
        build(files, tmp_path / "out", suite="none")


def test_the_command(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["builder=gre_judge", f"predictions={files[0]}", f"data={files[1]}", f"out={out}"]
    assert main(words) == 0
    assert json.loads((out / "build_report.json").read_text())["written"] == 20
    assert main(["builder=gre_judge", "--help"]) == 0
    assert main([*words, "threshold_km=-3"]) == 2
