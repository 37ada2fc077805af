"""Monitors a training run: figures for the loggers, for plain files and for the progress bar."""

from __future__ import annotations

import csv
import logging
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger

from geotune.backbones.quantization import weight_count
from geotune.data.sampler import UpdatePlan
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError, Problem
from geotune.runs.logs import append_lines, figures_at, keep_until
from geotune.stages.base import Stage, as_stage
from geotune.system.ranks import gather_items, reduce_figures
from geotune.training.checkpointing import ends_update
from geotune.training.throughput import Weights, Window, Workload, perf_figures

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


WORKING_PARTS = ("language_model", "head", "tower", "projector")
"""Parts of a backbone that compute, in the order of the fields of `Workload`."""
COLUMNS = (
    "step",
    "train/loss",
    "train/lr",
    "train/grad_norm",
    "train/skipped",
    "perf/tokens_per_second",
    "perf/samples_per_second",
    "perf/data_wait_fraction",
    "perf/peak_memory_gb",
    "perf/mfu",
)
"""Columns of metrics.csv."""
UNREADABLE_FILE = "bad_samples.jsonl"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Sums over micro-batches."""

    loss: float = 0.0
    """Negative log-likelihood of the supervised tokens, in nats."""
    targets: float = 0.0
    """Supervised tokens."""
    tokens: float = 0.0
    """Computed tokens without padding; in a prefix tree, shared tokens count once."""
    samples: float = 0.0
    patches: float = 0.0
    """Image patches that the vision tower encoded; images whose features were cached do not count."""
    unreadable: float = 0.0
    """Unreadable samples."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def mean_loss(self) -> float:
        """Mean loss per supervised token, in nats; NaN without supervised tokens."""
        return self.loss / self.targets if self.targets else math.nan


