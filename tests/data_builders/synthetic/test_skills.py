"""The builder of the base skills: what it writes, and mistakes in its fields."""

from __future__ import annotations

import pytest

from data_builders.synthetic.exercises import SKILLS
from data_builders.synthetic.skills import SyntheticSkills
from geotune.errors import ConfigError
from geotune.records import read_samples


def test_build_writes_all_skills_and_every_image(tmp_path):
    report = SyntheticSkills(places=8, records_per_place=40, workers=1).make(tmp_path, "skills")
    samples = list(read_samples(tmp_path / "skills.jsonl", check_images=True))
    assert set(report["tasks"]) == set(SKILLS)
    assert len(samples) == report["written"] == 320


def test_build_of_single_images(tmp_path):
    builder = SyntheticSkills(places=3, skills=["view", "list_walls"], beside=False, workers=1)
    builder.make(tmp_path, "skills")
    assert {len(sample.images) for sample in read_samples(tmp_path / "skills.jsonl")} == {1}


def test_asides_stand_between_the_images_and_the_first_question(tmp_path):
    written = {}
    for asides in (0, 20):
        folder = tmp_path / str(asides)
        SyntheticSkills(places=3, questions=2, asides=asides, workers=1).make(folder, "skills")
        written[asides] = list(read_samples(folder / "skills.jsonl", check_images=True))
    lengths = set()
    for plain, other in zip(written[0], written[20], strict=True):
        assert (plain.id, plain.images, plain.turns[1:]) == (other.id, other.images, other.turns[1:])
        *_, question = plain.turns[0].text.split("\n")
        *_, longer = other.turns[0].text.split("\n")
        aside = longer.removesuffix(question).split()
        lengths.add(len(aside))
        assert longer == " ".join([*aside, question])
        assert plain.images or not aside
    assert lengths == set(range(21))


@pytest.mark.parametrize(
    "settings",
    [
        {"places": 1},
        {"records_per_place": 0},
        {"questions": 0},
        {"split": "test"},
        {"skills": ["pose_fixed"]},
        {"skills": []},
        {"skills": ["view", "centers"], "beside": False},
        {"skills": None, "beside": False},
        {"asides": -1},
        {"workers": 0},
    ],
)
def test_mistakes_name_the_key(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}"):
        SyntheticSkills(**settings)
