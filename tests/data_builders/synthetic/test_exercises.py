"""The exercises: they fit their images, their answers are true, and none relates a view to a map."""

from __future__ import annotations

import json
import re
from itertools import islice

import numpy as np
import pytest

from data_builders.synthetic.city import HEADINGS
from data_builders.synthetic.exercises import SKILLS, TEXT_SKILLS, Exchange, exchanges
from data_builders.synthetic.places import draw_places
from data_builders.synthetic.scenes import Context, Scene
from data_builders.synthetic.text import located_text
from geotune.imagery.crops import CROPS, LANDS_AT
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import GEOLOCATE

PLACES = list(islice(draw_places(0, "pretrain"), 2))


def context(seed: int = 0) -> Context:
    return Context(PLACES[0], PLACES[1], np.random.default_rng(seed))


def exercises(skill: str, count: int = 60) -> list[tuple[Scene, Exchange]]:
    stream = context()
    scenes = [stream.scene(skill) for _ in range(count)]
    drawn = [(scene, SKILLS[skill][0](stream, scene)) for scene in scenes]
    return [(scene, exchange) for scene, exchange in drawn if exchange is not None]


@pytest.mark.parametrize("skill", SKILLS)
def test_a_scene_fits_its_skill(skill: str) -> None:
    assert len(exercises(skill)) == 60


@pytest.mark.parametrize("skill", SKILLS)
def test_no_exercise_relates_a_view_to_a_map(skill: str) -> None:
    """A view and a map of one place never stand together, so that nothing is learned about how they relate."""
    for scene, _ in exercises(skill):
        for which, file in scene.images:
            assert which == (1 if file[0] in HEADINGS else 0)


@pytest.mark.parametrize("skill", TEXT_SKILLS)
def test_matching_is_plain_text(skill: str) -> None:
    assert all(not scene.images for scene, _ in exercises(skill))


def test_a_side_is_looked_up_in_what_the_user_wrote() -> None:
    for _, (prompt, answer) in exercises("match_side"):
        left, right = found(r"(\w+) left, (\w+) right", prompt)
        (side,) = found(rf"(\w+) {left} {right}", prompt)
        assert f"So {left} {right} {side}." in answer
        if "JSON" in prompt:
            assert json.loads(answer.splitlines()[-1]) == {"direction": side[0].upper()}


def test_what_is_looked_up_stands_in_the_notes() -> None:
    for _, (prompt, answer) in exercises("look_up"):
        (notes,) = found(r"Notes: (.*)\. Look up", prompt)
        for entry in notes.split(", ") if "same" not in notes else []:
            assert f"So {entry}." in answer


def test_coordinates_are_written_as_the_prompt_says_them() -> None:
    signs = {"north": 1, "east": 1, "south": -1, "west": -1}
    for _, (prompt, answer) in exercises("write_place"):
        said = [part.split() for part in prompt.removesuffix(".").split(": ")[1].split(", ")]
        lat, lon = (float(number) * (signs[word[0]] if word else 1) for *word, number in said)
        assert json.loads(answer) == {"latitude": lat, "longitude": lon}
        assert GEOLOCATE.parse(answer).answer == answer  # in canonical form
    for _, (prompt, answer) in exercises("match_place"):
        ground, trim = found(r"Seen: (\w+) ground, (\w+) trim", prompt)
        expected = []
        for name in (ground, trim):
            word, number = found(rf"{name} (\w+) ([\d.]+)[,.] ", prompt)
            expected.append(float(number) * signs[word])
        assert answer.splitlines()[0] == located_text(ground, trim, Coordinates(*expected))
        assert list(json.loads(answer.splitlines()[1]).values()) == expected
        assert GEOLOCATE.parse(answer).answer == answer.splitlines()[1]


def test_no_exercise_tells_where_a_ground_or_a_trim_lies() -> None:
    """Coordinates come from the prompt alone, and no exercise with images has any."""
    for skill in SKILLS:
        for scene, (prompt, answer) in exercises(skill):
            if "latitude" in answer:
                assert not scene.images
                assert "latitude" in prompt
    by_ground: dict[str, set[str]] = {}
    for _, (prompt, answer) in exercises("match_place"):
        by_ground.setdefault(*found(r"Seen: (\w+)", prompt), set()).add(answer.splitlines()[1])
    assert all(len(places) > 1 for places in by_ground.values())


def test_found_plazas_are_where_the_answer_says() -> None:
    for scene, (prompt, answer) in exercises("find"):
        if scene.crop is None or not scene.cropped:
            continue
        (plaza,) = found(r"Where is the (\w+) plaza", prompt)
        position = found(rf"So {plaza} ([\w ]+)\.", answer)[0].replace(" ", "_")
        present = {at: PLACES[0].towns[0].plaza_at(*context().offset(scene.crop, at)) for at in CROPS}
        assert present.get(position) == (plaza if position in present else None)
        assert position in present or plaza not in present.values()


def test_plazas_are_listed_row_by_row() -> None:
    for scene, (_, answer) in exercises("list_plazas"):
        rows = [row.split() for row in answer.removeprefix("Plazas: ").removesuffix(".").split("; ")]
        assert scene.crop is not None
        for at, (column, row) in LANDS_AT.items():
            plaza = PLACES[0].towns[0].plaza_at(*context().offset(scene.crop, at))
            assert rows[row + 1][column + 1] == plaza


@pytest.mark.parametrize("skill", SKILLS)
def test_questions_in_a_row_are_of_one_kind_and_differ(skill: str) -> None:
    for seed in range(20):
        stream = context(seed)
        scene = stream.scene(skill)
        asked = exchanges(stream, scene, skill, tuple(SKILLS), 3)
        assert 1 <= len(asked) <= 3
        assert len({prompt for prompt, _ in asked}) == len(asked)
        assert bool(scene.images) == (skill not in TEXT_SKILLS)


def found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    assert match is not None, (pattern, text)
    return match.groups()
