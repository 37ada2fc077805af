"""The figures of an evaluation by name: `<suite>/<figure>` and `<suite>/<task>/<figure>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geotune.config.trees import flatten
from geotune.errors import ConfigError


def figure(evaluation: Mapping[str, Any], metric: str) -> float | None:
    """The figure `metric` of an evaluation, None where it has no value. Raises ConfigError where it does not exist."""
    known = figures(evaluation)
    if metric not in known:
        raise ConfigError(f"metric={metric}: an evaluation has no such figure; there are {', '.join(known)}")
    return known[metric]


def figures(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """Every single figure of an evaluation, as suite/key and suite/task/key."""
    found: dict[str, float | None] = {}
    for suite, entry in evaluation["suites"].items():
        tree = {**entry.get("tasks", {}), **{key: value for key, value in entry.items() if key != "tasks"}}
        for key, value in flatten(tree, is_leaf=lambda node: not isinstance(node, Mapping), separator="/"):
            if value is None or isinstance(value, int | float):
                found[f"{suite}/{key}"] = value
    return found


def headline(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that a table shows of a trial: accuracy of each task and their mean, and distances."""
    shown = re.compile(r"[^/]+/(([^/]+/)?accuracy|mean_accuracy|acc@[^/]+|median_km|geoscore)")
    return {key: value for key, value in figures(evaluation).items() if shown.fullmatch(key)}
