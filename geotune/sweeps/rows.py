"""The trials of a sweep as people read them: a row each, and how values and figures are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotune.sweeps.space import text
from geotune.sweeps.study import TrialAttribute, shown

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class TrialRow:
    """One trial as people read it."""

    number: int
    state: str
    value: float | None
    """The metric: final when complete, else the latest."""
    step: int | None
    seconds: float | None
    run_dir: str
    params: dict[str, Any]
    figures: dict[str, float | None]
    error: str


def rows(trials: Sequence[FrozenTrial]) -> list[TrialRow]:
    """A row for each trial, however often it was taken up again, in the order of their numbers."""
    return [_row(trial) for trial in shown(trials)]


def _row(trial: FrozenTrial) -> TrialRow:
    noted, last = trial.user_attrs, trial.last_step
    latest = trial.intermediate_values[last] if last is not None else None
    return TrialRow(
        number=trial.number,
        state=STATES[trial.state.name],
        value=trial.value if trial.state.name == "COMPLETE" else latest,
        step=noted.get(TrialAttribute.STEP, last),
        seconds=noted.get(TrialAttribute.SECONDS),
        run_dir=noted.get(TrialAttribute.RUN_DIR, ""),
        params=trial.params,
        figures=noted.get(TrialAttribute.FIGURES, {}),
        error=noted.get(TrialAttribute.ERROR, ""),
    )


def best_of(found: Sequence[TrialRow], direction: str) -> TrialRow | None:
    """The best of the complete trials; of equals the first."""
    complete = [row for row in found if row.state == "complete" and row.value is not None]
    sign = -1 if direction == "maximize" else 1
    return min(complete, key=lambda row: sign * (row.value or 0.0), default=None)


def show_figure(value: float | None) -> str:
    """A figure in a table or a header."""
    return "" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, with as many parts before it as tell it from the others."""
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        alone = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
        names[key] = next(alone, key)
    return names


def show_value(value: Any, *, exact: bool = False) -> str:
    """A parameter in a table or on an axis."""
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if isinstance(value, float) and not exact else text(value)
