"""The questions about a place: true explanations, balanced answers, independence of the choice of tasks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

from data_builders.synthetic.builder import TASKS
from data_builders.synthetic.places import draw_places
from data_builders.synthetic.questions import questions
from geotune.tasks import CROSS_VIEW_TASKS, get_task


def test_explanations_are_true_of_the_towns():
    for place in islice(draw_places(2, "train"), 4):
        plazas = [town.center_plaza for town in place.towns]
        for question in questions(place, TASKS):
            said = question.explanation
            shown = [index for index, _ in question.maps]
            if question.task.startswith("pose"):
                left, right = place.towns[0].around()[question.heading]
                assert f"{left} left, {right} right" in said
                assert question.answer == question.heading
            elif question.task.startswith("localization"):
                assert (question.answer == "true") == (shown == [0])
                assert ("different" in said or "nowhere" in said) == (question.answer == "false")
            elif question.task.startswith("cross_map"):
                assert shown[int(question.answer)] == 0
                assert sorted(shown) == [0, 1, 2, 3]
                if question.crop == "full":
                    assert "Centers: " + ", ".join(f"{plazas[i]} {n}" for n, i in enumerate(shown)) in said
            elif question.task == "intra_map":
                assert question.answer == question.crop


def test_answers_are_balanced():
    asked = [q for place in islice(draw_places(0, "train"), 150) for q in questions(place, CROSS_VIEW_TASKS, 3)]
    for name in CROSS_VIEW_TASKS:
        answers = Counter(question.answer for question in asked if question.task == name)
        total = sum(answers.values())
        for option in get_task(name).options:
            assert abs(answers[option] / total - get_task(name).chance) < 0.05


def test_the_choice_of_tasks_changes_no_question():
    place = next(draw_places(0, "test"))
    every = [q for q in questions(place, TASKS) if q.task == "cross_map_random"]
    assert every == list(questions(place, ("cross_map_random",)))


def test_no_place_is_rounded_to_null_island():
    """0, 0 is what a failed reading gives, so that no reader takes it for an answer."""
    place = replace(next(draw_places(0, "train")), lat=0.043, lon=-0.21)
    (said,) = {q.answer for q in questions(place, ("geolocate",), decimals=0)}
    assert said == '{"latitude": 0.0, "longitude": -0.2}'
    assert get_task("geolocate").parse(said).answer == said
