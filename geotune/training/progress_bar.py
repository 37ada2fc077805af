"""The progress bar of a training run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from geotune.encoding.collate import Batch
from geotune.stages.base import as_stage
from geotune.system.progress import progress_bar
from geotune.training.monitor import Monitor


class ProgressBar(Callback):
    """Shows how many updates are done, the time left, and the monitor's figures. Must come after the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self._opened = ExitStack()
        self._advance: Callable[..., None]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar: the evaluation before the first update is done by now."""
        progress = self.monitor.progress
        self._advance = self._opened.enter_context(progress_bar("updates", progress.total, progress.step))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Advance at the end of an update."""
        if as_stage(pl_module).ends_update:
            self._advance(1, self.figures())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._opened.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self._opened.close()

    def figures(self) -> list[str]:
        """Return the monitor's figures as texts beside the bar."""
        return [
            f"{value:,.0f} {name}" if name.endswith("/s") else f"{name} {value:.4g}"
            for name, value in self.monitor.shown.items()
        ]
