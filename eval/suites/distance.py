"""The suite of photos to be located, which measures how far the answered coordinates are from the true coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metrics.distance import distance_metrics
from eval.suites.base import DatasetSuite
from geotune.config.rules import are_among
from geotune.errors import ConfigError, Problem
from geotune.geo import haversine_km
from geotune.runs.predictions import Prediction
from geotune.sample import Sample
from geotune.tasks import TASKS, Task
from geotune.tasks.coordinates import SWAP_WITHIN_KM, Coordinates, parse_coordinates, right_if_swapped


@dataclass(kw_only=True)
class DistanceSuite(DatasetSuite):
    """Measures great-circle errors on a sphere of radius 6,371 km, as published tables do.

    Figures are given over all samples and over the answered samples only.
    """

    task: str = "geolocate"
    """Name of the task whose answers give coordinates."""

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from are_among("task", [self.task], TASKS)

    def load(self, key: str) -> list[Sample]:
        return self.load_tasks((self.task,), key)

    def check_gold(self, sample: Sample, task: Task, where: str) -> None:
        if not isinstance(parse_coordinates(sample.answer), Coordinates):
            raise ConfigError(f"{where}: {sample.id} has no gold coordinates in {sample.answer!r}; rebuild the dataset")

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Compute the figures of `distance_metrics` and the share of answers that are right if their coordinates swap.

        If that share exceeds a few per mille, the prompt or the parser has a mistake in the order of coordinates.
        """
        swapped = 0
        for prediction in predictions:
            gold = parse_coordinates(prediction.gold)
            assert isinstance(gold, Coordinates)
            swapped += right_if_swapped(prediction.raw, gold.lat, gold.lon, within_km=SWAP_WITHIN_KM)
        return {
            **distance_metrics([error_km(prediction) for prediction in predictions]),
            "right_if_swapped": swapped / len(predictions),
        }


def error_km(prediction: Prediction) -> float:
    """Return the distance in km of the answer from gold; NaN if there is no answer."""
    answer = parse_coordinates(prediction.answer) if prediction.answer is not None else None
    gold = parse_coordinates(prediction.gold)
    if not isinstance(answer, Coordinates) or not isinstance(gold, Coordinates):
        return math.nan
    return float(haversine_km(answer.lat, answer.lon, gold.lat, gold.lon))
