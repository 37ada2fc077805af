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
        {"workers": 0},
    ],
)
def test_mistakes_name_the_key(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}"):
        SyntheticSkills(**settings)
