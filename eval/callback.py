"""The in-loop evaluator: a Lightning callback that runs `eval.evaluator` during training."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from eval.answerers.local import LocalAnswerer
from eval.evaluator import Evaluator
from eval.plots.accuracy import accuracy_plots, plot_accuracy
from eval.plots.world import plot_world, world_map
from eval.report.terminal import evaluation_tables
from geotune.backbones.copies import is_sharded
from geotune.config.parts import EvaluatorConfig
from geotune.errors import ConfigError
from geotune.runs.directory import (
    evaluation_path,
    has_evaluation,
    map_path,
    outcome_files,
    outcomes_path,
    predictions_path,
    read_json,
)
from geotune.runs.outcomes import OutcomeWriter
from geotune.runs.predictions import Prediction, write_predictions
from geotune.runs.progress import RunProgress
from geotune.runs.suite_results import DISTANCE, kind_of
from geotune.sample import Sample
from geotune.system.interruption import Stopped, stoppable
from geotune.system.ranks import gather_items
from geotune.system.screen import as_text
from geotune.system.strict_json import write_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)


class InLoopEvaluator(Callback):
    """Evaluates the backbone of a training run, and reports to files, the terminal and W&B.

    The callback does not decide when to evaluate: the component that writes checkpoints reads `every` and `at_start`,
    and calls `evaluate`. In the run directory it appends to `outcomes/step_<N>.jsonl` while it asks, and then writes
    `predictions/step_<N>.jsonl`, `eval/step_<N>.json`, `accuracy.png` and, for each suite of distances,
    `maps/<suite>_step_<N>.png`.
    """

    Config: ClassVar[type[EvaluatorConfig]] = EvaluatorConfig

    def __init__(self, config: EvaluatorConfig) -> None:
        self.every = config.every
        self.at_start = config.at_start
        self.evaluator = Evaluator(config)

    def prepare(self) -> None:
        """Load the questions, so that a broken dataset is reported before anything slow starts."""
        self.evaluator.prepare()

    def questions(self) -> dict[str, list[Sample]]:
        """Return the questions of each suite that is loaded."""
        return self.evaluator.loaded

    def suites_told(self) -> dict[str, str]:
        """Return what tells the figures of each suite from those of others, by the suite's name."""
        return {name: self.evaluator.told(name) for name in self.evaluator.suites}

    def evaluate(self, trainer: Trainer, stage: LightningModule, step: int) -> dict[str, Any]:
        """Evaluate `stage.backbone` at `step` and report; every process calls this and gets the same result.

        Returns the content of `eval/step_<N>.json`, whose `mean_accuracy` is None without a multiple-choice suite.
        Raises RuntimeError if a suite can't measure its predictions at the first evaluation of the run, when nothing
        is lost yet; at later evaluations the suite's entry is marked as failed. Raises Stopped in every process if one
        of them was asked to stop while it asked; what was answered stays in the file of outcomes.
        """
        progress: RunProgress = cast(Any, stage).progress
        run_dir = progress.run_dir
        # The first process decides for all of them: another one may see older files.
        [is_first, *_] = gather_items([not has_evaluation(run_dir)])
        answerer = LocalAnswerer(stage.backbone, self.evaluator.config.batch_size)  # type: ignore[arg-type]
        # no_grad, not inference_mode: a backbone may cache tensors (rotary tables, embeddings) that training reads.
        with (
            outcomes_of(run_dir, step, trainer.global_rank, trainer.world_size) as writer,
            evaluation_mode(stage),
            torch.no_grad(),
            asking(alone=not is_sharded(stage.parameters())) as gather,
        ):
            result, predictions = self.evaluator.run(
                answerer,
                step,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                gather=gather,
                record=lambda suite, outcome: writer.append([outcome], suite),
                strict=is_first,
            )
        if trainer.is_global_zero:
            with stoppable() as interruption, interruption.answering("note"), progress.noting_a_full_disk():
                self._report(trainer, run_dir, step, result, predictions)
        return result

    def _report(
        self, trainer: Trainer, run_dir: Path, step: int, result: dict[str, Any], predictions: list[Prediction]
    ) -> None:
        """Write the files of an evaluation, then print its tables, draw its plots, and log it to W&B.

        What fails after the files are written is logged, and the run goes on.
        """
        from lightning.pytorch.loggers import WandbLogger

        write_predictions(predictions_path(run_dir, step), predictions)
        write_json(evaluation_path(run_dir, step), result)
        for suite, path in accuracy_plots(result, run_dir):
            with going_on(f"step {step}: the plot of suite {suite}"):
                plot_accuracy(run_dir, suite, path)
        maps = self._draw_maps(run_dir, step, result, predictions)
        with going_on(f"step {step}: the table in the terminal"):
            self._print(run_dir, step, result)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._log(logger, result, predictions, maps)

    def _draw_maps(
        self, run_dir: Path, step: int, result: dict[str, Any], predictions: list[Prediction]
    ) -> dict[str, Path]:
        """Draw the map of each suite of distances; returns the files of those that could be drawn, by suite."""
        maps = {}
        for suite, entry in result["suites"].items():
            if kind_of(entry) == DISTANCE:
                with going_on(f"step {step}: the map of suite {suite}"):
                    path = map_path(run_dir, suite, step)
                    plot_world(world_map(suite, step, predictions), path)
                    maps[suite] = path
        return maps

    def _print(self, run_dir: Path, step: int, result: dict[str, Any]) -> None:
        tables = evaluation_tables(result, read_json(evaluation_path(run_dir, 0)) if step else None)
        sys.stdout.write(as_text(tables))
        sys.stdout.flush()

    def _log(
        self, logger: WandbLogger, result: dict[str, Any], predictions: list[Prediction], maps: dict[str, Path]
    ) -> None:
        """Log an evaluation to W&B; its figures without a table of predictions if the table can't be made.

        maps: files of the maps that were drawn, by suite.
        """
        from eval.report.wandb_log import log_evaluation, prediction_table

        table, samples = None, {name: self.evaluator.samples(name) for name in self.evaluator.suites}
        with going_on(f"step {result['step']}: the table of predictions for W&B"):
            table = prediction_table(samples, predictions)
        with going_on(f"step {result['step']}: logging to W&B"):
            log_evaluation(logger.experiment, result, table, maps)


