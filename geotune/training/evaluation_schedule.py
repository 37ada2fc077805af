"""When a run is evaluated: at its start, at regular numbers of updates, and at its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from geotune.runs.directory import evaluation_path
from geotune.training.random_state import rng_state, set_rng_state

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from geotune.runs.progress import RunProgress
    from geotune.stages.base import Stage


class EvaluationSchedule:
    """Runs the trainer's evaluators when they are due, and remembers the last result.

    An evaluator is a callback with a method `evaluate(trainer, stage, step) -> dict`. It runs at step 0 unless its
    attribute `at_start` is false, then at every multiple of its attribute `every` (without one: of the run's `every`),
    and at the last update.
    """

    def __init__(self, progress: RunProgress, *, every: int) -> None:
        self.progress = progress
        self.every = every
        self.result: dict[str, Any] | None = None
        """The result of the last evaluation; None before the first."""

    def is_done(self, step: int) -> bool:
        """Return whether the run directory holds the evaluation at `step`."""
        return evaluation_path(self.progress.run_dir, step).is_file()

    def recall(self, step: int) -> None:
        """Read the evaluation at `step` from the run directory, if it is there and this process has run none."""
        if self.result is None and self.is_done(step):
            self.result = json.loads(evaluation_path(self.progress.run_dir, step).read_text(encoding="utf-8"))

    def run(self, trainer: Trainer, stage: Stage) -> list[dict[str, Any]]:
        """Run the evaluators that are due at the current step, and return their results.

        The random state afterwards is the one before, so evaluating does not change the run.
        """
        random_state = rng_state()
        results = [
            evaluator.evaluate(trainer, stage, self.progress.step)
            for evaluator in trainer.callbacks  # type: ignore[attr-defined]
            if hasattr(evaluator, "evaluate") and self._is_due(evaluator)
        ]
        set_rng_state(random_state)
        if results:
            self.result = results[-1]
        return results

    def _is_due(self, evaluator: Any) -> bool:
        step = self.progress.step
        if step == 0:
            return bool(getattr(evaluator, "at_start", True))
        every = getattr(evaluator, "every", None) or self.every
        return step == self.progress.total or step % every == 0
