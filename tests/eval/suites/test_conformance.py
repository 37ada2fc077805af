"""The conformance check: our own suites keep the contract, and each breach of it is found."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from eval.suites import CrossViewSuite, DistanceSuite
from eval.suites.conformance import ContractError, check_suite
from geotune.runs.predictions import Prediction
from geotune.runs.suite_results import Cell, SuiteResult, SuiteRow
from geotune.sample import Sample


@pytest.mark.parametrize("mode", [None, "choice"])
def test_our_suites_keep_the_contract(city: Path, mode: Any) -> None:
    check_suite(CrossViewSuite(path=str(city), answer_mode=mode))
    check_suite(CrossViewSuite(path=str(city), tasks=("intra_map",), samples_per_task=5))
    check_suite(DistanceSuite(path=str(city), answer_mode=mode))
    check_suite(DistanceSuite(path=str(city), answer_mode=mode, draws=4))


@dataclass(kw_only=True)
class Own(CrossViewSuite):
    """A suite with a kind of its own: the share of right answers in each hemisphere."""

    headline = "right"

    def measure(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> SuiteResult:
        north = [p.score for p in predictions if "/-" not in p.place]
        figures = {
            "right": sum(p.score for p in predictions) / len(predictions),
            "north": {"n": len(north), "right": sum(north) / len(north) if north else None},
        }
        rows = [SuiteRow({"where": Cell("everywhere"), "right": Cell(figures["right"], "share")}, figure="right")]  # type: ignore[arg-type]
        return SuiteResult("hemispheres", rows, figures)


def test_an_own_suite_that_keeps_it(city: Path) -> None:
    check_suite(Own(path=str(city)))


def right(predictions: Sequence[Prediction]) -> float:
    return sum(p.score for p in predictions) / len(predictions)


def only_answered(samples: Any, predictions: Any) -> SuiteResult:
    answered = [p for p in predictions if p.answer is not None]
    return SuiteResult("own", [], {"right": right(answered) if answered else 0.0})


def empty_mean(samples: Any, predictions: Any) -> SuiteResult:
    return SuiteResult("own", [], {"right": right([p for p in predictions if p.answer is not None])})


def of_the_first(samples: Any, predictions: Any) -> SuiteResult:
    half = predictions[: len(predictions) // 2 + 1]
    return SuiteResult("own", [], {"right": right(predictions), "first": right(half)})


def drawing(samples: Any, predictions: Any) -> SuiteResult:
    return SuiteResult("own", [], {"right": right(predictions), "luck": random.random()})


def changing(samples: Any, predictions: Any) -> SuiteResult:
    predictions.sort(key=lambda p: p.score)
    samples.pop()
    return SuiteResult("own", [], {"right": right(predictions)})


def losing_rows(samples: Any, predictions: Any) -> SuiteResult:
    rows = [SuiteRow({"a": Cell(p.gold)}) for p in predictions[:1] if p.answer is not None]
    return SuiteResult("own", rows, {"right": right(predictions)})


def losing_figures(samples: Any, predictions: Any) -> SuiteResult:
    answered = {"answered": 1} if any(p.answer for p in predictions) else {}
    return SuiteResult("own", [], {"right": right(predictions), **answered})


def counting_answers(samples: Any, predictions: Any) -> SuiteResult:
    n = sum(p.answer is not None for p in predictions)
    return SuiteResult("own", [SuiteRow({"a": Cell("x")}, n=n)], {"right": right(predictions)})


def another_kind(samples: Any, predictions: Any) -> SuiteResult:
    return SuiteResult("one" if len(predictions) == 1 else "own", [], {"right": right(predictions)})


def not_a_number(samples: Any, predictions: Any) -> SuiteResult:
    return SuiteResult("own", [], {"right": right(predictions), "rate": float("nan")})


def clashing(samples: Any, predictions: Any) -> SuiteResult:
    return SuiteResult("own", [], {"right": right(predictions), "tasks": {"right": {"n": 1}}})


def upside_down(samples: Any, predictions: Any) -> SuiteResult:
    return SuiteResult("own", [], {"right": -right(predictions)})


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda samples, predictions: {"right": 1.0}, "returns a dict, not a SuiteResult"),
        (lambda samples, predictions: SuiteResult("own", [], {}), "headline 'right': there is no such figure"),
        (only_answered, "right does not count unanswered samples: 1.0 with a quarter"),
        (empty_mean, "measure fails on 0 answers to .* samples: ZeroDivisionError"),
        (of_the_first, "first depends on the order of the samples"),
        (drawing, "another result for the same arguments"),
        (changing, "measure changes its arguments"),
        (losing_rows, "with no answer the rows"),
        (losing_figures, "with no answer the figures are others: answered"),
        (counting_answers, "with no answer the rows, or the numbers of questions, are others"),
        (another_kind, "one sample alone changes the kind"),
        (not_a_number, "ValueError: figure rate is nan"),
        (clashing, "right: a task and a figure of the suite have one name"),
        (upside_down, "right does not count unanswered samples"),
    ],
)
def test_a_breach_in_measure(city: Path, monkeypatch: pytest.MonkeyPatch, measure: Any, words: str) -> None:
    monkeypatch.setattr(Own, "measure", lambda self, samples, predictions: measure(samples, predictions))
    with pytest.raises(ContractError, match=words):
        check_suite(Own(path=str(city)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda samples: [], "load gives no sample"),
        (lambda samples: random.sample(samples, len(samples)), "another order, the second time"),
        (lambda samples: [*samples, samples[-1]], "two samples with one id"),
        (lambda samples: sorted(samples, key=lambda s: s.id), "mixes the tasks"),
        (lambda samples: [replace(samples[0], task="find")], "task=find: there is no such task"),
        (lambda samples: [replace(samples[0], images=("view.png",))], "view.png is no absolute path of a file"),
        (lambda samples: [replace(samples[0], images=("/gone.png",))], "/gone.png is no absolute path of a file"),
        (lambda samples: [replace(samples[0], answer="up")], "can't write its gold answer"),
    ],
)
def test_a_breach_in_load(city: Path, monkeypatch: pytest.MonkeyPatch, change: Any, words: str) -> None:
    load = CrossViewSuite.load
    monkeypatch.setattr(Own, "load", lambda self, key: change(load(self, key)))
    with pytest.raises(ContractError, match=words):
        check_suite(Own(path=str(city)))


@dataclass(kw_only=True)
class Wavering(Own):
    """A suite that measures how often a draw says what the greedy answer says."""

    draws: int = 2

    def measure(self, samples: Any, predictions: Any, draws: Any = ()) -> SuiteResult:
        pairs = [(p, draw) for p, of_sample in zip(predictions, draws, strict=True) for draw in of_sample]
        assert {draw.repeat for _, draw in pairs} == {1, 2}
        assert all(p.id == draw.id for p, draw in pairs)
        same = sum(p.answer == draw.answer for p, draw in pairs) / len(pairs)
        return SuiteResult("own", [], {"right": right(predictions), "same": same})


def test_an_own_suite_with_draws(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_suite(Wavering(path=str(city)))
    own = Wavering.measure

    def emptying(self: Any, samples: Any, predictions: Any, draws: Any) -> SuiteResult:
        result = own(self, samples, predictions, draws)
        draws[0].clear()
        return result

    monkeypatch.setattr(Wavering, "measure", emptying)
    with pytest.raises(ContractError, match="measure changes its arguments"):
        check_suite(Wavering(path=str(city)))
    monkeypatch.setattr(Wavering, "measure", lambda self, samples, predictions: own(self, samples, predictions, ()))
    with pytest.raises(ContractError, match=r"measure fails on .*TypeError"):
        check_suite(Wavering(path=str(city)))


def test_a_breach_in_the_attributes(city: Path) -> None:
    suite = Own(path=str(city))
    suite.answer_mode = "guess"  # type: ignore[assignment]
    with pytest.raises(ContractError, match="answer_mode is 'guess'"):
        check_suite(suite)
    suite = Own(path=str(city))
    suite.headline = "north/right"  # type: ignore[misc]
    with pytest.raises(ContractError, match="set it on the class"):
        check_suite(suite)
    suite.headline = 3  # type: ignore[assignment, misc]
    with pytest.raises(ContractError, match="headline is 3"):
        check_suite(suite)
    drawing = DistanceSuite(path=str(city), draws=4)
    drawing.draw_temperature = 0
    with pytest.raises(ContractError, match="draw_temperature is 0"):
        check_suite(drawing)
    drawing.draws = -2
    with pytest.raises(ContractError, match="draws is -2"):
        check_suite(drawing)