@contextmanager
def asking(*, alone: bool) -> Iterator[Callable[[list[Prediction]], list[Prediction]]]:
    """Provide `gather` for a block in which each process asks its share, and have the processes stop together.

    A request to stop ends the asking of a process at once. At its next `gather` it tells the others, and all raise
    Stopped. A ConfigError of one process ends the others in the same way.

    alone: whether a process answers without the others, so that it can stop between any two of its lines.
    """
    agreed = False

    def gather(predictions: list[Prediction]) -> list[Prediction]:
        nonlocal agreed
        with interruption.answering("note"):
            found = gather_items([(predictions, interruption.number, False)])
            agreed = any(number or failed for _, number, failed in found)
        if number := max(number for _, number, _ in found):
            raise Stopped(number)
        if agreed:
            raise ConfigError("another process of the run can't go on with the evaluation")
        return [prediction for part, _, _ in found for prediction in part]

    with stoppable() as interruption:
        try:
            with interruption.answering("raise" if alone else "note"):
                yield gather
            gather([])
        except (Stopped, ConfigError) as error:
            if not agreed:
                with interruption.answering("note"):
                    gather_items([([], error.number if isinstance(error, Stopped) else 0, True)])
            raise


@contextmanager
def going_on(what: str) -> Iterator[None]:
    """Log an error of the block instead of raising it: a report that fails must not end a training run."""
    try:
        yield
    except Exception:
        log.warning("%s failed; the run goes on", what, exc_info=True)


def outcomes_of(run_dir: Path, step: int, rank: int, world_size: int) -> OutcomeWriter:
    """Start the file of a process's outcomes anew; the first process removes those of processes that are no more."""
    if rank == 0:
        for path in outcome_files(run_dir, step):
            if path not in {outcomes_path(run_dir, step, other) for other in range(world_size)}:
                path.unlink()
    return OutcomeWriter(outcomes_path(run_dir, step, rank), fresh=True)


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
