"""The in-loop evaluator: a Lightning callback that runs `eval.evaluator` during training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from eval.answerers.local import LocalAnswerer
from eval.evaluator import Evaluator
from eval.plots.accuracy import plot_accuracy
from eval.report.terminal import evaluation_tables
from eval.suites.base import Suite
from geotune.config.instantiation import instantiate_checked
from geotune.runs.directory import evaluation_path, predictions_path, read_json
from geotune.runs.predictions import Prediction, write_predictions
from geotune.system.ranks import gather_items
from geotune.system.strict_json import write_json

log = logging.getLogger(__name__)


class InLoopEvaluator(Callback):
    """Evaluates the backbone of a training run, and reports to files, the terminal and W&B.

    The callback does not decide when to evaluate: the component that writes checkpoints reads `every` and `at_start`,
    and calls `evaluate`. In the run directory it writes `eval/step_<N>.json`, `predictions/step_<N>.jsonl` and
    `accuracy.png`.

    suites: suites, or their config nodes (`_target_` and fields), by name. every: number of updates between
    evaluations; None: evaluate at each checkpoint. at_start: evaluate before the first update. answer_mode, batch_size,
    max_new_tokens: as in `Evaluator`.
    """

    def __init__(
        self,
        suites: dict[str, Any],
        answer_mode: str = "generate",
        every: int | None = None,
        at_start: bool = True,
        batch_size: int = 16,
        max_new_tokens: int = 256,
    ) -> None:
        self.every = every
        self.at_start = at_start
        self.evaluator = Evaluator(
            {name: _suite(name, node) for name, node in suites.items()}, answer_mode, batch_size, max_new_tokens
        )

    def prepare(self) -> None:
        """Load the questions, so that a broken dataset is reported before anything slow starts."""
        self.evaluator.prepare()

    def evaluate(self, trainer: Trainer, stage: LightningModule, step: int) -> dict[str, Any]:
        """Evaluate `stage.backbone` at `step` and report; every process calls this and gets the same result.

        Returns the content of `eval/step_<N>.json`, whose `mean_accuracy` is None without a multiple-choice suite.
        """
        answerer = LocalAnswerer(stage.backbone, self.evaluator.batch_size)  # type: ignore[arg-type]
        # no_grad, not inference_mode: a backbone may cache tensors (rotary tables, embeddings) that training reads.
        with evaluation_mode(stage), torch.no_grad():
            result, predictions = self.evaluator.run(
                answerer, step, rank=trainer.global_rank, world_size=trainer.world_size, gather=gather_items
            )
        if trainer.is_global_zero:
            self._report(trainer, stage.progress.run_dir, step, result, predictions)  # type: ignore[union-attr,arg-type]
        return result

    def _report(
        self, trainer: Trainer, run_dir: Path, step: int, result: dict[str, Any], predictions: list[Prediction]
    ) -> None:
        """Write the files of an evaluation, print its table, and log it to W&B."""
        from lightning.pytorch.loggers import WandbLogger
        from rich.console import Console

        from eval.report.wandb_log import log_evaluation

        write_predictions(predictions_path(run_dir, step), predictions)
        write_json(evaluation_path(run_dir, step), result)
        plot_accuracy(run_dir)
        Console().print(evaluation_tables(result, read_json(evaluation_path(run_dir, 0)) if step else None))
        samples = {name: self.evaluator.samples(name) for name in self.evaluator.suites}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                log_evaluation(logger.experiment, result, samples, predictions)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode, and restore the mode of each submodule afterwards, even after an error."""
    training_before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in training_before.items():
            part.training = training


def _suite(name: str, node: Any) -> Suite:
    suite: Suite = instantiate_checked(node, f"evaluator.suites.{name}") if isinstance(node, Mapping) else node
    return suite
