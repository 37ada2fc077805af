"""Reads outcomes as predictions, each by the task of its sample. A pure function: nothing is asked again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from geotune.runs.outcomes import Outcome
from geotune.runs.predictions import Prediction
from geotune.sample import Sample
from geotune.tasks import Parsed, Task, get_task

NOT_ASKED = "not_asked"
"""Reason of the prediction on a sample that has no outcome."""


def predictions_from(
    suite: str, samples: Sequence[Sample], outcomes: Iterable[Outcome], *, variant: str = "", repeat: int = 0
) -> list[Prediction]:
    """Return one prediction for each sample, in the order of `samples`, whatever the order of `outcomes`.

    A sample whose outcome is missing, refused or failed gets a prediction without an answer, with the reason, so that
    it stays in every denominator. If a sample has several outcomes, the last one counts, as when a failed question was
    asked again.

    Args:
        suite: name of the suite, for the predictions.
        samples: samples with their gold answers.
        outcomes: outcomes of these samples; those of another variant or repeat are left out.
        variant: form of the question to read.
        repeat: number of the draw to read.

    Raises:
        ValueError: an outcome belongs to none of the samples.
    """
    asked = {sample.id for sample in samples}
    last: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.id not in asked:
            raise ValueError(f"{suite}: an outcome of {outcome.id!r}, which is no sample of the suite")
        if (outcome.variant, outcome.repeat) == (variant, repeat):
            last[outcome.id] = outcome
    return [_prediction(suite, sample, last.get(sample.id), repeat) for sample in samples]


def draws_from(
    suite: str, samples: Sequence[Sample], outcomes: Iterable[Outcome], count: int, *, variant: str = ""
) -> list[list[Prediction]]:
    """Return for each sample the predictions of its draws, the repeats 1 to `count`, in the order of `samples`.

    A draw that is missing among the outcomes gets a prediction without an answer. Arguments and errors are otherwise
    those of `predictions_from`.
    """
    assert count >= 1
    known = list(outcomes)
    rounds = [predictions_from(suite, samples, known, variant=variant, repeat=repeat) for repeat in range(1, count + 1)]
    return [list(of_sample) for of_sample in zip(*rounds, strict=True)]


def best_option(scores: Sequence[float | None]) -> int | None:
    """Return the index of the highest finite score, the first of equal scores; None if no score is finite."""
    known = [(score, -index) for index, score in enumerate(scores) if score is not None and math.isfinite(score)]
    return -max(known)[1] if known else None


def _prediction(suite: str, sample: Sample, outcome: Outcome | None, repeat: int) -> Prediction:
    """Return the prediction on a sample; a score that is not finite becomes 0."""
    task = get_task(sample.task)
    raw, parsed = ("", Parsed(None, NOT_ASKED)) if outcome is None else _read(task, outcome)
    logprobs = None if outcome is None or outcome.option_logprobs is None else _logprobs(task, outcome.option_logprobs)
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
        option_logprobs=logprobs,
        repeat=repeat,
    )


def _read(task: Task, outcome: Outcome) -> tuple[str, Parsed]:
    """Return the text of an answer, and what it says: the likeliest legal answer if they were scored."""
    if outcome.status in ("failed", "refused"):
        return outcome.text or "", Parsed(None, outcome.reason or outcome.status)
    if outcome.option_logprobs is None:
        text = outcome.text or ""
        return text, task.parse(text)
    explanation = "" if outcome.text is None else task.answer_prefix(outcome.text)
    best = best_option(_logprobs(task, outcome.option_logprobs))
    if best is None:
        return explanation, Parsed(None, "no_finite_score")
    option = task.options[best]
    return explanation + task.target(option), Parsed(option, None)


def _logprobs(task: Task, scored: Mapping[str, float | None]) -> tuple[float | None, ...]:
    """Return the log-probability of each legal answer in the task's order; None for one that is not finite."""
    values = (scored.get(option) for option in task.options)
    return tuple(float(value) if value is not None and math.isfinite(value) else None for value in values)
