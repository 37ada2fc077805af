"""Monitors a training run: figures for the loggers, for plain files and for the progress bar."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from geotune.backbones.quantization import weight_count
from geotune.data.sampler import UpdatePlan
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError, Problem
from geotune.runs.logs import COMPLETIONS_FILE, append_lines, append_row, figures_at, keep_until
from geotune.runs.progress import RunProgress
from geotune.stages.base import Stage, as_stage
from geotune.system.ranks import gather_items, reduce_figures
from geotune.training.throughput import Weights, Window, Workload, perf_figures

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


WORKING_PARTS = ("language_model", "head", "tower", "projector")
"""Parts of a backbone that compute, in the order of the fields of `Workload`."""
RUN_FIGURES = ("lr", "grad_norm", "skipped")
"""Figures `train/<name>` of any run, behind those of the stage."""
PERF_FIGURES = ("tokens_per_second", "samples_per_second", "data_wait_fraction", "peak_memory_gb", "mfu")
"""Figures `perf/<name>` of any run."""
RESERVED = ("step", "targets", "ids", "left_out", *RUN_FIGURES)
"""Names that no figure of a stage may have: keys of updates.jsonl, and figures of any run."""
STAGE = "stage/"
"""Start of the names under which the sums of the stage are added up; without it, they are counts of the monitor."""
UNREADABLE_FILE = "bad_samples.jsonl"
log = logging.getLogger(__name__)


class Monitor(Callback):
    """Logs every update to `updates.jsonl`, and figures to `metrics.csv` and the loggers every `every` updates.

    A line of `updates.jsonl` holds the ids of an update, its supervised tokens, and the figures that the stage makes of
    its sums over all ranks (`Stage.metrics`); a line of `metrics.csv` holds those of all updates since the line before.
    Tokens are counted without padding, and those that a prefix tree shares once. Time for checkpoints and evaluation
    does not count. `geotune.training.throughput` defines the `perf/*` figures. Unreadable samples are listed in
    `bad_samples.jsonl`.

    Args:
        progress: Progress of the run.
        plan: The plan of updates.
        ids: Ids of the samples, by index.
        workload: `workload_of` the backbone.
        every: Number of updates between logged figures.
        max_unreadable: Largest number of unreadable samples.

    Raises:
        RuntimeError: In training, after `stage.max_skipped` updates in a row whose gradient was not finite.
        ConfigError: In training, once more than `max_unreadable` samples are unreadable.
    """

    def __init__(
        self,
        progress: RunProgress,
        plan: UpdatePlan,
        ids: Sequence[str],
        *,
        workload: Workload,
        every: int,
        max_unreadable: int,
    ) -> None:
        self.progress = progress
        self.plan = plan
        self.ids = ids
        self.workload = workload
        self.every = every
        self.max_unreadable = max_unreadable
        self._update: dict[str, float] = {}
        """Counts, and sums of the stage, of the current update in this process."""
        self._unreadable: list[tuple[str, str]] = []
        """Id of each unreadable sample of the current update in this process, and the reason."""
        self._window: dict[str, float] = {}
        """Counts, and sums of the stage, since the last logged figures, over all processes."""
        self._patches = 0
        """Number of patches that the tower had encoded before the current micro-batch."""
        self._waited = 0.0
        """Seconds that this process has waited for micro-batches since the last logged figures."""
        self._idle = 0.0
        """Clock at the end of the last micro-batch."""
        self._mark = 0.0
        """Clock at the last logged figures."""
        self.last = figures_at(progress.run_dir / "metrics.csv", progress.total)
        """The last logged figures; before the first, those of a finished run that has only its last evaluation left."""
        self._logger_failed = False
        """Whether a logger has failed, which is said once."""
        self.shown: dict[str, float] = {}
        """Figures for the progress bar."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Declare the W&B step axis of evaluations: their own, because they may be logged after later updates."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.experiment.define_metric("eval/*", step_metric="eval/step")
                if not logger.experiment.offline:
                    log.info("W&B: %s", logger.experiment.url)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and drop the log lines of an interrupted run that lie beyond the resumed checkpoint."""
        if trainer.is_global_zero:
            for name in ("updates.jsonl", "metrics.csv", UNREADABLE_FILE, COMPLETIONS_FILE):
                keep_until(self.progress.run_dir / name, self.progress.step)
        self._mark = self._idle = self.progress.working_time()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Add the time that this process has waited for the micro-batch."""
        self._waited += self.progress.working_time() - self._idle - batch.own_seconds
        self._patches = as_stage(pl_module).backbone.patches

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the counts and sums of the micro-batch; at the end of an update, log it."""
        stage = as_stage(pl_module)
        counts: dict[str, float] = {
            # Computed tokens without padding; in a prefix tree, shared tokens count once.
            "tokens": batch.tokens,
            "samples": len(batch.ids),
            "targets": len(batch.labels),
            # Image patches that the tower encoded; images whose features were cached do not count.
            "patches": stage.backbone.patches - self._patches,
            "unreadable": len(batch.unreadable),
        }
        add_sums(self._update, counts)
        add_sums(self._update, {STAGE + name: float(value) for name, value in outputs["sums"].items()})
        self._unreadable += batch.unreadable
        if stage.ends_update:
            ids = batch.update_ids
            if ids is None:
                ids = tuple(self.ids[index] for index in self.plan.update(batch.update))
            self._end_update(trainer, stage, list(ids))
        self._idle = self.progress.working_time()

    def _end_update(self, trainer: Trainer, stage: Stage, ids: list[str]) -> None:
        progress, step = self.progress, self.progress.step
        sums = reduce_figures(trainer, self._update)
        add_sums(self._window, sums)
        # The reduced count decides, so that either all processes gather or none does.
        unreadable = sorted(gather_items(self._unreadable)) if sums["unreadable"] else []
        self._update, self._unreadable = {}, []
        progress.note_unreadable(dict(unreadable))
        of_stage = stage_figures(stage, sums)
        stage.note_figures(of_stage)
        line = {"step": step, **of_stage, "targets": int(sums["targets"]), "ids": ids}
        if unreadable:
            line["left_out"] = [sample for sample, _ in unreadable]
        if trainer.is_global_zero:
            with progress.noting_a_full_disk():
                append_lines(progress.run_dir / "updates.jsonl", [line])
                append_lines(
                    progress.run_dir / UNREADABLE_FILE,
                    [{"step": step, "id": sample, "reason": why} for sample, why in unreadable],
                )
            for sample, why in unreadable:
                log.warning("update %d: sample %s is left out: %s", step, sample, why)
        if step % self.every == 0 or step == progress.total:
            self._log(trainer, stage)
        if len(progress.unreadable) > self.max_unreadable:
            sample, why = unreadable[-1]
            raise ConfigError(
                Problem(
                    "data.max_bad_samples",
                    self.max_unreadable,
                    f"{len(progress.unreadable)} samples were unreadable by update {step}, the last one {sample} "
                    f"({why})",
                    f"{progress.run_dir / UNREADABLE_FILE} lists them: restore their images and continue with "
                    "resume=last, or raise data.max_bad_samples",
                )
            )
        if progress.skipped_in_a_row >= stage.config.max_skipped:
            raise RuntimeError(
                f"update {step}: the gradient was not finite {progress.skipped_in_a_row} times in a row "
                f"(stage.max_skipped={stage.config.max_skipped}); lower stage.lr, or look at its samples: "
                f"{', '.join(ids)}"
            )

    def _log(self, trainer: Trainer, stage: Stage) -> None:
        progress, sums, now = self.progress, self._window, self.progress.working_time()
        of_stage = stage_figures(stage, sums)
        run = dict(zip(RUN_FIGURES, (progress.lr, progress.grad_norm, progress.skipped), strict=True))
        figures: dict[str, float] = {
            **{f"train/{name}": value for name, value in (of_stage | run).items()},
            **perf_figures(
                Window(
                    now - self._mark,
                    sums["tokens"],
                    sums["samples"],
                    reduce_figures(trainer, {"waited": self._waited}, "mean")["waited"],
                    self.workload.flops(sums["tokens"], sums["targets"], sums["patches"]),
                    reduce_figures(trainer, {"memory": peak_memory_bytes(stage.device)}, "max")["memory"],
                ),
                [device_name(stage.device)] * trainer.world_size,
            ),
        }
        self._window, self._waited, self._mark = {}, 0.0, now
        self.last = figures
        if not trainer.is_global_zero:
            return
        columns = ["step", *columns_of(of_stage)]
        with progress.noting_a_full_disk():
            append_row(progress.run_dir / "metrics.csv", columns, {"step": progress.step, **figures})
        for logger in trainer.loggers:
            try:
                logger.log_metrics(figures, step=progress.step)
            except Exception as error:  # such as a service of W&B that was killed
                if not self._logger_failed:
                    log.warning("%s can't log any more (%r); the run goes on", type(logger).__name__, error)
                self._logger_failed = True
        self.shown = dict(list(of_stage.items())[:1]) | {"tokens/s": figures["perf/tokens_per_second"]}


def add_sums(total: dict[str, float], more: Mapping[str, float]) -> None:
    """Add each of `more` to the sum of its name in `total`."""
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value


def stage_figures(stage: Stage, sums: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that `stage` makes of those of `sums` that are its own, whose names start with `STAGE`."""
    own = {name.removeprefix(STAGE): value for name, value in sums.items() if name.startswith(STAGE)}
    figures = stage.metrics(own)
    clash = [name for name in figures if name in RESERVED]
    assert not clash, f"{type(stage).__name__}.metrics: {', '.join(clash)} is not a figure of the stage; choose another"
    return figures


def columns_of(names: Iterable[str]) -> list[str]:
    """Return the columns of metrics.csv behind `step`, for the figures `names` of a stage."""
    return [*(f"train/{name}" for name in (*names, *RUN_FIGURES)), *(f"perf/{name}" for name in PERF_FIGURES)]


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
