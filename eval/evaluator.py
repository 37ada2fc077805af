"""Suites x answerer -> predictions -> figures. Knows nothing of training, files or loggers."""

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
from geotune.errors import BadRecord, ConfigError
from geotune.runs.predictions import Prediction
from geotune.sample import Sample, Turn
from geotune.tasks import Parsed, Task, get_task

ANSWER_MODES = ("generate", "choice", "explain_choice")

BATCHES_PER_CALL = 8
"""An answerer that sees more questions than it answers at once can put like ones together."""

log = logging.getLogger(__name__)

Gather = Callable[[list[Prediction]], list[Prediction]]
"""Brings the predictions of all processes to every process."""


@dataclass
class Evaluator:
    """Asks every question of its suites in one answer mode.

    `generate`: what the answerer says is parsed. `choice`: the legal answers are scored after the prompt alone.
    `explain_choice`: the answerer explains, then the legal answers are scored. A task without options is answered by
    `generate` in every mode; each suite's entry says which mode it was. Prompts are the dataset's own, save that
    `explain_choice` puts the task's explaining prompt in the place of its short one.
    """

    suites: Mapping[str, Suite]
    answer_mode: str = "generate"
    batch_size: int = 16
    """Questions per forward pass of the answerer."""
    max_new_tokens: int = 256
    _samples: dict[str, list[Sample]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.answer_mode not in ANSWER_MODES:
            raise ConfigError(f"answer_mode={self.answer_mode}: one of {', '.join(ANSWER_MODES)}")
        for key, value in (("batch_size", self.batch_size), ("max_new_tokens", self.max_new_tokens)):
            if value < 1:
                raise ConfigError(f"{key}={value}: must be at least 1")
        if not self.suites:
            raise ConfigError("suites={}: name at least one suite, or set evaluator=null")

    def prepare(self) -> None:
        """Load every suite (building its dataset where the config says so); does nothing the second time."""
        for name, suite in self.suites.items():
            if name not in self._samples:
                samples = suite.load(f"evaluator.suites.{name}")
                per_task = Counter(sample.task for sample in samples)
                log.info("suite %s: %s", name, ", ".join(f"{task} {n}" for task, n in per_task.items()))
                self._samples[name] = samples

    def samples(self, suite: str) -> list[Sample]:
        """The questions of a suite with their gold answers, in the order in which predictions are reported."""
        self.prepare()
        return self._samples[suite]

    def predict(self, suite: str, answerer: Answerer, *, rank: int = 0, world_size: int = 1) -> Iterator[Prediction]:
        """Predictions on the batches that fall to `rank`, as they are made."""
        shares = _batches(self.samples(suite), self.batch_size)[rank::world_size]
        own = [sample for batch in shares for sample in batch]
        for call in _batches(own, self.batch_size * BATCHES_PER_CALL):
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
        """Evaluate every suite; the content of `eval/step_<N>.json`, and all predictions in the suites' order.

        With several processes each answers its share; all of them return the same figures.
        """
        suites: dict[str, Any] = {}
        everything: list[Prediction] = []
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
            everything += predictions
        result = {
            "step": step,
            "seconds": time.perf_counter() - started,
            # The first suite that has tasks speaks for the run; a further one must not shift its figure.
            "mean_accuracy": next((s["mean_accuracy"] for s in suites.values() if "mean_accuracy" in s), None),
            "suites": suites,
        }
        return result, everything

    def mode_of(self, task: Task) -> str:
        """How questions of `task` are answered."""
        return self.answer_mode if task.options else "generate"

    def _answer(self, suite: str, batch: list[Sample], answerer: Answerer) -> list[Prediction]:
        """Predictions on a batch of one task."""
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
            raise ConfigError(f"evaluator.suites.{suite}: {error}; mend or rebuild the dataset") from error
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
        targets = [task.target(option) for option in task.options]
        scores = answerer.score_options(questions, [targets] * len(batch), prefix)
        assert [len(row) for row in scores] == [len(targets)] * len(batch), "one score for each option of each question"
        predictions = []
        for sample, row, said in zip(batch, scores, prefix or [""] * len(batch), strict=True):
            best = best_option(row)
            parsed = Parsed(None, "no_finite_score") if best is None else Parsed(task.options[best], None)
            raw = said if best is None else said + targets[best]
            logprobs = tuple(float(value) if math.isfinite(value) else None for value in row)
            predictions.append(_prediction(suite, sample, task, raw, parsed, logprobs))
        return predictions


def as_question(sample: Sample, task: Task, mode: str) -> Sample:
    """The sample up to the last thing the user says, without gold, so that no answerer can see it."""
    last = max(index for index, turn in enumerate(sample.turns) if turn.role == "user")
    turns = list(sample.turns[: last + 1])
    if mode == "explain_choice" and turns[last].text == task.prompt(explain=False):
        turns[last] = Turn("user", task.prompt(explain=True))
    return replace(sample, turns=tuple(turns), answer="", meta="{}")


def best_option(scores: Sequence[float]) -> int | None:
    """Index of the highest finite score, the first of equal ones; None when none is finite."""
    finite = [(score, -index) for index, score in enumerate(scores) if math.isfinite(score)]
    return -max(finite)[1] if finite else None


def flat_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The scalar figures of an evaluation as `eval/<task>/<metric>` and `eval/mean_accuracy`.

    A suite without tasks counts as a task by its own name; a task that several suites ask is `eval/<suite>/<task>/...`.
    """
    suites = result["suites"]
    asked = Counter(task for figures in suites.values() for task in figures.get("tasks", ()))
    flat: dict[str, float] = {}
    for suite, figures in suites.items():
        _flatten(f"eval/{suite}", {k: v for k, v in figures.items() if k != "tasks"}, flat)
        for task, entry in figures.get("tasks", {}).items():
            _flatten(f"eval/{task}" if asked[task] == 1 else f"eval/{suite}/{task}", entry, flat)
    if result["mean_accuracy"] is not None:
        flat["eval/mean_accuracy"] = result["mean_accuracy"]
    flat["eval/seconds"] = result["seconds"]
    return flat


def _flatten(prefix: str, figures: Mapping[str, Any], flat: dict[str, float]) -> None:
    for name, value in figures.items():
        if name == "by_source":
            continue  # dozens of curves; the files have them
        if name.endswith("ci95"):
            flat[f"{prefix}/{name}_low"], flat[f"{prefix}/{name}_high"] = value
        elif isinstance(value, Mapping):
            _flatten(f"{prefix}/{name}", value, flat)
        elif isinstance(value, int | float) and math.isfinite(value):
            flat[f"{prefix}/{name}"] = value


def _batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Consecutive batches of one task each."""
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
