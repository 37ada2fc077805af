"""Names of an evaluation's figures: `<suite>/<figure>` and `<suite>/<task>/<figure>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geotune.config.trees import flatten
from geotune.errors import ConfigError, Problem


def figure(evaluation: Mapping[str, Any], metric: str) -> float | None:
    """Return the figure `metric` of an evaluation, or None if it has no value. Raises ConfigError if it is unknown."""
    known = figures(evaluation)
    if metric not in known:
        raise ConfigError(
            Problem("metric", metric, "the evaluation has no such figure", f"name one of {', '.join(known)}")
        )
    return known[metric]


def figures(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return every scalar figure of an evaluation by its name."""
    found: dict[str, float | None] = {}
    for suite, entry in evaluation["suites"].items():
        tree = {**entry.get("tasks", {}), **{key: value for key, value in entry.items() if key != "tasks"}}
        for key, value in flatten(tree, is_leaf=lambda node: not isinstance(node, Mapping), separator="/"):
            if value is None or isinstance(value, int | float):
                found[f"{suite}/{key}"] = value
    return found


def headline(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures that tables show: the accuracies of the tasks, their mean, and the distances."""
    shown = re.compile(r"[^/]+/(([^/]+/)?accuracy|mean_accuracy|acc@[^/]+|median_km|geoscore)")
    return {key: value for key, value in figures(evaluation).items() if shown.fullmatch(key)}
