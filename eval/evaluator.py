"""The evaluator asks an answerer the questions of suites; predictions and figures are functions of the outcomes.

It does not depend on training, files or loggers.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, cast

from eval.answerers.base import BATCHES_PER_CALL, Answerer, DrawingAnswerer, Draws
from eval.suites.base import Suite, draw_count, measured_by
from geotune.config.instantiation import instantiate_checked
from geotune.config.parts import AnswerMode, EvaluatorConfig
from geotune.data.building import NotBuiltError
from geotune.errors import BadRecord, ConfigError, Problem, first_line
from geotune.runs.outcomes import Outcome
from geotune.runs.predictions import Prediction
from geotune.runs.reading import NOT_ASKED, draws_from, predictions_from
from geotune.runs.suite_results import DRAW_SETTINGS, FAILED, SuiteResult
from geotune.sample import Sample, Turn
from geotune.system.digests import fingerprint_of
from geotune.system.progress import progress_bar
from geotune.tasks import Task, get_task

log = logging.getLogger(__name__)

Gather = Callable[[list[Prediction]], list[Prediction]]
"""Gathers the predictions of all processes on every process."""
Record = Callable[[str, Outcome], None]
"""Keeps an outcome of the suite of that name."""


def _told(value: object) -> Any:
    """Return a suite's setting that JSON lacks as text that is the same in every process."""
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return type(value).__qualname__ if type(value).__repr__ is object.__repr__ else str(value)


