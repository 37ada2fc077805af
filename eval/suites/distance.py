"""The suite of photos to be located, which measures how far the answered coordinates are from the true coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.metrics.distance import distance_metrics
from eval.suites.base import DatasetSuite
from geotune.errors import ConfigError, Problem
from geotune.geo import haversine_km
from geotune.runs.predictions import Prediction
from geotune.runs.suite_results import DISTANCE, SuiteResult, distance_rows
from geotune.sample import Sample
from geotune.tasks import Task, get_task
from geotune.tasks.coordinates import SWAP_WITHIN_KM, Coordinates, parse_coordinates, right_if_swapped


@dataclass(kw_only=True)
class DistanceSuite(DatasetSuite):
    """Measures great-circle errors on a sphere of radius 6,371 km, as published tables do.

    Figures are given over all samples and over the answered samples only.
    """

    task: str = "geolocate"
    """Name of the task whose answers give coordinates."""
    # Unlike the median, the mean score moves with every answer, near or far, and counts a missing one as 0.
    headline = "geoscore"

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        try:
            get_task(self.task)
        except ConfigError as error:
            yield from error.problems

    def load(self, key: str) -> list[Sample]:
        return self.load_tasks((self.task,), key)

    def check_gold(self, sample: Sample, task: Task, where: str) -> None:
        if not isinstance(parse_coordinates(sample.answer), Coordinates):
            raise ConfigError(f"{where}: {sample.id} has no gold coordinates in {sample.answer!r}; rebuild the dataset")

    def measure(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> SuiteResult:
        """Compute the figures of `distance_metrics` and the share of answers that are right if their coordinates swap.

        If that share exceeds a few per mille, the prompt or the parser has a mistake in the order of coordinates.
        """
        swapped = 0
        for prediction in predictions:
            gold = parse_coordinates(prediction.gold)
            assert isinstance(gold, Coordinates)
            swapped += right_if_swapped(prediction.raw, gold.lat, gold.lon, within_km=SWAP_WITHIN_KM)
        figures = {
            **distance_metrics([error_km(prediction) for prediction in predictions]),
            "right_if_swapped": swapped / len(predictions),
        }
        return SuiteResult(DISTANCE, distance_rows(figures), figures)


def error_km(prediction: Prediction) -> float:
    """Return the distance in km of the answer from gold; NaN if there is no answer."""
    answer = parse_coordinates(prediction.answer) if prediction.answer is not None else None
    gold = parse_coordinates(prediction.gold)
    if not isinstance(answer, Coordinates) or not isinstance(gold, Coordinates):
        return math.nan
    return float(haversine_km(answer.lat, answer.lon, gold.lat, gold.lon))