class Monitor(Callback):
    """Logs every update to `updates.jsonl`, and figures to `metrics.csv` and the loggers every `every` updates.

    A line of `updates.jsonl` holds the ids and the loss of an update. Losses are means over the supervised tokens of
    all ranks. Tokens are counted without padding, and those that a prefix tree shares once. Time for checkpoints and
    evaluation does not count. `geotune.training.throughput` defines the `perf/*` figures. Unreadable samples are listed
    in `bad_samples.jsonl`. Must come after the step counter.

    Args:
        run_dir: Folder of the run.
        plan: The plan of updates.
        ids: Ids of the samples, by index.
        every: Number of updates between logged figures.
        max_unreadable: Largest number of unreadable samples.

    Raises:
        RuntimeError: In training, after `stage.max_skipped` updates in a row whose gradient was not finite.
        ConfigError: In training, once more than `max_unreadable` samples are unreadable.
    """

    def __init__(self, run_dir: Path, plan: UpdatePlan, ids: Sequence[str], *, every: int, max_unreadable: int) -> None:
        self.run_dir = run_dir
        self.plan = plan
        self.ids = ids
        self.every = every
        self.max_unreadable = max_unreadable
        self._update = Counts()
        """Counts of the current update in this process."""
        self._unreadable: list[tuple[str, str]] = []
        """Id of each unreadable sample of the current update in this process, and the reason."""
        self._window = Counts()
        """Counts since the last logged figures, over all processes."""
        self._patches = 0
        """Number of patches that the tower had encoded before the current micro-batch."""
        self._waited = 0.0
        """Seconds that this process has waited for micro-batches since the last logged figures."""
        self._idle = (0.0, 0.0)
        """Clock, and `stage.paused`, at the end of the last micro-batch."""
        self._mark = 0.0
        """Clock at the last logged figures."""
        self._paused = 0.0
        """`stage.paused` at the last logged figures."""
        self.last: dict[str, float] = {}
        """The last logged figures."""
        self.shown: dict[str, float] = {}
        """Figures for the progress bar."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the last figures of a finished run, and declare the W&B step axis of evaluations.

        Evaluations have an axis of their own because they may be logged after later updates.
        """
        self.last = figures_at(self.run_dir / "metrics.csv", as_stage(pl_module).total_updates)
        self._workload = workload_of(as_stage(pl_module).backbone)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.experiment.define_metric("eval/*", step_metric="eval/step")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and drop the log lines of an interrupted run that lie beyond the resumed checkpoint.

        This cannot happen in `on_train_start`, where the step counter is restored after this callback has run.
        """
        if trainer.is_global_zero:
            for name in ("updates.jsonl", "metrics.csv", UNREADABLE_FILE):
                keep_until(self.run_dir / name, as_stage(pl_module).step)
        self._mark, self._paused = self._idle = time.perf_counter(), as_stage(pl_module).paused

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Add the time that this process has waited for the micro-batch."""
        stage, (since, paused) = as_stage(pl_module), self._idle
        self._waited += time.perf_counter() - since - (stage.paused - paused)
        self._patches = stage.backbone.patches

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the counts of the micro-batch; at the end of an update, log it."""
        stage = as_stage(pl_module)
        self._update += Counts(
            loss=float(outputs["nll"]),
            targets=len(batch.labels),
            tokens=batch.tokens,
            samples=len(batch.ids),
            patches=stage.backbone.patches - self._patches,
            unreadable=len(batch.unreadable),
        )
        self._unreadable += batch.unreadable
        if ends_update(trainer, batch_idx):
            self._end_update(trainer, stage, [self.ids[index] for index in self.plan.update(batch.update)])
        self._idle = time.perf_counter(), stage.paused

    def _end_update(self, trainer: Trainer, stage: Stage, ids: list[str]) -> None:
        step, counts = stage.step, Counts(*reduce_figures(trainer, astuple(self._update)))
        self._window += counts
        # The reduced count decides, so that either all processes gather or none does.
        unreadable = sorted(gather_items(self._unreadable)) if counts.unreadable else []
        self._update, self._unreadable = Counts(), []
        stage.unreadable.update(unreadable)
        line = {"step": step, "loss": counts.mean_loss, "targets": int(counts.targets), "ids": ids}
        if unreadable:
            line["left_out"] = [sample for sample, _ in unreadable]
        if trainer.is_global_zero:
            append_lines(self.run_dir / "updates.jsonl", [line])
            append_lines(
                self.run_dir / UNREADABLE_FILE,
                [{"step": step, "id": sample, "reason": why} for sample, why in unreadable],
            )
            for sample, why in unreadable:
                log.warning("update %d: sample %s is left out: %s", step, sample, why)
        if step % self.every == 0 or step == stage.total_updates:
            self._log(trainer, stage)
        if len(stage.unreadable) > self.max_unreadable:
            sample, why = unreadable[-1]
            raise ConfigError(
                Problem(
                    "data.max_bad_samples",
                    self.max_unreadable,
                    f"{len(stage.unreadable)} samples were unreadable by update {step}, the last one {sample} ({why})",
                    f"{self.run_dir / UNREADABLE_FILE} lists them: restore their images and continue with "
                    "resume=last, or raise data.max_bad_samples",
                )
            )
        if stage.skipped_in_a_row >= stage.max_skipped:
            raise RuntimeError(
                f"update {step}: the gradient was not finite {stage.skipped_in_a_row} times in a row "
                f"(stage.max_skipped={stage.max_skipped}); lower stage.lr, or look at its samples: {', '.join(ids)}"
            )

    def _log(self, trainer: Trainer, stage: Stage) -> None:
        step = stage.step
        counts = self._window
        now, paused = time.perf_counter(), stage.paused
        seconds = now - self._mark - (paused - self._paused)
        self._mark, self._paused = now, paused
        figures: dict[str, float] = {
            "train/loss": counts.mean_loss,
            "train/lr": stage.used_lr,
            "train/grad_norm": stage.grad_norm,
            "train/skipped": stage.skipped,
            **perf_figures(
                Window(
                    seconds,
                    counts.tokens,
                    counts.samples,
                    reduce_figures(trainer, [self._waited], "mean")[0],
                    self._workload.flops(counts.tokens, counts.targets, counts.patches),
                    reduce_figures(trainer, [peak_memory_bytes(stage.device)], "max")[0],
                ),
                [device_name(stage.device)] * trainer.world_size,
            ),
        }
        self._window, self._waited = Counts(), 0.0
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
    """A progress bar that shows the monitor's figures."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(leave=True)
        self.monitor = monitor

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the figures that are shown beside the bar."""
        stage = as_stage(pl_module)
        return {"step": f"{stage.step}/{stage.total_updates}", **self.monitor.shown}


def workload_of(backbone: Backbone) -> Workload:
    """Return the numbers of weights that a training step of `backbone` computes with, by part."""
    base = backbone.base
    head, embedding = base.lm_head.weight, base.get_input_embeddings().weight
    counts: dict[tuple[str | None, bool], int] = {}
    for name, parameter in base.named_parameters():
        if parameter is not head and parameter is not embedding:
            key = backbone.parts.part_of(name), parameter.requires_grad
            counts[key] = counts.get(key, 0) + weight_count(parameter)
    counts["head", head.requires_grad] = weight_count(head)
    weights = {part: Weights(counts.get((part, False), 0), counts.get((part, True), 0)) for part in WORKING_PARTS}
    return Workload(weights["language_model"], weights["head"], weights["tower"], weights["projector"])


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory of this process in bytes: allocated memory of a GPU, resident memory on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def device_name(device: torch.device) -> str:
    """Return the name that the driver gives to a GPU; for other devices their type."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
