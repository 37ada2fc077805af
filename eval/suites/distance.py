"""The suite of photos to be located, which measures how far the answered coordinates are from the true coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.metrics.distance import distance_metrics
from eval.metrics.draws import draw_metrics
from eval.suites.base import DatasetSuite
from geotune.config.rules import above_zero, at_least
from geotune.errors import ConfigError, Problem
from geotune.geo import haversine_km
from geotune.runs.predictions import Prediction
from geotune.runs.suite_results import DISTANCE, SuiteResult, distance_rows
from geotune.sample import Sample
from geotune.tasks import Task, get_task
from geotune.tasks.coordinates import SWAP_WITHIN_KM, Coordinates, parse_coordinates, right_if_swapped
from geotune.tasks.estimates import FEWEST_FOR_RADIUS


@dataclass(kw_only=True)
class DistanceSuite(DatasetSuite):
    """Measures great-circle errors on a sphere of radius 6,371 km, as published tables do.

    Figures are given over all samples and over the answered samples only. With `draws`, each photo is also located as
    `geotune locate` does it, from drawn answers, and the figures say how often its radii hold the truth.
    """

    task: str = "geolocate"
    """Name of the task whose answers give coordinates."""
    draws: int = 0
    """Answers to draw for each photo beside the greedy one, for the figures of radii; 0: none, otherwise at least 4.
    `geotune locate` draws 16. An evaluation takes about that many times as long."""
    draw_temperature: float = 1.0
    """Temperature of the draws; 1 draws from the model's own distribution."""
    # Unlike the median, the mean score moves with every answer, near or far, and counts a missing one as 0.
    headline = "geoscore"

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from at_least("draws", self.draws, 0, "give 0 for none")
        if 0 < self.draws < FEWEST_FOR_RADIUS:
            few = f"fewer than {FEWEST_FOR_RADIUS} answers give no radius"
            yield Problem("draws", self.draws, few, f"give 0 for none, or at least {FEWEST_FOR_RADIUS}")
        yield from above_zero("draw_temperature", self.draw_temperature)
        try:
            get_task(self.task)
        except ConfigError as error:
            yield from error.problems

    def load(self, key: str) -> list[Sample]:
        return self.load_tasks((self.task,), key)

    def check_gold(self, sample: Sample, task: Task, where: str) -> None:
        if not isinstance(parse_coordinates(sample.answer), Coordinates):
            raise ConfigError(f"{where}: {sample.id} has no gold coordinates in {sample.answer!r}; rebuild the dataset")

    def measure(
        self,
        samples: Sequence[Sample],
        predictions: Sequence[Prediction],
        draws: Sequence[Sequence[Prediction]] = (),
    ) -> SuiteResult:
        """Compute the figures of `distance_metrics` and the share of answers that are right if their coordinates swap.

        If that share exceeds a few per mille, the prompt or the parser has a mistake in the order of coordinates. With
        draws the figures of `draw_metrics` come in addition, and how the draws were made.
        """
        assert len(draws) == (len(samples) if self.draws else 0), f"draws of {len(draws)} samples"
        swapped, golds = 0, []
        for prediction in predictions:
            gold = answered_place(prediction.gold)
            assert gold is not None
            golds.append(gold)
            swapped += right_if_swapped(prediction.raw, gold.lat, gold.lon, within_km=SWAP_WITHIN_KM)
        figures = {
            **distance_metrics([error_km(prediction) for prediction in predictions]),
            "right_if_swapped": swapped / len(predictions),
        }
        if self.draws:
            drawn = [[answered_place(draw.answer) for draw in of_sample] for of_sample in draws]
            figures |= {"draws": self.draws, "draw_temperature": self.draw_temperature, **draw_metrics(golds, drawn)}
        return SuiteResult(DISTANCE, distance_rows(figures), figures)


def error_km(prediction: Prediction) -> float:
    """Return the distance in km of the answer from gold; NaN if there is no answer."""
    answer, gold = answered_place(prediction.answer), answered_place(prediction.gold)
    return math.nan if answer is None or gold is None else haversine_km(answer.lat, answer.lon, gold.lat, gold.lon)


def answered_place(answer: str | None) -> Coordinates | None:
    """Return the coordinates of an answer in canonical form, or None if there are none."""
    found = None if answer is None else parse_coordinates(answer)
    return found if isinstance(found, Coordinates) else None