class Evaluator:
    """Asks every question of its suites.

    The answer mode is the suite's own, else the evaluator's. `generate`: the text that the answerer generates is
    parsed. `choice`: the legal answers are scored directly after the prompt. `explain_choice`: the answerer explains
    first, then the legal answers are scored. Tasks without options use `generate` in every mode; each suite's entry in
    the result names the mode that it used. Prompts are those of the dataset, except that `explain_choice` replaces the
    task's short prompt by its explaining prompt.

    A suite with draws (`eval.suites.base.DrawingSuite`) has its questions asked greedily first, as any other, and then
    once per draw.

    config: its options, whose `suites` are config nodes or suites.
    """

    def __init__(self, config: EvaluatorConfig) -> None:
        self.config = config
        self.suites = {name: _suite(name, node) for name, node in config.suites.items()}
        """Suites by name."""
        self.loaded: dict[str, list[Sample]] = {}
        """Questions of the suites that are loaded, by suite."""

    def prepare(self) -> None:
        """Load every suite that is not loaded yet, building its dataset if the config says so.

        In a dry run, which builds nothing, a suite without a dataset stays unloaded, and the log says so.
        """
        for name, suite in self.suites.items():
            if name not in self.loaded:
                try:
                    samples = suite.load(f"evaluator.suites.{name}")
                except NotBuiltError as error:
                    log.info("suite %s: %s; its questions are known once built", name, error)
                    continue
                per_task = Counter(sample.task for sample in samples)
                log.info("suite %s: %s", name, ", ".join(f"{task} {n}" for task, n in per_task.items()))
                self.loaded[name] = samples

    def samples(self, suite: str) -> list[Sample]:
        """Return the questions of a suite with their gold answers, in the order in which predictions are reported."""
        self.prepare()
        return self.loaded[suite]

    def share(self, suite: str, rank: int, world_size: int) -> list[Sample]:
        """Return the questions of a suite that process `rank` asks."""
        batches = _batches(self.samples(suite), self.config.batch_size)[rank::world_size]
        return [sample for batch in batches for sample in batch]

    def ask(
        self,
        suite: str,
        answerer: Answerer,
        *,
        rank: int = 0,
        world_size: int = 1,
        draws: Draws | None = None,
        samples: Sequence[Sample] | None = None,
    ) -> Iterator[Outcome]:
        """Ask the questions of process `rank`, and yield their outcomes as they come.

        draws: how answers are drawn; None for the one answer in the suite's mode. samples: questions of the suite to
        ask instead, task by task.
        """
        asked = self.share(suite, rank, world_size) if samples is None else samples
        try:
            for _, members in groupby(asked, key=lambda sample: sample.task):
                yield from self._ask(suite, list(members), answerer, draws)
        except BadRecord as error:
            raise ConfigError(f"evaluator.suites.{suite}: {error}; fix or rebuild the dataset") from error

    def run(
        self,
        answerer: Answerer,
        step: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        gather: Gather = lambda predictions: predictions,
        record: Record = lambda suite, outcome: None,
        strict: bool = True,
    ) -> tuple[dict[str, Any], list[Prediction]]:
        """Evaluate every suite; returns the content of `eval/step_<N>.json` and all predictions, suite by suite.

        The predictions of a suite's draws follow its greedy ones. `samples_per_second` counts greedy answers alone.
        With several processes, each process answers its share of the questions, and all return the same figures.
        record: keeps each outcome of this process as it comes. strict: whether a suite that can't measure its
        predictions ends the evaluation with a RuntimeError; otherwise its entry has the kind `failed` and the reason.
        Raises ConfigError, before anything is asked, if a suite needs scores or draws that the answerer does not give.
        """
        self.prepare()
        self.check(answerer)
        entries: dict[str, Any] = {}
        all_predictions: list[Prediction] = []
        started = time.perf_counter()
        for name, suite in self.suites.items():
            samples, suite_started = self.samples(name), time.perf_counter()
            predictions = self._predictions(name, answerer, None, rank, world_size, gather, record)
            seconds = max(time.perf_counter() - suite_started, 1e-9)
            drawn: list[Prediction] = []
            if draws := self.draws_of(name):
                drawn = self._predictions(name, answerer, draws, rank, world_size, gather, record)
            count = draw_count(suite) or 1
            by_sample = [drawn[start : start + count] for start in range(0, len(drawn), count)]
            entries[name] = {
                "answer_mode": self.mode_of_suite(name),
                "samples_per_second": len(samples) / seconds,
                **self.measured(name, predictions, by_sample, strict=strict),
            }
            all_predictions += predictions + drawn
        # The run's figure is that of the first suite with tasks, so that adding a suite does not change it.
        with_mean = [e for e in entries.values() if "mean_accuracy" in e or e.get("headline") == "mean_accuracy"]
        result = {
            "step": step,
            "seconds": time.perf_counter() - started,
            "mean_accuracy": with_mean[0].get("mean_accuracy") if with_mean else None,
            "suites": entries,
        }
        return result, all_predictions

    def _predictions(
        self,
        suite: str,
        answerer: Answerer,
        draws: Draws | None,
        rank: int,
        world_size: int,
        gather: Gather,
        record: Record,
    ) -> list[Prediction]:
        """Ask a suite's questions, and return the predictions of all processes, sample by sample."""
        own, outcomes = self.share(suite, rank, world_size), []
        count, title, noun = (1, f"suite {suite}", "questions, which count as wrong")
        if draws is not None:
            count, title, noun = draws.count, f"draws of suite {suite}", "draws, which count as unread"
        with progress_bar(title, len(own) * count) as advance:
            for outcome in self.ask(suite, answerer, rank=rank, world_size=world_size, draws=draws):
                record(suite, outcome)
                outcomes.append(outcome)
                advance()
        if draws is None:
            predictions = gather(predictions_from(suite, own, outcomes))
        else:
            predictions = gather([p for of_sample in draws_from(suite, own, outcomes, count) for p in of_sample])
        position = {sample.id: index for index, sample in enumerate(self.samples(suite))}
        predictions.sort(key=lambda prediction: (position[prediction.id], prediction.repeat))
        expected = len(position) * count
        assert len(predictions) == expected, f"{title}: {len(predictions)} answers instead of {expected}"
        _warn_of_unanswered(title, outcomes, predictions, noun)
        return predictions

    def draws_of(self, suite: str) -> Draws | None:
        """Return how the questions of a suite are asked again; None for a suite without draws."""
        of = self.suites[suite]
        count = draw_count(of)
        return Draws(count, getattr(of, "draw_temperature", 1.0), getattr(of, "seed", 0)) if count else None

    def mode_of(self, suite: str, task: Task) -> AnswerMode:
        """Return the answer mode in which questions of `task` are asked."""
        own: AnswerMode | None = getattr(self.suites[suite], "answer_mode", None)
        return (own or self.config.answer_mode) if task.options else "generate"

    def told(self, suite: str) -> str:
        """Return in words what the figures of a suite depend on besides the answerer: mode, settings and questions."""
        samples = self.samples(suite)
        asked = [(s.id, s.task, s.system, [(t.role, t.text) for t in s.turns], s.answer) for s in samples]
        # The questions stand for the dataset, which may have been moved.
        unused = () if draw_count(self.suites[suite]) else DRAW_SETTINGS
        left_out = ("path", "build", *unused)
        own = {key: value for key, value in vars(self.suites[suite]).items() if key not in left_out}
        kind = type(self.suites[suite]).__qualname__
        digest = fingerprint_of(
            json.dumps([kind, own, self.config.max_new_tokens, asked], sort_keys=True, default=_told)
        )
        return f"{self.mode_of_suite(suite)}, {len(samples):,} questions ({digest})"

    def mode_of_suite(self, suite: str) -> AnswerMode:
        """Return the mode of a suite's tasks that have options, else `generate`."""
        tasks = dict.fromkeys(sample.task for sample in self.samples(suite))
        modes = [self.mode_of(suite, get_task(task)) for task in tasks]
        return next((mode for mode in modes if mode != "generate"), "generate")

    def measured(
        self,
        suite: str,
        predictions: Sequence[Prediction],
        draws: Sequence[Sequence[Prediction]],
        *,
        strict: bool = True,
    ) -> dict[str, Any]:
        """Return what an evaluation's file holds of a suite's figures. Asks nothing.

        predictions: one for each question of the suite. draws: for each question the predictions of its draws; empty
        for a suite without draws. strict: see `run`.
        """
        return _measured(suite, self.suites[suite], self.samples(suite), predictions, draws, strict=strict)

    def check(self, answerer: Answerer) -> None:
        """Raise ConfigError if a suite needs scores or draws that the answerer does not give."""
        self._check_can_score(answerer)
        self._check_can_draw(answerer)

    def _check_can_score(self, answerer: Answerer) -> None:
        """Raise ConfigError if a suite needs scores that the answerer does not give."""
        for name, suite in self.suites.items():
            modes = {self.mode_of(name, get_task(sample.task)) for sample in self.samples(name)} - {"generate"}
            if modes and not answerer.can_score:
                own = getattr(suite, "answer_mode", None) is not None
                key = f"evaluator.suites.{name}.answer_mode" if own else "evaluator.answer_mode"
                reason = "it scores the legal answers, and this answerer gives texts only"
                raise ConfigError(Problem(key, modes.pop(), reason, f"set {key}=generate"))

    def _check_can_draw(self, answerer: Answerer) -> None:
        """Raise ConfigError if a suite needs draws that the answerer does not give."""
        for name, suite in self.suites.items():
            if draw_count(suite) and not getattr(answerer, "can_draw", False):
                key = f"evaluator.suites.{name}.draws"
                raise ConfigError(Problem(key, draw_count(suite), "this answerer can't draw answers", f"set {key}=0"))

    def _ask(self, suite: str, samples: list[Sample], answerer: Answerer, draws: Draws | None) -> Iterator[Outcome]:
        """Ask questions of one task, and yield their outcomes as they come."""
        task = get_task(samples[0].task)
        mode = self.mode_of(suite, task)
        questions = [as_question(sample, task, mode) for sample in samples]
        options = {option: task.target(option) for option in task.options}
        if draws is not None:
            yield from cast(DrawingAnswerer, answerer).draw(questions, self.config.max_new_tokens, draws)
        elif mode == "generate":
            yield from answerer.generate(questions, self.config.max_new_tokens)
        elif mode == "choice":
            yield from answerer.score_options(questions, [options] * len(questions), None)
        else:
            size = self.config.batch_size * BATCHES_PER_CALL
            for start in range(0, len(questions), size):
                yield from self._explain_and_score(questions[start : start + size], task, options, answerer)

    def _explain_and_score(
        self, questions: list[Sample], task: Task, options: Mapping[str, str], answerer: Answerer
    ) -> Iterator[Outcome]:
        """Have questions explained, then the options scored after each explanation; a failed explanation stays so."""
        explained = {}
        for outcome in answerer.generate(questions, self.config.max_new_tokens):
            if outcome.text is None:
                yield outcome
            else:
                explained[outcome.id] = outcome
        left = [question for question in questions if question.id in explained]
        prefix = [task.answer_prefix(explained[question.id].text or "") for question in left]
        for scored in answerer.score_options(left, [options] * len(left), prefix) if left else ():
            yield explained[scored.id].with_scores(scored)


