"""Which checkpoint of a run is the best: the figure that decides, and its best value so far.

A best value belongs to a figure, its direction, and the questions and the answer mode of its suite. A run that resumes
with others starts a best value of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from geotune.config.figure_names import Direction, direction_of
from geotune.runs.directory import State
from geotune.runs.figures import figure, headline
from geotune.system.digests import fingerprint_of

ANY_SUITE = ""
"""Stands for the suites of an evaluator that does not tell them apart."""
log = logging.getLogger(__name__)


class BestCheckpoint:
    """Remembers the best value of one figure and the step that reached it.

    Args:
        named: Name of the figure, `<suite>/[<task>/]<figure>`; None for the headline figure of the first suite that
            has one.
        direction: Whether a larger or a smaller value is better; None to tell by the figure's name.
        suites: What tells the figures of each suite from those of others, by the suite's name; see `suites_told_by`.
    """

    def __init__(
        self,
        named: str | None = None,
        direction: Direction | None = None,
        suites: Mapping[str, str] | None = None,
    ) -> None:
        self.figure = named
        """Name of the figure; None until the first evaluation if it is a headline figure."""
        self.direction = direction
        self.suites = suites or {}
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

    @property
    def value_by(self) -> str | None:
        """What `value` belongs to besides its figure, in words: the direction and what tells the suite from others."""
        if self._resumed is not None:
            return self._resumed.best_evaluator
        if self.figure is None:
            return None
        suite = self.suites.get(self.figure.partition("/")[0], self.suites.get(ANY_SUITE))
        return ", ".join(filter(None, (direction_of(self.figure, self.direction), suite)))

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
        is_figure = before == self.figure or (state.best_figure is None and self.figure.endswith("/mean_accuracy"))
        if not is_figure or state.best_evaluator not in (None, self.value_by):
            log.warning(
                "the best checkpoint was that of %s (%s) and is now that of %s (%s): the best value starts anew",
                before,
                state.best_evaluator or "of an older version",
                self.figure,
                self.value_by,
            )
            self.value = self.step = None


def suites_told_by(evaluators: Sequence[Any], node: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what tells the figures of each suite from those of others, by the suite's name.

    An evaluator says so by its method `suites_told`; without that, the config of the evaluator, `node`, does. When it
    evaluates, and how many questions at a time, changes no figure.
    """
    told: dict[str, str] = {}
    for evaluator in evaluators:
        if hasattr(evaluator, "suites_told"):
            told |= evaluator.suites_told()
        elif node is not None:
            settings = {key: value for key, value in node.items() if key not in ("every", "at_start", "batch_size")}
            digest = fingerprint_of(json.dumps(settings, sort_keys=True, default=str))
            told[ANY_SUITE] = f"settings {digest}"
    return told
