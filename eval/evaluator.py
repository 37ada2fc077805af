"""The evaluator asks an answerer the questions of suites, and turns its answers into predictions and figures.

It does not depend on training, files or loggers.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from eval.answerers.base import Answerer
from eval.suites.base import Suite
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.runs.predictions import Prediction
from geotune.sample import Sample, Turn
from geotune.tasks import Parsed, Task, get_task

ANSWER_MODES = ("generate", "choice", "explain_choice")
"""Ways to answer a question; `Evaluator` says what they mean."""

BATCHES_PER_CALL = 8
"""Number of batches in one call of the answerer, so that it can group similar questions."""

log = logging.getLogger(__name__)

Gather = Callable[[list[Prediction]], list[Prediction]]
"""Gathers the predictions of all processes on every process."""


@dataclass
class Evaluator:
    """Asks every question of its suites in one answer mode.

    `generate`: the text that the answerer generates is parsed. `choice`: the legal answers are scored directly after
    the prompt. `explain_choice`: the answerer explains first, then the legal answers are scored. Tasks without options
    use `generate` in every mode; each suite's entry in the result names the mode that it used. Prompts are those of the
    dataset, except that `explain_choice` replaces the task's short prompt by its explaining prompt.
    """

    suites: Mapping[str, Suite]
    """Suites by name."""
    answer_mode: str = "generate"
    """One of `ANSWER_MODES`."""
    batch_size: int = 16
    """Questions per forward pass of the answerer."""
    max_new_tokens: int = 256
    """Maximum number of tokens of a generated answer."""
    _samples: dict[str, list[Sample]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.answer_mode not in ANSWER_MODES:
            raise ConfigError(Problem("answer_mode", self.answer_mode, f"choose one of {', '.join(ANSWER_MODES)}"))
        for key, value in (("batch_size", self.batch_size), ("max_new_tokens", self.max_new_tokens)):
            if value < 1:
                raise ConfigError(Problem(key, value, "must be at least 1"))
        if not self.suites:
            raise ConfigError(Problem("suites", {}, "name at least one suite, or set evaluator=null"))

    def prepare(self) -> None:
        """Load every suite that is not loaded yet, building its dataset if the config says so."""
        for name, suite in self.suites.items():
            if name not in self._samples:
                samples = suite.load(f"evaluator.suites.{name}")
                per_task = Counter(sample.task for sample in samples)
                log.info("suite %s: %s", name, ", ".join(f"{task} {n}" for task, n in per_task.items()))
                self._samples[name] = samples

    def samples(self, suite: str) -> list[Sample]:
        """Return the questions of a suite with their gold answers, in the order in which predictions are reported."""
        self.prepare()
        return self._samples[suite]

    def predict(self, suite: str, answerer: Answerer, *, rank: int = 0, world_size: int = 1) -> Iterator[Prediction]:
        """Iterate over the predictions on the batches of process `rank`, as they are made."""
        batches = _batches(self.samples(suite), self.batch_size)[rank::world_size]
        share = [sample for batch in batches for sample in batch]
        for call in _batches(share, self.batch_size * BATCHES_PER_CALL):
            yield from self._answer(suite, call, answerer)

    def run(
        self,
        answerer: Answerer,
        step: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        gather: Gather = lambda predictions: predictions,
    ) -> tuple[dict[str, Any], list[Prediction]]:
        """Evaluate every suite; returns the content of `eval/step_<N>.json` and all predictions, suite by suite.

        With several processes, each process answers its share of the questions, and all return the same figures.
        """
        suites: dict[str, Any] = {}
        all_predictions: list[Prediction] = []
        self.prepare()
        started = time.perf_counter()
        for name, suite in self.suites.items():
            samples = self.samples(name)
            suite_started = time.perf_counter()
            position = {sample.id: index for index, sample in enumerate(samples)}
            predictions = gather(list(self.predict(name, answerer, rank=rank, world_size=world_size)))
            predictions.sort(key=lambda prediction: position[prediction.id])
            assert len(predictions) == len(samples), f"{name}: {len(predictions)} answers to {len(samples)} questions"
            suites[name] = {
                "answer_mode": self.mode_of(get_task(samples[0].task)),
                "samples_per_second": len(samples) / max(time.perf_counter() - suite_started, 1e-9),
                **suite.measure(predictions),
            }
            all_predictions += predictions
        result = {
            "step": step,
            "seconds": time.perf_counter() - started,
            # The run's figure is that of the first suite with tasks, so that adding a suite does not change it.
            "mean_accuracy": next((s["mean_accuracy"] for s in suites.values() if "mean_accuracy" in s), None),
            "suites": suites,
        }
        return result, all_predictions

    def mode_of(self, task: Task) -> str:
        """Return the answer mode in which questions of `task` are asked."""
        return self.answer_mode if task.options else "generate"

    def _answer(self, suite: str, batch: list[Sample], answerer: Answerer) -> list[Prediction]:
        """Make the predictions on a batch of one task."""
        task = get_task(batch[0].task)
        mode = self.mode_of(task)
        questions = [as_question(sample, task, mode) for sample in batch]
        try:
            if mode == "choice":
                return self._choose(suite, batch, questions, task, answerer, None)
            texts = answerer.generate(questions, self.max_new_tokens)
            assert len(texts) == len(batch), f"{len(texts)} texts for {len(batch)} questions"
            if mode == "explain_choice":
                return self._choose(
                    suite, batch, questions, task, answerer, [task.answer_prefix(text) for text in texts]
                )
        except BadRecord as error:
            raise ConfigError(f"evaluator.suites.{suite}: {error}; fix or rebuild the dataset") from error
        return [
            _prediction(suite, sample, task, text, task.parse(text)) for sample, text in zip(batch, texts, strict=True)
        ]

    def _choose(
        self,
        suite: str,
        batch: list[Sample],
        questions: list[Sample],
        task: Task,
        answerer: Answerer,
        prefix: list[str] | None,
    ) -> list[Prediction]:
        """Make predictions by scoring the options of `task` after the prompt and, if given, each sample's `prefix`."""
        targets = [task.target(option) for option in task.options]
        scores = answerer.score_options(questions, [targets] * len(batch), prefix)
        assert [len(row) for row in scores] == [len(targets)] * len(batch), "one score for each option of each question"
        predictions = []
        for sample, row, explanation in zip(batch, scores, prefix or [""] * len(batch), strict=True):
            best = best_option(row)
            parsed = Parsed(None, "no_finite_score") if best is None else Parsed(task.options[best], None)
            raw = explanation if best is None else explanation + targets[best]
            logprobs = tuple(float(value) if math.isfinite(value) else None for value in row)
            predictions.append(_prediction(suite, sample, task, raw, parsed, logprobs))
        return predictions


