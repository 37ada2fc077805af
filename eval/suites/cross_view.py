"""The suite of the seven cross-view tasks of GeoX-Bench, on any dataset that asks them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.metrics.choice import choice_metrics, count_answers
from eval.metrics.intervals import clustered_interval
from eval.suites.base import DatasetSuite
from geotune.config.rules import are_among
from geotune.errors import Problem
from geotune.runs.predictions import Prediction
from geotune.runs.suite_results import TASKS, SuiteResult, task_rows
from geotune.sample import Sample
from geotune.tasks import CROSS_VIEW_TASKS, get_task


@dataclass(kw_only=True)
class CrossViewSuite(DatasetSuite):
    """Computes accuracy with 95% intervals over places, bias towards options, and confusion of the cross-view tasks.

    Other tasks of the dataset are ignored.
    """

    tasks: tuple[str, ...] | None = None
    """Names of the cross-view tasks to ask; null: all that the dataset contains."""
    headline = "mean_accuracy"

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from are_among("tasks", self.tasks, CROSS_VIEW_TASKS)

    def load(self, key: str) -> list[Sample]:
        wanted = CROSS_VIEW_TASKS if self.tasks is None else self.tasks
        return self.load_tasks([name for name in CROSS_VIEW_TASKS if name in wanted], key, needed=self.tasks or ())

    def measure(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> SuiteResult:
        """Compute `mean_accuracy` (unweighted over the tasks present), its interval, and the figures of each task."""
        groups: dict[str, list[Prediction]] = defaultdict(list)
        for prediction in predictions:
            groups[prediction.task].append(prediction)
        tasks = {name: _task_metrics(name, groups[name]) for name in CROSS_VIEW_TASKS if groups[name]}
        figures = {
            "mean_accuracy": float(np.mean([figures["accuracy"] for figures in tasks.values()])),
            "mean_ci95": list(
                clustered_interval(
                    [_is_right(p) for p in predictions], [p.place for p in predictions], [p.task for p in predictions]
                )
            ),
            "tasks": tasks,
        }
        return SuiteResult(TASKS, task_rows(figures), figures)


def _task_metrics(name: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Compute the entry of one task.

    `confusion` counts gold options (rows) by answered options (columns); `unparsed` counts the unparsed answers of each
    row.
    """
    task = get_task(name)
    counts = count_answers([p.gold for p in predictions], [p.answer for p in predictions], task.options)
    figures = choice_metrics(counts)
    return {
        "n": figures.n,
        "accuracy": figures.accuracy,
        "ci95": list(clustered_interval([_is_right(p) for p in predictions], [p.place for p in predictions])),
        "chance": task.chance,
        "parse_rate": figures.parse_rate,
        "h_norm": figures.h_norm,
        "d_kl": figures.d_kl,
        "p_mode": figures.p_mode,
        "a_mode": figures.a_mode,
        "by_source": _accuracy_by_source(predictions),
        "options": list(task.options),
        "confusion": counts[:, :-1].tolist(),
        "unparsed": counts[:, -1].tolist(),
    }


def _accuracy_by_source(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Compute the accuracy on each source, sources in alphabetical order."""
    scores: dict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        scores[prediction.source].append(_is_right(prediction))
    return {source: sum(values) / len(values) for source, values in sorted(scores.items())}


def _is_right(prediction: Prediction) -> float:
    return float(prediction.answer == prediction.gold)
