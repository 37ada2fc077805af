"""The data of a sweep's plots: the importance of each key, the axes of a search, and the grid of named variants."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.rows import TrialRow, short_names, show_figure, show_value
from geotune.sweeps.space import VARIANT, Dimension, label

if TYPE_CHECKING:
    from optuna import Study


ACCURACIES = ("mean_accuracy", "accuracy")
"""Last parts of the names of figures that the grid of variants shows."""


@dataclass(frozen=True)
class Axis:
    """One axis of the parallel-coordinates plot."""

    name: str
    positions: list[float]
    """Position of each trial on the axis."""
    low: float
    high: float
    ticks: list[tuple[float, str]]
    """Position and label of each tick."""
    is_categorical: bool = False
    """Whether the positions are a few choices, which many trials share."""


@dataclass(frozen=True)
class Grid:
    """Named variants by the accuracies they reached."""

    rows: list[str]
    """Names of the variants."""
    columns: list[str]
    """Names of the accuracies."""
    values: list[list[float | None]]
    """Accuracies in [0, 1] by row and column; None where a variant has no value."""
    distances: list[list[float]]
    """Difference of each value from the mean of its column; 0 where there is no value."""
    reach: float
    """Largest absolute value in `distances`, or 1 if all are 0."""

    @staticmethod
    def cell(value: float | None) -> str:
        """Return the text of a cell, in percent."""
        return "" if value is None else f"{100 * value:.1f}"


def grid_of(trials: Sequence[TrialRow]) -> Grid:
    """Make the grid of the complete variants and of every accuracy that at least one of them reached."""
    complete = [row for row in trials if row.state == "complete"]
    columns = [
        key
        for key in dict.fromkeys(key for row in complete for key in row.figures)
        if key.rpartition("/")[2] in ACCURACIES
    ]
    columns.sort(key=lambda key: not key.endswith("/mean_accuracy"))
    values = [[row.figures.get(key) for key in columns] for row in complete]
    means = [_mean([value for value in column if value is not None]) for column in zip(*values, strict=True)]
    distances = [[0.0 if v is None else v - m for v, m in zip(row, means, strict=True)] for row in values]
    reach = max((abs(distance) for row in distances for distance in row), default=0.0) or 1.0
    names = [key.removesuffix("/accuracy").replace("/mean_accuracy", "/mean") for key in columns]
    return Grid([row.params[VARIANT] for row in complete], names, values, distances, reach)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def importances(study: Study) -> tuple[dict[str, float], str | None]:
    """Compute how much each key matters among the complete trials, with a sum of 1 (PED-ANOVA, Watanabe et al. 2023).

    Returns:
        The importance of each key, and None; or an empty mapping, and the reason why it can't be computed.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    values = [trial.value for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(values) < 2:
        return {}, f"importance needs at least two complete trials, and there are {len(values)}"
    if len(set(values)) == 1:
        return {}, f"importance can't be computed: all {len(values)} complete trials reached {values[0]}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    if any("will be equal" in str(warning.message) for warning in caught):
        return {}, f"importance can't be computed: the {len(values)} complete trials don't separate good from bad ones"
    return weights, None


def axes_of(plan: SweepPlan, trials: Sequence[TrialRow]) -> list[Axis]:
    """Make one axis for each searched key, and a last one for the metric. All `trials` must have a value."""
    names = short_names(list(plan.dimensions))
    axes = [
        _key_axis(names[key], dimension, [row.params[key] for row in trials])
        for key, dimension in plan.dimensions.items()
    ]
    values = [row.value for row in trials if row.value is not None]
    ends = _distinct_ends(min(values), max(values))
    return [*axes, Axis(plan.metric, values, *ends, [(at, show_figure(at)) for at in _evenly_spaced(*ends)])]


def _key_axis(name: str, dimension: Dimension, drawn: Sequence[Any]) -> Axis:
    """Make the axis of a searched key. `drawn`: what Optuna drew for each trial."""
    if dimension.choices is not None:
        labels = [show_value(label(choice)) for choice in dimension.choices]
        positions = [float(labels.index(show_value(value))) for value in drawn]
        ends = _distinct_ends(0.0, len(labels) - 1.0)
        ticks = [(float(at), text) for at, text in enumerate(labels)]
        return Axis(name, positions, *ends, ticks, is_categorical=True)
    assert dimension.low is not None
    assert dimension.high is not None
    scale: Callable[[float], float] = math.log10 if dimension.log else float
    ends = _distinct_ends(scale(dimension.low), scale(dimension.high))
    ticks = [(at, show_value(float(10**at if dimension.log else at))) for at in _evenly_spaced(*ends)]
    return Axis(name, [scale(value) for value in drawn], *ends, ticks)


def _distinct_ends(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis, widened if they are equal."""
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _evenly_spaced(low: float, high: float, count: int = 5) -> list[float]:
    return [low + (high - low) * at / (count - 1) for at in range(count)]
