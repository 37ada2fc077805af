"""Predictions as a function of samples and outcomes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from geotune.runs.outcomes import Outcome
from geotune.runs.reading import NOT_ASKED, best_option, draws_from, predictions_from
from geotune.sample import Sample, Turn
from geotune.tasks import get_task

POSE = get_task("pose_fixed")


def sample(name: str, answer: str = "N") -> Sample:
    turns = (Turn("user", "<image>\n<image>\nWhere?"), Turn("assistant", POSE.target(answer)))
    return Sample(
        id=name, images=("a.png", "b.png"), turns=turns, task="pose_fixed", answer=answer, place="p", source="s"
    )


SAMPLES = [sample(name, answer) for name, answer in zip("abcdefg", "NESWNES", strict=True)]


def said(name: str, answer: str, **more: Any) -> Outcome:
    return Outcome(**{"id": name, "status": "answered", "text": POSE.target(answer), **more})


def test_one_prediction_a_sample_whatever_came_back() -> None:
    outcomes = [
        said("f", "W"),
        said("a", "N"),
        Outcome(id="b", status="failed", reason="timeout"),
        Outcome(id="c", status="refused", text=POSE.target("S"), reason="safety"),
        Outcome(id="d", status="cut_off", text="It may be so that"),
        Outcome(id="e", status="cut_off", text=POSE.target("N") + " because"),
    ]
    predictions = predictions_from("geox", SAMPLES, outcomes)
    assert [p.id for p in predictions] == list("abcdefg")
    assert [p.answer for p in predictions] == ["N", None, None, None, "N", "W", None]
    assert [p.score for p in predictions] == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert [p.reason for p in predictions] == [None, "timeout", "safety", "no_answer", None, None, NOT_ASKED]
    assert predictions[2].raw == POSE.target("S"), "a refusal's text is kept and not read"
    assert [(p.raw, p.gold, p.suite, p.place) for p in predictions][6] == ("", "S", "geox", "p")
    random.Random(0).shuffle(outcomes)
    assert predictions_from("geox", SAMPLES, outcomes) == predictions


def test_the_last_outcome_of_a_sample_counts() -> None:
    outcomes = [Outcome(id="a", status="failed", reason="timeout"), said("a", "N")]
    assert predictions_from("geox", SAMPLES[:1], outcomes)[0].answer == "N"
    assert predictions_from("geox", SAMPLES[:1], outcomes[::-1])[0].reason == "timeout"


def test_variants_and_draws_are_read_one_by_one() -> None:
    outcomes = [said("a", "N"), said("a", "E", repeat=3), said("a", "W", variant="mirrored")]
    read = {
        (variant, repeat): predictions_from("geox", SAMPLES[:1], outcomes, variant=variant, repeat=repeat)[0].answer
        for variant in ("", "mirrored")
        for repeat in (0, 3)
    }
    assert read == {("", 0): "N", ("", 3): "E", ("mirrored", 0): "W", ("mirrored", 3): None}


def test_the_draws_of_each_sample() -> None:
    """One prediction per draw, whether or not it came, and none of the greedy answers."""
    outcomes = [said("a", "N"), said("b", "W", repeat=2), said("b", "S", repeat=1), said("a", "E", repeat=3)]
    outcomes += [said("a", "S", repeat=1, variant="mirrored"), said("a", "W", repeat=4)]
    draws = draws_from("geox", SAMPLES[:2], iter(outcomes), 3)
    assert [[p.answer for p in of_sample] for of_sample in draws] == [[None, None, "E"], ["S", "W", None]]
    assert [p.reason for p in draws[0]] == [NOT_ASKED, NOT_ASKED, None]
    assert [[(p.id, p.repeat) for p in of_sample] for of_sample in draws] == [
        [(name, repeat) for repeat in (1, 2, 3)] for name in "ab"
    ]
    assert {p.repeat for p in predictions_from("geox", SAMPLES[:2], outcomes)} == {0}
    assert draws_from("geox", SAMPLES[:1], outcomes[4:5], 1, variant="mirrored")[0][0].answer == "S"
    assert draws_from("geox", [], [], 3) == []


def test_an_outcome_of_no_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="geox: an outcome of 'z'"):
        predictions_from("geox", SAMPLES, [said("z", "N")])


def test_scores_of_options() -> None:
    scores = {"W": -3.0, "N": -2.0, "E": -1.0, "S": float("-inf")}
    scored = Outcome(id="a", status="answered", option_logprobs=scores)
    (prediction,) = predictions_from("geox", SAMPLES[:1], [scored])
    assert (prediction.answer, prediction.raw) == ("E", POSE.target("E"))
    assert prediction.option_logprobs == (-2.0, -1.0, None, -3.0), "in the task's order"
    explained = replace(scored, text="A street.\n" + POSE.target("N"))
    (prediction,) = predictions_from("geox", SAMPLES[:1], [explained])
    assert (prediction.answer, prediction.raw) == ("E", "A street.\n" + POSE.target("E"))
    nothing = replace(scored, option_logprobs=dict.fromkeys("NESW"))
    (prediction,) = predictions_from("geox", SAMPLES[:1], [nothing])
    assert (prediction.answer, prediction.reason, prediction.raw) == (None, "no_finite_score", "")
    assert prediction.option_logprobs == (None,) * 4
    some = replace(scored, option_logprobs={"N": -1.0})
    assert predictions_from("geox", SAMPLES[:1], [some])[0].option_logprobs == (-1.0, None, None, None)


def test_best_option() -> None:
    assert best_option([-3.0, -1.0, -1.0]) == 1
    assert best_option([float("nan"), float("-inf"), -9.0]) == 2
    assert best_option([float("nan"), float("inf")]) is None
    assert best_option([None, -2.0]) == 1
    assert best_option([]) is None
