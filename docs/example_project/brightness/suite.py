"""The suite: the share of photos whose brightness is told correctly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brightness.task import BRIGHTNESS
from eval.suites.base import DatasetSuite
from geotune.runs.predictions import Prediction
from geotune.runs.suite_results import Cell, SuiteResult, SuiteRow
from geotune.sample import Sample


@dataclass(kw_only=True)
class BrightnessSuite(DatasetSuite):
    """Asks `BRIGHTNESS` about the photos of a dataset."""

    headline = "accuracy"

    def load(self, key: str) -> list[Sample]:
        return self.load_tasks([BRIGHTNESS.name], key)

    def measure(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> SuiteResult:
        accuracy = sum(prediction.score for prediction in predictions) / len(predictions)
        cells = {"answers": Cell("all"), "right": Cell(accuracy, "share")}
        row = SuiteRow(cells, figure="accuracy", compared="right", n=len(predictions))
        return SuiteResult("brightness", [row], {"n": len(predictions), "accuracy": accuracy})
