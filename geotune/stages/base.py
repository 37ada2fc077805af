"""The base of all stages: a backbone, its optimizer, the state of the run, and the figures of the last update."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geotune.backbones.base import Backbone
from geotune.backbones.placement import placement_of, shard
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError, Problem
from geotune.stages.optim import MuonAdamW, lr_factor, parameter_groups, warmup_updates
from geotune.system.ranks import reduce_figures


class Stage(LightningModule):
    """A way of training `backbone`. A subclass defines the loss of a micro-batch in `training_step`.

    See `geotune.config.parts.StageConfig` for the other arguments. Raises ConfigError if a setting is out of range,
    or if no parameter of `backbone` trains.
    """

    def __init__(
        self,
        backbone: Backbone,
        lr: float = 1e-4,
        optimizer: Literal["adamw", "muon"] = "adamw",
        weight_decay: float = 0.0,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        warmup: int | float = 0.05,
        schedule: Literal["cosine", "linear", "constant"] = "cosine",
        min_lr_ratio: float = 0.0,
        clip_norm: float | None = 1.0,
        max_skipped: int = 5,
    ) -> None:
        super().__init__()
        if not any(parameter.requires_grad for parameter in backbone.parameters()):
            raise ConfigError(
                "backbone.tower, backbone.projector and backbone.language_model are all frozen: set one to lora or full"
            )
        if lr <= 0:
            raise ConfigError(Problem("stage.lr", lr, "must be above 0"))
        if clip_norm is not None and clip_norm <= 0:
            raise ConfigError(Problem("stage.clip_norm", clip_norm, "must be above 0, or null for no clipping"))
        if max_skipped < 1:
            raise ConfigError(Problem("stage.max_skipped", max_skipped, "must be at least 1"))
        if not 0 <= min_lr_ratio <= 1:
            raise ConfigError(Problem("stage.min_lr_ratio", min_lr_ratio, "must be between 0 and 1"))
        self.backbone = backbone
        self.lr = lr
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.betas = (betas[0], betas[1])
        self.eps = eps
        self.warmup = warmup
        self.schedule = schedule
        self.min_lr_ratio = min_lr_ratio
        self.clip_norm = clip_norm
        self.max_skipped = max_skipped
        self.total_updates: int = 1
        """Number of updates of the whole run; set before the run starts."""
        self.run_dir = Path()
        """Folder of the run; set before the run starts."""
        self.step: int = 0
        """Number of attempted updates; only `geotune.training` changes it."""
        self.skipped: int = 0
        """Number of updates that were skipped because their gradient was not finite."""
        self.skipped_in_a_row: int = 0
        """Number of updates that were skipped since the last one that was not."""
        self.paused: float = 0.0
        """Seconds spent on checkpoints and evaluation since this process started training."""
        self.unreadable: dict[str, str] = {}
        """Reason why each unreadable sample was left out, by its id; the same in every process."""
        self.ends_update = False
        """Whether the current micro-batch is the last one of its update."""
        self._planned_targets = 0
        """Supervised tokens that the current update was planned with, over all processes."""
        self._unreadable_targets = 0
        """Supervised tokens of the unreadable samples of the current update, in this process."""
        self.used_lr = float("nan")
        """Learning rate of the last update."""
        self.grad_norm = float("nan")
        """Global norm of the last update's gradient before clipping."""

    def on_train_start(self) -> None:
        """Switch to training mode, because Lightning does not change the mode of a module."""
        self.train()

    def configure_model(self) -> None:
        """Shard the weights if the strategy has set up a device mesh."""
        if self.device_mesh is not None:
            shard(self.backbone, self.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Note the planned and the missing supervised tokens, and whether the micro-batch ends its update."""
        accumulate = self.trainer.accumulate_grad_batches
        if batch_idx % accumulate == 0:
            self._unreadable_targets = 0
        self._planned_targets = batch.update_targets
        self._unreadable_targets += batch.unreadable_targets
        self.ends_update = (batch_idx + 1) % accumulate == 0

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the learning-rate schedule, which advances with every update."""
        named = list(self.backbone.named_parameters())
        optimizer: Optimizer
        if self.optimizer == "muon":
            optimizer = MuonAdamW(named, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
        else:
            groups = parameter_groups(named, self.weight_decay)
            optimizer = AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)
        total = self.total_updates
        warmup = warmup_updates(self.warmup, total)
        scheduler = LambdaLR(
            optimizer,
            lambda step: lr_factor(
                step, total=total, warmup=warmup, schedule=self.schedule, min_ratio=self.min_lr_ratio
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Clip the gradient of an update to the global norm `clip_norm`.

        The loss was divided by the planned number of supervised tokens. How many of them were missing is known only
        now, so the gradient is rescaled to the mean over the tokens that were there. A gradient that is not finite is
        dropped: the update then counts, but changes no weight.
        """
        if not self.ends_update:  # some strategies call this method after each micro-batch
            return
        placement = placement_of(self.trainer)
        parameters = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        remaining = self._planned_targets - int(reduce_figures(self.trainer, [self._unreadable_targets])[0])
        if remaining < self._planned_targets:
            placement.scale(parameters, self._planned_targets / remaining if remaining else float("nan"))
        limit = float("inf") if self.clip_norm is None else self.clip_norm
        self.used_lr = float(optimizer.param_groups[0]["lr"])
        norm = placement.clip(parameters, limit)
        if norm is None:
            return
        self.grad_norm = float(norm)
        if torch.isfinite(norm):
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
            for parameter in parameters:
                parameter.grad = None


def as_stage(module: LightningModule) -> Stage:
    """Return `module`, which must be a stage, with its type; for callbacks."""
    assert isinstance(module, Stage)
    return module
