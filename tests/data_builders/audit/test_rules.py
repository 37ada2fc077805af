"""Rules that know nothing score the chance, however the questions are balanced; informed rules score more."""

from __future__ import annotations

import numpy as np
import pytest

from data_builders.audit.rules import (
    FOLDS,
    Score,
    candidate_score,
    fold_of,
    identity_score,
    majority_score,
    prior_score,
    table_score,
    value_score,
)

PLACES = 60


def questions(per_place: int, options: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are equally frequent at every place, and the folds of the places."""
    rng = np.random.default_rng(seed)
    answers = np.concatenate([rng.permutation(np.arange(per_place) % options) for _ in range(PLACES)])
    folds = np.repeat([fold_of(f"place {place}") for place in range(PLACES)], per_place)
    return answers, folds


@pytest.mark.parametrize("options", [2, 4, 9])
def test_noise_scores_the_chance(options: int) -> None:
    scores = []
    for seed in range(12):
        answers, folds = questions(2 * options, options, seed)
        noise = np.random.default_rng(seed).normal(size=(2, len(answers)))
        scores.append(value_score(noise, answers, folds, options, PLACES))
    assert np.mean([score.accuracy for score in scores]) == pytest.approx(1 / options, abs=0.02)
    assert not any(score.leaks for score in scores)


def test_a_constant_scores_exactly_the_chance_though_answers_are_unbalanced() -> None:
    answers = np.array([0] * 90 + [1] * 10)
    folds = np.arange(100) % FOLDS
    assert value_score(np.ones((1, 100)), answers, folds, 2, 50).accuracy == 0.5
    assert prior_score(np.bincount(answers), 50).accuracy == 0.9


def test_maps_used_equally_often_do_not_score_below_chance() -> None:
    """Each map is once the true one and once a false one; holding one use out must not count against the other."""
    rng = np.random.default_rng(0)
    brightness = rng.permutation(np.repeat(np.arange(PLACES), 1))
    values = np.concatenate([brightness, brightness[rng.permutation(PLACES)]])
    answers = np.repeat([0, 1], PLACES)
    folds = np.tile([fold_of(f"place {place}") for place in range(PLACES)], 2)
    score = value_score(values[None].astype(float), answers, folds, 2, PLACES)
    assert score.accuracy == pytest.approx(0.5, abs=0.08)
    assert not score.leaks


def test_a_value_that_tells_the_answer_is_found() -> None:
    answers, folds = questions(4, 2, 0)
    rng = np.random.default_rng(1)
    telling = answers + rng.normal(scale=0.3, size=len(answers))
    score = value_score(np.stack([rng.normal(size=len(answers)), telling]), answers, folds, 2, PLACES)
    assert score.accuracy > 0.9
    assert score.leaks


@pytest.mark.parametrize(("way", "found"), [("largest", True), ("odd", True), ("like", True), ("none", False)])
def test_one_of_four_maps(way: str, found: bool) -> None:
    answers, folds = questions(4, 4, 2)
    rng = np.random.default_rng(3)
    values, photo = rng.normal(size=(len(answers), 4)), rng.normal(size=len(answers))
    rows = np.arange(len(answers))
    if way == "largest":
        values[rows, answers] = 5
    elif way == "odd":
        values[rows, answers] = rng.choice([-9, 9], len(answers))
    elif way == "like":
        values[rows, answers] = photo
    score = candidate_score(values, photo, answers, folds, PLACES)
    assert score.leaks == found
    assert (score.accuracy > 0.95) if found else score.accuracy == pytest.approx(0.25, abs=0.04)


def test_a_map_that_is_always_the_false_one_is_known_again() -> None:
    names = np.array([f"own {number}" if number % 2 else f"false {number % 4}" for number in range(200)])
    answers = np.arange(200) % 2
    folds = np.repeat([fold_of(f"place {place}") for place in range(50)], 4)
    assert identity_score(names, answers, folds, 2, 50).leaks
    own = np.array([f"map {number}" for number in range(200)])
    assert identity_score(own, answers, folds, 2, 50).accuracy == 0.5


def test_the_majority_of_each_scale() -> None:
    counts = np.zeros((FOLDS, 2, 2))
    counts[0] = [[50, 42], [0, 8]]
    assert majority_score(counts, 25).accuracy == 0.58
    assert table_score(counts, 25).chance == 0.5


def test_few_places_are_no_evidence() -> None:
    assert Score(0.7, 0.5, 1000, 100).leaks
    assert not Score(0.7, 0.5, 1000, 10).leaks
