"""Questions about a placed view: draws of maps that give no answer away, gold answers, and samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_builders.questions.draw import generator
from data_builders.questions.placed_view import (
    CROSS_MAP,
    KIND_OF_TASK,
    LOCALIZATION,
    MapShown,
    PlacedView,
    crops_of,
    draw_maps,
    gold_answer,
    view_sample,
)
from geotune.imagery.symmetry import Symmetry
from geotune.tasks import CROSS_VIEW_TASKS, get_task

PLACES, VIEWS = 6, 4
OWN = [place for place in range(PLACES) for _ in range(VIEWS)]


def others(own: int) -> np.ndarray:
    return np.array([number for number in range(PLACES) if number != own])


def test_half_of_the_localization_questions_show_the_own_map() -> None:
    choices = draw_maps(LOCALIZATION, OWN, OWN, PLACES, others, generator(0))
    true: Counter[int] = Counter()
    for own, choice in zip(OWN, choices, strict=True):
        assert choice is not None
        assert len(choice.maps) == 1
        assert (choice.maps[0] == own) == (choice.true_map == 0)
        true[own] += choice.true_map is not None
    assert set(true.values()) == {VIEWS // 2}


def test_the_own_map_stands_at_each_position_of_the_candidates() -> None:
    choices = draw_maps(CROSS_MAP, OWN, OWN, PLACES, others, generator(0))
    positions: Counter[tuple[int, int]] = Counter()
    used: Counter[int] = Counter()
    for own, choice in zip(OWN, choices, strict=True):
        assert choice is not None
        assert choice.true_map is not None
        assert choice.maps[choice.true_map] == own
        assert len(set(choice.maps)) == 4
        positions[own, choice.true_map] += 1
        used.update(number for number in choice.maps if number != own)
    assert set(positions.values()) == {1}
    assert max(used.values()) - min(used.values()) <= 2


def test_a_view_with_too_few_other_maps_has_no_choice() -> None:
    def few(own: int) -> np.ndarray:
        return others(own)[: 2 if own == 0 else 5]

    choices = draw_maps(CROSS_MAP, OWN, OWN, PLACES, few, generator(0))
    assert [choice is None for choice in choices] == [own == 0 for own in OWN]
    # Two are enough for localization.
    assert None not in draw_maps(LOCALIZATION, OWN, OWN, PLACES, few, generator(0))


@pytest.mark.parametrize("task", CROSS_VIEW_TASKS)
def test_answers_are_legal(task: str) -> None:
    for crop in crops_of(task):
        for true_map in (0, 3) if KIND_OF_TASK[task] == CROSS_MAP else (0, None):
            assert gold_answer(task, "W", crop, true_map) in get_task(task).options
    assert gold_answer(task, "W", "left", 2) == {
        "pose_fixed": "W",
        "pose_random": "W",
        "localization_prior": "true",
        "localization_no_prior": "true",
        "intra_map": "left",
        "cross_map": "2",
        "cross_map_random": "2",
    }[task]  # fmt: skip


def test_a_turned_view_keeps_its_id_and_shows_the_turned_crop() -> None:
    view = PlacedView(
        id="a/b/c/N",
        source="b",
        place="b/1.000000,2.000000",
        ground=Path("view.jpg"),
        heading="E",
        facts={"lat": 1.0},
        more_facts={"symmetry": "r1"},
        symmetry=Symmetry(1),
        explanation="A grey street.",
    )
    sample = view_sample(view, "intra_map", "top", [MapShown("map 1", "zoom18", "right.png")], 0)
    assert sample.id == "a/b/c/N/intra_map/top"
    assert sample.images == ("view.jpg", "right.png")
    assert sample.answer == "right"
    assert sample.response.startswith("A grey street.\n")
    assert json.loads(sample.meta) == {
        "lat": 1.0,
        "crop": "right",
        "maps": ["map 1"],
        "map_scales": ["zoom18"],
        "true_map": 0,
        "symmetry": "r1",
    }
