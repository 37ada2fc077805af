"""Which checkpoint of a run is the best: the figure that decides, and its best value so far."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from geotune.config.figure_names import Direction, direction_of
from geotune.runs.directory import State
from geotune.runs.figures import figure, headline

log = logging.getLogger(__name__)


class BestCheckpoint:
    """Remembers the best value of one figure and the step that reached it.

    Args:
        named: Name of the figure, `<suite>/[<task>/]<figure>`; None for the headline figure of the first suite that
            has one.
        direction: Whether a larger or a smaller value is better; None to tell by the figure's name.
    """

    def __init__(self, named: str | None = None, direction: Direction | None = None) -> None:
        self.figure = named
        """Name of the figure; None until the first evaluation if it is a headline figure."""
        self.direction = direction
        self.value: float | None = None
        """Best value so far; None before the first."""
        self.step: int | None = None
        """Step that reached it."""
        self._resumed: State | None = None
        """State of the run that is continued, until the first evaluation has told the name of the figure."""

    @property
    def value_of(self) -> str | None:
        """Name of the figure that `value` belongs to."""
        return self.figure if self._resumed is None else self._resumed.best_figure

    def resume(self, state: State) -> None:
        """Continue from a checkpoint of the same run."""
        self._resumed, self.value, self.step = state, state.best, state.best_step

    def value_in(self, evaluation: Mapping[str, Any]) -> float | None:
        """Return the figure's value in an evaluation; None if it has none or if no suite has a headline figure.

        Raises ConfigError if the evaluation has no figure of that name.
        """
        if "suites" not in evaluation:
            return None
        if self.figure is None:
            self.figure = headline(evaluation)
        if self.figure is None:
            return None
        self._start_anew_if_another()
        return figure(evaluation, self.figure, key="trainer.best")

    def improves(self, value: float) -> bool:
        """Return whether a value of the figure is better than the best so far."""
        assert self.figure is not None
        if self.value is None:
            return True
        return value > self.value if direction_of(self.figure, self.direction) == "maximize" else value < self.value

    def _start_anew_if_another(self) -> None:
        """Forget the best value of the run that is continued if it is that of another figure."""
        state, self._resumed = self._resumed, None
        if state is None or state.best is None or self.figure is None:
            return
        # Older versions did not note the name: it was the mean accuracy of the first suite with tasks.
        before = state.best_figure or "mean_accuracy"
        if before != self.figure and not (state.best_figure is None and self.figure.endswith("/mean_accuracy")):
            log.warning(
                "the best checkpoint was that of %s and is now that of %s: the best value starts anew",
                before,
                self.figure,
            )
            self.value = self.step = None
