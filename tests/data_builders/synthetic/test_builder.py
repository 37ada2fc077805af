"""The synthetic city as a dataset: counts, determinism, readable answers, no shortcut."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from data_builders.audit.findings import Findings
from data_builders.audit.survey import Survey
from data_builders.synthetic.builder import MEAN_COLOR_TASKS, TASKS, SyntheticCity
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.tasks import CROSS_VIEW_TASKS, get_task


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    out = tmp_path_factory.mktemp("city")
    report = SyntheticCity(places=6, seed=1, workers=1).make(out, "synthetic")
    return out, report, list(read_samples(out / "synthetic.jsonl", check_images=True))


def test_every_view_gives_geox_benchs_39_questions_and_one_photo_to_locate(city):
    _, report, samples = city
    per_task = Counter(sample.task for sample in samples)
    assert report["written"] == len(samples) == 6 * 4 * 40
    assert per_task == report["tasks"]
    full = {"pose_fixed", "localization_prior", "cross_map", "geolocate"}
    assert per_task == {task: 24 if task in full else 9 * 24 for task in TASKS}


def test_what_the_assistant_says_reads_as_the_gold_answer(city):
    for sample in city[2]:
        task = get_task(sample.task)
        assert sample.turns[0].text == task.prompt(explain=True)
        parsed = task.parse(sample.turns[1].text)
        assert task.score(parsed, sample.answer) == 1.0


@pytest.fixture(scope="module")
def large_city(tmp_path_factory):
    """A city with at least 1,500 questions of each task, at the sizes that the quickstart uses."""
    out = tmp_path_factory.mktemp("large")
    report = SyntheticCity(places=400, split="test", crops_per_view=2, workers=1).make(out, "synthetic")
    return out, report


def test_no_mean_color_shortcut(large_city):
    """Taking the nearest mean color stays within five points of chance."""
    _, report = large_city
    assert report["audit"]["shortcuts"]["mean_color"].keys() == set(MEAN_COLOR_TASKS)
    for task, accuracy in report["audit"]["shortcuts"]["mean_color"].items():
        assert abs(accuracy - get_task(task).chance) < 0.05, (task, accuracy)


def test_no_rule_of_the_audit_beats_chance(large_city):
    """The files are as the drawing makes them: padding them to one size would blind the audit alone."""
    out, _ = large_city
    survey = Survey(per_group=1600)
    for sample in read_samples(out / "synthetic.jsonl"):
        survey.add(sample)
    rules = Findings(survey, out, with_images=1600 * len(TASKS)).rules
    assert {"file_size", "brightness", "answer_prior", "place", "known_map"} <= rules.keys()
    for rule, by_task in rules.items():
        for task, by_source in by_task.items():
            score = by_source["synthetic"]
            assert score.n >= 1500
            assert abs(score.accuracy - score.chance) < 0.05, (rule, task, score)
    assert rules["file_size"].keys() == set(CROSS_VIEW_TASKS)


def test_coordinates_have_the_decimals_that_are_asked_for(tmp_path):
    answers = {}
    for decimals in (0, 1, 4):
        out = tmp_path / str(decimals)
        SyntheticCity(places=6, decimals=decimals, tasks=["geolocate"], workers=1).make(out, "city")
        answers[decimals] = [sample.answer for sample in read_samples(out / "city.jsonl", check_images=True)]
        assert {path.name for path in out.rglob("*.png")} == {f"{heading}.png" for heading in "NESW"}
    for fine, *coarse in zip(answers[4], answers[0], answers[1], strict=True):
        at = json.loads(fine)
        for text, decimals in zip(coarse, (0, 1), strict=True):
            assert json.loads(text) == {key: round(value, decimals) for key, value in at.items()}
    assert any("-" in answer for answer in answers[0])


def test_a_build_is_a_function_of_its_seed(tmp_path):
    for name, places in (("a", 3), ("b", 3), ("more", 5)):
        SyntheticCity(places=places, seed=4, workers=1).make(tmp_path / name, "city")
    first, again, more = ((tmp_path / name / "city.jsonl").read_text() for name in ("a", "b", "more"))
    assert first == again
    assert more.startswith(first)
    for image in sorted((tmp_path / "a" / "images").rglob("*.png")):
        other = tmp_path / "b" / image.relative_to(tmp_path / "a")
        assert image.read_bytes() == other.read_bytes()


def test_a_rebuild_reuses_the_images(tmp_path):
    first = SyntheticCity(places=2, workers=1).make(tmp_path, "city")
    again = SyntheticCity(places=3, workers=1).make(tmp_path, "city")
    assert (first["images"], again["images"], again["images_reused"]) == (88, 44, 88)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"places": 0}, "places=0"),
        ({"split": "dev"}, "split=dev"),
        ({"tasks": ["judge"]}, "judge"),
        ({"crops_per_view": 10}, "crops_per_view=10"),
        ({"view_size": 3}, "view_size=3"),
        ({"decimals": 7}, "decimals=7"),
        ({"decimals": -1}, "decimals=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
        ({"tasks": []}, "tasks="),
    ],
)
def test_mistakes_name_the_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticCity(**settings)


def test_records_name_their_place_and_images(city):
    out, _, samples = city
    for sample in samples:
        kind, where = sample.place.split("/")
        lat, lon = map(float, where.split(","))
        assert kind == "synthetic"
        assert -60 <= lat <= 60
        assert -180 <= lon <= 180
        assert all((out / name).is_file() and not Path(name).is_absolute() for name in sample.images)
        assert json.loads(sample.meta)["crop"] == sample.id.rsplit("/", 1)[1]
