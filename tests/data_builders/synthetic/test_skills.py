"""Base skills: what the embedded backbone learns first, and what it must never see."""

from __future__ import annotations

import json
import re
from itertools import islice

import numpy as np
import pytest

from data_builders.build import build_dataset
from data_builders.imagery.crops import CROPS
from data_builders.synthetic.city import HEADINGS
from data_builders.synthetic.places import draw_places
from data_builders.synthetic.skills import SKILLS, Context, SyntheticSkills
from geotune.errors import ConfigError
from geotune.sample import read_samples

PLACES = list(islice(draw_places(0, "pretrain"), 2))


def exercises(skill, count=60):
    rng = np.random.default_rng(0)
    return [SKILLS[skill][0](Context(PLACES[0], PLACES[1], rng)) for _ in range(count)]


@pytest.mark.parametrize("skill", SKILLS)
def test_no_exercise_relates_a_view_to_a_map(skill):
    """A view and a map of one place never stand together, so that nothing can be learnt about what joins them."""
    for record in exercises(skill):
        for which in (0, 1):
            shown = [file for place, file in record.pictures if place == which]
            views = [file for file in shown if file[0] in HEADINGS]
            assert not views or len(views) == len(shown)


@pytest.mark.parametrize("skill", ["match_side", "compare", "match_number", "repeat", "write_json"])
def test_matching_is_plain_text(skill):
    assert all(not record.pictures for record in exercises(skill))


def test_a_side_is_looked_up_in_what_the_user_wrote():
    for record in exercises("match_side"):
        left, right = re.search(r"(\w+) left, (\w+) right", record.prompt).groups()
        side = re.search(rf"(\w+) {left} {right}", record.prompt).group(1)
        assert f"So {left} {right} {side}." in record.answer
        if "JSON" in record.prompt:
            assert json.loads(record.answer.splitlines()[-1]) == {"direction": side[0].upper()}


def test_found_plazas_are_where_the_answer_says():
    for record in exercises("find"):
        file = record.pictures[-1][1]
        if file == "map0.png":
            continue
        plaza = re.search(r"Where is the (\w+) plaza", record.prompt).group(1)
        position = re.search(r"plaza is ([\w ]+)\.", record.answer).group(1).replace(" ", "_")
        context = Context(PLACES[0], PLACES[1], np.random.default_rng(0))
        crop = file.removeprefix("map0_").removesuffix(".png")
        present = {at: PLACES[0].towns[0].plaza_at(*context.offset(crop, at)) for at in CROPS}
        assert present.get(position) == (plaza if position in present else None)
        assert position in present or plaza not in present.values()


def test_build_writes_all_skills_and_every_picture(tmp_path):
    report = build_dataset(SyntheticSkills(places=8, records_per_place=40, workers=1), tmp_path, "skills")
    samples = list(read_samples(tmp_path / "skills.jsonl", check_images=True))
    assert set(report["tasks"]) == set(SKILLS)
    assert len(samples) == report["written"] == 320


def test_build_of_single_pictures(tmp_path):
    builder = SyntheticSkills(places=3, skills=["view", "list_walls"], beside=False, workers=1)
    build_dataset(builder, tmp_path, "skills")
    assert {len(sample.images) for sample in read_samples(tmp_path / "skills.jsonl")} == {1}


@pytest.mark.parametrize(
    "settings",
    [
        {"places": 1},
        {"records_per_place": 0},
        {"split": "test"},
        {"skills": ["pose_fixed"]},
        {"skills": []},
        {"workers": 0},
    ],
)
def test_mistakes_name_the_key(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}"):
        SyntheticSkills(**settings)