def as_question(sample: Sample, task: Task, mode: str) -> Sample:
    """Return the sample up to the user's last turn, without the gold answer, so that no answerer can see it."""
    last = max(index for index, turn in enumerate(sample.turns) if turn.role == "user")
    turns = list(sample.turns[: last + 1])
    if mode == "explain_choice" and turns[last].text == task.prompt(explain=False):
        turns[last] = Turn("user", task.prompt(explain=True))
    return replace(sample, turns=tuple(turns), answer="", meta="{}")


def best_option(scores: Sequence[float]) -> int | None:
    """Return the index of the highest finite score, the first of equal scores; None if no score is finite."""
    finite = [(score, -index) for index, score in enumerate(scores) if math.isfinite(score)]
    return -max(finite)[1] if finite else None


def _batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Split samples into consecutive batches of at most `size` samples of one task."""
    return [
        group[start : start + size]
        for _, members in groupby(samples, key=lambda sample: sample.task)
        for group in [list(members)]
        for start in range(0, len(group), size)
    ]


def _prediction(
    suite: str,
    sample: Sample,
    task: Task,
    raw: str,
    parsed: Parsed,
    option_logprobs: tuple[float | None, ...] | None = None,
) -> Prediction:
    """Make the prediction on a sample, with its score; a score that is not finite becomes 0."""
    score = float(task.score(parsed, sample.answer))
    return Prediction(
        suite=suite,
        id=sample.id,
        task=sample.task,
        place=sample.place,
        source=sample.source,
        gold=sample.answer,
        raw=raw,
        answer=parsed.answer,
        reason=None if parsed.reason is None else str(parsed.reason),
        score=score if math.isfinite(score) else 0.0,
        option_logprobs=option_logprobs,
    )
