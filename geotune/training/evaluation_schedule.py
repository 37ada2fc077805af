"""When a run is evaluated: at its start, every few updates and at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.runs.directory import evaluation_path
from geotune.training.random_state import rng_state, set_rng_state

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from geotune.stages.base import Stage


class EvaluationSchedule:
    """Calls the trainer's evaluators when they are due, and remembers the last result.

    An evaluator is a callback with `evaluate(trainer, stage, step) -> dict`. It is called at step 0 unless its
    `at_start` is false, then every `every` updates (its own, or the run's if it has none), and at the last update.
    """

    def __init__(self, run_dir: Path, *, every: int) -> None:
        self.run_dir = run_dir
        self.every = every
        self.result: dict[str, Any] | None = None
        """The last evaluation."""

    def is_done(self, step: int) -> bool:
        """Whether the run directory holds the evaluation at `step`."""
        return evaluation_path(self.run_dir, step).is_file()

    def recall(self, step: int) -> None:
        """Take the evaluation at `step` from the run directory if this process has made none."""
        if self.result is None and self.is_done(step):
            self.result = json.loads(evaluation_path(self.run_dir, step).read_text(encoding="utf-8"))

    def run(self, trainer: Trainer, stage: Stage) -> list[dict[str, Any]]:
        """The results of the evaluators that are due at `stage.step`; the run's random state does not move."""
        random_state = rng_state()
        results = [
            evaluator.evaluate(trainer, stage, stage.step)
            for evaluator in trainer.callbacks  # type: ignore[attr-defined]
            if hasattr(evaluator, "evaluate") and self._is_due(evaluator, stage)
        ]
        set_rng_state(random_state)
        if results:
            self.result = results[-1]
        return results

    def _is_due(self, evaluator: Any, stage: Stage) -> bool:
        if stage.step == 0:
            return bool(getattr(evaluator, "at_start", True))
        every = getattr(evaluator, "every", None) or self.every
        return stage.step == stage.total_updates or stage.step % every == 0
