"""The suite: the share of photos whose brightness is told correctly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brightness.task import BRIGHTNESS
from eval.metrics.intervals import clustered_interval
from eval.suites.base import DatasetSuite
from geotune.runs.predictions import Prediction
from geotune.sample import Sample


@dataclass(kw_only=True)
class BrightnessSuite(DatasetSuite):
    """Asks `BRIGHTNESS` about the photos of a dataset."""

    def load(self, key: str) -> list[Sample]:
        return self.load_tasks([BRIGHTNESS.name], key)

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        accuracy = sum(prediction.score for prediction in predictions) / len(predictions)
        interval = list(clustered_interval([p.score for p in predictions], [p.place for p in predictions]))
        task = {
            "n": len(predictions),
            "accuracy": accuracy,
            "ci95": interval,
            "chance": BRIGHTNESS.chance,
            "parse_rate": sum(p.answer is not None for p in predictions) / len(predictions),
        }
        return {"mean_accuracy": accuracy, "mean_ci95": interval, "tasks": {BRIGHTNESS.name: task}}