def _measured(
    name: str,
    suite: Suite,
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    draws: Sequence[Sequence[Prediction]],
    *,
    strict: bool,
) -> dict[str, Any]:
    """Return what an evaluation's file holds of a suite's result, or of its failure unless `strict`."""
    headline = getattr(suite, "headline", None)
    try:
        result = measured_by(suite, samples, predictions, draws)
        if not isinstance(result, SuiteResult):
            raise TypeError(f"measure returned a {type(result).__name__}, not a SuiteResult")
        return result.entry(headline)
    except Exception as error:  # the code of a suite may be anybody's
        where = f"evaluator.suites.{name}: {type(suite).__name__} can't measure its predictions"
        if strict:
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error
        log.warning("%s; its entry is marked as failed, and the run goes on", where, exc_info=True)
        reason = f"{type(error).__name__}: {first_line(error)}"
        return {"kind": FAILED, "headline": headline, "failed": reason, "rows": []}


def _warn_of_unanswered(asked: str, outcomes: Sequence[Outcome], predictions: Sequence[Prediction], noun: str) -> None:
    """Log how many answers were refused, failed in this process, or are missing.

    asked: what was asked. noun: what `predictions` are, and how the missing ones count.
    """
    statuses = [str(outcome.status) for outcome in outcomes if outcome.status in ("refused", "failed")]
    counts = Counter([*statuses, *(p.reason for p in predictions if p.reason == NOT_ASKED)])
    if counts:
        found = ", ".join(f"{count} {status}" for status, count in counts.items())
        log.warning("%s: %s of %d %s", asked, found, len(predictions), noun)


def as_question(sample: Sample, task: Task, mode: str) -> Sample:
    """Return the sample up to the user's last turn, without the gold answer, so that no answerer can see it."""
    last = max(index for index, turn in enumerate(sample.turns) if turn.role == "user")
    turns = list(sample.turns[: last + 1])
    if mode == "explain_choice" and turns[last].text == task.prompt(explain=False):
        turns[last] = Turn("user", task.prompt(explain=True))
    return replace(sample, turns=tuple(turns), answer="", meta="{}")


def _batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Split samples into consecutive batches of at most `size` samples of one task."""
    return [
        group[start : start + size]
        for _, members in groupby(samples, key=lambda sample: sample.task)
        for group in [list(members)]
        for start in range(0, len(group), size)
    ]


def _suite(name: str, node: Any) -> Suite:
    suite: Suite = instantiate_checked(node, f"evaluator.suites.{name}") if isinstance(node, Mapping) else node
    return suite
