"""What a training run says of itself: figures to the loggers, to plain files and to the progress bar."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger

from geotune.checkpoints import ends_update
from geotune.data.collate import Batch
from geotune.data.sampler import Plan
from geotune.stages.base import Stage, as_stage
from geotune.strict_json import finite

COLUMNS = (
    "step",
    "train/loss",
    "train/lr",
    "train/grad_norm",
    "train/skipped",
    "perf/tokens_per_second",
    "perf/samples_per_second",
)


class Monitor(Callback):
    """Logs training: `updates.jsonl` (ids and loss of every update), `metrics.csv` and the loggers every few updates.

    Losses are means over supervised tokens of all ranks; tokens are counted without padding; seconds without
    checkpoints and evaluation. Stands behind the step counter.

    Raises RuntimeError in training after `stage.max_skipped` updates in a row whose gradient was not finite.
    """

    def __init__(self, run_dir: Path, plan: Plan, ids: Sequence[str], *, every: int) -> None:
        self.run_dir = run_dir
        self.plan = plan
        self.ids = ids
        self.every = every
        self._update = [0.0, 0.0, 0.0]
        """Of the update under way: loss, tokens, samples."""
        self._window = [0.0, 0.0, 0.0, 0.0]
        """Since the last line: loss, targets, tokens, samples."""
        self._mark = 0.0
        """Clock at the last line."""
        self._paused = 0.0
        """Seconds paused until then."""
        self.last: dict[str, float] = {}
        """The latest line."""
        self.shown: dict[str, float] = {}
        """What the progress bar shows."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the last line if it is written; give evaluations their own step axis, they may be behind training."""
        self.last = figures_at(self.run_dir / "metrics.csv", as_stage(pl_module).total_updates)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.experiment.define_metric("eval/*", step_metric="eval/step")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; drop what an interrupted run logged beyond the checkpoint that this one goes on from.

        `on_train_start` would be too early: the counter is restored there.
        """
        if trainer.is_global_zero:
            for name in ("updates.jsonl", "metrics.csv"):
                keep_until(self.run_dir / name, as_stage(pl_module).step)
        self._mark, self._paused = time.perf_counter(), as_stage(pl_module).paused

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up; at the end of an update write it down."""
        self._update[0] += float(outputs["nll"])
        self._update[1] += batch.tokens
        self._update[2] += len(batch.ids)
        if not ends_update(trainer, batch_idx):
            return
        totals = torch.tensor(self._update, dtype=torch.float64, device=pl_module.device)
        loss, tokens, samples = trainer.strategy.reduce(totals, reduce_op="sum").tolist()
        self._update = [0.0, 0.0, 0.0]
        self._window = [a + b for a, b in zip(self._window, (loss, batch.update_targets, tokens, samples), strict=True)]
        stage = as_stage(pl_module)
        step = stage.step
        ids = [self.ids[index] for index in self.plan.update(batch.update)]
        if trainer.is_global_zero:
            line = {
                "step": step,
                "loss": loss / batch.update_targets,
                "targets": batch.update_targets,
                "ids": ids,
            }
            with (self.run_dir / "updates.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite(line)) + "\n")
        if step % self.every == 0 or step == stage.total_updates:
            self._log(trainer, stage)
        if stage.skipped_in_a_row >= stage.max_skipped:
            raise RuntimeError(
                f"update {step}: the gradient was not finite {stage.skipped_in_a_row} times in a row "
                f"(stage.max_skipped={stage.max_skipped}); lower stage.lr, or look at its samples: {', '.join(ids)}"
            )

    def _log(self, trainer: Trainer, stage: Stage) -> None:
        step = stage.step
        loss, targets, tokens, samples = self._window
        now, paused = time.perf_counter(), stage.paused
        seconds = now - self._mark - (paused - self._paused)
        self._mark, self._paused = now, paused
        figures: dict[str, float] = {
            "train/loss": loss / targets,
            "train/lr": stage.used_lr,
            "train/grad_norm": stage.grad_norm,
            "train/skipped": stage.skipped,
            "perf/tokens_per_second": tokens / seconds,
            "perf/samples_per_second": samples / seconds,
        }
        self._window = [0.0, 0.0, 0.0, 0.0]
        self.last = figures
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=step)
        path = self.run_dir / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow({"step": step, **figures})
        self.shown = {"loss": figures["train/loss"], "tokens/s": figures["perf/tokens_per_second"]}


class ProgressBar(RichProgressBar):
    """Rich bar with the monitor's figures."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(leave=True)
        self.monitor = monitor

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        stage = as_stage(pl_module)
        return {"step": f"{stage.step}/{stage.total_updates}", **self.monitor.shown}


def figures_at(path: Path, step: int) -> dict[str, float]:
    """The line of `step` in a metrics.csv; empty when there is none."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.pop("step") == str(step):
                return {name: float(value) for name, value in row.items()}
    return {}


def keep_until(path: Path, step: int) -> None:
    """Keep the header of a log of ours and its complete lines up to `step`."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("step,"):
            kept.append(line)
        elif line.endswith("\n"):
            at = json.loads(line)["step"] if line.startswith("{") else int(line.partition(",")[0])
            kept += [line] if at <= step else []
    fresh = path.with_name(f".{path.name}.partial")
    fresh.write_text("".join(kept), encoding="utf-8")
    fresh.replace(path)
