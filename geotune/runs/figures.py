"""Names of an evaluation's figures, one grammar for files, W&B, sweeps, reports and the best checkpoint.

A name is `<suite>/<figure>` or `<suite>/<task>/<figure>`; further levels of a suite's figures add further parts. The
two ends of an interval are `..._low` and `..._high`. W&B logs each figure under its name with `eval/` before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geotune.config.trees import flatten
from geotune.errors import ConfigError, Problem
from geotune.runs.suite_results import BREAKDOWN, FAILED, headline_of, kind_of, rows_of

_NOT_FIGURES = ("answer_mode", "kind", "headline", "rows", "failed")


def figure(evaluation: Mapping[str, Any], name: str, key: str = "metric") -> float | None:
    """Return the figure `name` of an evaluation, or None if it has no value or if its suite could not be measured.

    key: key of the config that names the figure, for the message. Raises ConfigError if the figure is unknown.
    """
    known = figures(evaluation)
    entry = evaluation["suites"].get(name.partition("/")[0])
    if name not in known and (entry is None or kind_of(entry) != FAILED):
        raise ConfigError(Problem(key, name, "the evaluation has no such figure", f"name one of {', '.join(known)}"))
    return known.get(name)


def figures(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return every figure of an evaluation by its name."""
    found: dict[str, float | None] = {}
    for suite, entry in evaluation["suites"].items():
        own = {key: value for key, value in entry.items() if key not in ("tasks", *_NOT_FIGURES)}
        tree = {**entry.get("tasks", {}), **own}
        for key, value in flatten(tree, is_leaf=lambda node: not isinstance(node, Mapping), separator="/"):
            if key.endswith("ci95"):
                low, high = value if _is_pair(value) else (None, None)
                found[f"{suite}/{key}_low"], found[f"{suite}/{key}_high"] = low, high
            elif value is None or _is_number(value):
                found[f"{suite}/{key}"] = value
    return found


def logged_figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that a logger draws as curves: those with a value, without breakdowns by source."""
    return {
        name: value
        for name, value in figures(evaluation).items()
        if value is not None and BREAKDOWN not in name.split("/")
    }


def table_figures(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures that the rows of the suites' tables are about."""
    known = figures(evaluation)
    named = [
        f"{suite}/{row.figure}"
        for suite, entry in evaluation["suites"].items()
        for row in rows_of(entry)
        if row.figure is not None
    ]
    return {name: known[name] for name in named if name in known}


def headline(evaluation: Mapping[str, Any]) -> str | None:
    """Return the name of the figure that stands for the whole evaluation.

    It is that of the first suite that names one; None if no suite does.
    """
    named = ((suite, headline_of(entry)) for suite, entry in evaluation["suites"].items())
    return next((f"{suite}/{name}" for suite, name in named if name is not None), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
