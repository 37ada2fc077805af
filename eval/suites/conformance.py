"""Checks a suite against the contract of `eval.suites.base.Suite`, for the tests of whoever writes one."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from eval.suites.base import ANSWER_MODES, Suite, draw_count, measured_by
from geotune.config.figure_names import direction_of
from geotune.errors import ConfigError
from geotune.runs.figures import figures
from geotune.runs.outcomes import Outcome
from geotune.runs.predictions import Prediction
from geotune.runs.reading import draws_from, predictions_from
from geotune.runs.suite_results import SuiteResult, rows_of
from geotune.sample import Sample
from geotune.tasks import get_task

NAME = "suite"
"""Name of the suite in the checks."""


class ContractError(Exception):
    """A suite breaks its contract; the message says how."""


def check_suite(suite: Suite) -> None:
    """Load a suite, measure answers of many kinds, and raise ContractError at the first breach of the contract.

    The answers are: all right, none, a quarter of them, a single sample, and the same in another order. In a suite with
    draws, all draws for a sample are as its greedy answer. No model is needed; it takes a few times as long as
    measuring the suite once.
    """
    _check_attributes(suite)
    samples = suite.load(NAME)
    _check_samples(samples, suite.load(NAME))
    right = _measure(suite, samples, _all)
    nothing = _measure(suite, samples, _none)
    quarter = _measure(suite, samples, _a_quarter)
    for answers, entry in (("no answer", nothing), ("a quarter of the answers", quarter)):
        _check_same_form(right, entry, answers)
    turned = list(samples)
    random.Random(0).shuffle(turned)
    _check_equal(quarter, _measure(suite, samples, _a_quarter, order=turned))
    if len(samples) > 4:
        _check_unanswered_count(right, nothing, quarter)
    for sample in samples[:1] + samples[-1:]:
        for alone in (_measure(suite, [sample], _all), _measure(suite, [sample], _none)):
            _require(alone["kind"] == right["kind"], "one sample alone changes the kind of the result")


def _all(index: int) -> bool:
    return True


def _none(index: int) -> bool:
    return False


def _a_quarter(index: int) -> bool:
    return index % 4 == 0


def _require(fine: object, problem: str) -> None:
    if not fine:
        raise ContractError(problem)


def _check_attributes(suite: Suite) -> None:
    """Check the attributes that a suite may have."""
    mode, headline = getattr(suite, "answer_mode", None), getattr(suite, "headline", None)
    _require(
        mode is None or mode in ANSWER_MODES,
        f"answer_mode is {mode!r}: choose one of {', '.join(ANSWER_MODES)}, or None",
    )
    _require(headline is None or isinstance(headline, str), f"headline is {headline!r}: give a figure's name, or None")
    of_class = getattr(type(suite), "headline", None)
    _require(headline == of_class, f"headline is {headline!r}, and {of_class!r} on the class: set it on the class")
    draws, temperature = getattr(suite, "draws", 0), getattr(suite, "draw_temperature", 1.0)
    _require(isinstance(draws, int) and draws >= 0, f"draws is {draws!r}: give a number of answers, or 0 for none")
    is_positive = isinstance(temperature, int | float) and 0 < temperature < math.inf
    _require(is_positive, f"draw_temperature is {temperature!r}: give a number above 0")


def _check_samples(samples: Sequence[Sample], again: Sequence[Sample]) -> None:
    """Check what `load` gave, twice."""
    _require(samples, "load gives no sample")
    _require(list(samples) == list(again), "load gives other samples, or another order, the second time")
    ids = [sample.id for sample in samples]
    _require(len(set(ids)) == len(ids), "load gives two samples with one id")
    blocks = [task for task, _ in groupby(sample.task for sample in samples)]
    _require(len(set(blocks)) == len(blocks), "load mixes the tasks: all samples of a task must stand together")
    for sample in samples:
        missing = [image for image in sample.images if not Path(image).is_absolute() or not Path(image).is_file()]
        _require(not missing, f"{sample.id}: {', '.join(missing)} is no absolute path of a file")
        try:
            task = get_task(sample.task)
        except ConfigError as error:
            raise ContractError(f"{sample.id}: {error}") from error
        try:
            score = task.score(task.parse(task.target(sample.answer)), sample.answer)
        except ValueError as error:
            raise ContractError(f"{sample.id}: {task.name} can't write its gold answer: {error}") from error
        _require(score > 0, f"{sample.id}: the gold answer {sample.answer!r} is not read as right by {task.name}")


def _measure(
    suite: Suite, samples: Sequence[Sample], answered: Callable[[int], bool], order: Sequence[Sample] | None = None
) -> dict[str, Any]:
    """Measure twice the right answers to some samples; the others are unanswered. Returns the suite's entry.

    answered: whether the sample of that index in `samples` is answered. order: the samples in another order.
    """
    texts = {s.id: get_task(s.task).target(s.answer) for index, s in enumerate(samples) if answered(index)}
    count = draw_count(suite)
    outcomes = [
        Outcome(id=name, repeat=repeat, status="answered", text=text)
        for name, text in texts.items()
        for repeat in range(count + 1)
    ]
    shown = list(order or samples)
    predictions = predictions_from(NAME, shown, outcomes)
    draws = draws_from(NAME, shown, outcomes, count) if count else []
    first = _result(suite, shown, predictions, draws)
    second = _result(suite, shown, predictions, draws)
    _require(first == second, "measure gives another result for the same arguments")
    read_back = json.loads(json.dumps(first))
    _require(rows_of(read_back) == rows_of(first), "the rows are not the same after they were written and read")
    return first


def _result(
    suite: Suite, samples: list[Sample], predictions: list[Prediction], draws: list[list[Prediction]]
) -> dict[str, Any]:
    given = list(samples), list(predictions), [list(of_sample) for of_sample in draws]
    try:
        result = measured_by(suite, samples, predictions, draws)
        _require(isinstance(result, SuiteResult), f"measure returns a {type(result).__name__}, not a SuiteResult")
        entry = result.entry(getattr(suite, "headline", None))
    except ContractError:
        raise
    except Exception as error:
        answered = sum(prediction.answer is not None for prediction in predictions)
        of = f"{answered} answers to {len(samples)} samples"
        raise ContractError(f"measure fails on {of}: {type(error).__name__}: {error}") from error
    _require(given == (samples, predictions, draws), "measure changes its arguments")
    clash = set(entry.get("tasks", ())) & set(entry)
    _require(not clash, f"{', '.join(sorted(clash))}: a task and a figure share a name")
    return {"answer_mode": "generate", **entry}


def _check_same_form(right: Mapping[str, Any], other: Mapping[str, Any], answers: str) -> None:
    """Check that answers change neither the kind nor the figures, rows and numbers of questions that there are."""
    _require(right["kind"] == other["kind"], f"with {answers} the kind is {other['kind']}, else {right['kind']}")
    lost = _figures(right).keys() ^ _figures(other).keys()
    _require(not lost, f"with {answers} the figures are others: {', '.join(sorted(lost))}; give None for no value")
    ours, theirs = ([(row.name, list(row.cells), row.n) for row in rows_of(entry)] for entry in (right, other))
    _require(ours == theirs, f"with {answers} the rows, or the numbers of questions, are others: {theirs}, not {ours}")


def _check_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Check that another order of the samples gives the same figures, up to rounding."""
    for name, value in _figures(one).items():
        turned = _figures(other).get(name)
        same = value == turned or (
            value is not None and turned is not None and math.isclose(value, turned, rel_tol=1e-9, abs_tol=1e-12)
        )
        _require(same, f"{name} depends on the order of the samples: {value} and {turned}")


def _check_unanswered_count(right: Mapping[str, Any], nothing: Mapping[str, Any], quarter: Mapping[str, Any]) -> None:
    """Check by the headline figure that samples without an answer count as wrong."""
    headline = right["headline"]
    if headline is None:
        return
    best, some, worst = (_figures(entry)[headline] for entry in (right, quarter, nothing))
    _require(None not in (best, some), f"{headline} has no value although samples are answered")
    assert best is not None
    assert some is not None
    sign = 1 if direction_of(headline) == "maximize" else -1
    _require(
        sign * some < sign * best,
        f"{headline} does not count unanswered samples: {some} with a quarter, {best} with all",
    )
    _require(
        worst is None or sign * worst <= sign * some,
        f"{headline} is {worst} without answers, and {some} with some",
    )


def _figures(entry: Mapping[str, Any]) -> dict[str, float | None]:
    return {name.partition("/")[2]: value for name, value in figures({"suites": {NAME: entry}}).items()}
