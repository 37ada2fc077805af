"""The trials of a sweep as rows of a table, and the text of their values and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotune.config.override_text import text
from geotune.sweeps.study import TrialAttribute, latest_attempts

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class TrialRow:
    """One trial as a row of a table."""

    number: int
    state: str
    value: float | None
    """Metric of the final evaluation if the trial is complete, else of its latest one."""
    step: int | None
    seconds: float | None
    run_dir: str
    params: dict[str, Any]
    figures: dict[str, float | None]
    error: str


def rows(trials: Sequence[FrozenTrial]) -> list[TrialRow]:
    """Return one row per trial, even if it was continued several times, in the order of their numbers."""
    return [_row(trial) for trial in latest_attempts(trials)]


def _row(trial: FrozenTrial) -> TrialRow:
    attributes, last = trial.user_attrs, trial.last_step
    latest = trial.intermediate_values[last] if last is not None else None
    return TrialRow(
        number=trial.number,
        state=STATES[trial.state.name],
        value=trial.value if trial.state.name == "COMPLETE" else latest,
        step=attributes.get(TrialAttribute.STEP, last),
        seconds=attributes.get(TrialAttribute.SECONDS),
        run_dir=attributes.get(TrialAttribute.RUN_DIR, ""),
        params=trial.params,
        figures=attributes.get(TrialAttribute.FIGURES, {}),
        error=attributes.get(TrialAttribute.ERROR, ""),
    )


def best_of(trials: Sequence[TrialRow], direction: str) -> TrialRow | None:
    """Return the best complete trial, the first one of a tie, or None if no trial is complete."""
    complete = [row for row in trials if row.state == "complete" and row.value is not None]
    sign = -1 if direction == "maximize" else 1
    return min(complete, key=lambda row: sign * (row.value or 0.0), default=None)


def show_figure(value: float | None) -> str:
    """Write a figure for a table or a header; None is an empty string."""
    return "" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten each dotted key to its last parts, as many as distinguish it from the other keys."""
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        unique = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
        names[key] = next(unique, key)
    return names


def show_value(value: Any, *, exact: bool = False) -> str:
    """Write a parameter for a table or an axis; floats get three digits unless `exact`."""
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if isinstance(value, float) and not exact else text(value)
