"""The base of all stages: a backbone, its optimizer, and what a stage reports, scales and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import torch
from lightning.pytorch import LightningModule
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geotune.backbones.base import Backbone
from geotune.backbones.placement import placement_of, shard
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError, Problem
from geotune.runs.progress import RunProgress
from geotune.stages.optim import MuonAdamW, lr_factor, parameter_groups, warmup_updates


class StepOutput(TypedDict):
    """What `Stage.training_step` returns for a micro-batch."""

    loss: torch.Tensor
    """The scalar whose gradient is taken."""
    sums: Mapping[str, torch.Tensor | float]
    """Sums and counts over the micro-batch, by name; all processes have the same names in an update.

    They are added up over micro-batches and processes before `Stage.metrics` makes figures of them.
    """


class Stage(LightningModule):
    """A way of training `backbone`.

    A subclass defines `training_step` and `metrics`, and, where it has them, `gradient_scale`, `extra_state` and
    `load_extra_state`. What trains, logs and saves a run knows nothing else of a stage.

    `progress` is the progress of the run, in which the stage counts its updates. See
    `geotune.config.parts.StageConfig` for the other arguments. Raises ConfigError if a setting is out of range, or
    if no parameter of `backbone` trains.
    """

    def __init__(
        self,
        backbone: Backbone,
        progress: RunProgress,
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
        self.progress = progress
        """Progress of the run."""
        self.ends_update = False
        """Whether the current micro-batch is the last one of its update."""
        self._lr = float("nan")
        """Learning rate of the current update."""
        self._grad_norm: float | None = None
        """Global norm of the current update's gradient before clipping; None while it is unknown."""

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """Return the loss of a micro-batch and the sums that it adds to the figures of its update.

        DDP averages gradients over processes and the trainer averages them over micro-batches; the loss undoes what it
        does not want of that.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no training_step")

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of one or more updates from their added sums, by names such as `loss`.

        They are logged as `train/<name>` in this order, and the progress bar shows the first. A figure without a value
        is NaN or missing.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no metrics")

    def gradient_scale(self) -> float | None:
        """Return the factor for the gradient of the update that ends now, before clipping; None leaves it as it is.

        Every process calls this once per update and gets the same factor. With NaN, the update is skipped.
        """
        return None

    def extra_state(self) -> dict[str, Any]:
        """Return what the stage needs to resume, besides weights, optimizer and progress; saved with each checkpoint.

        Every process calls this, and the state of the first one is saved. It holds tensors, numbers, text, and lists
        and dicts of them: what `torch.load(weights_only=True)` can read. What changes with an update has to change by
        the end of `optimizer_step`: Lightning calls the stage's `on_train_batch_end` after the checkpoint is written.
        """
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `extra_state` returned; its tensors are on the CPU. Every process calls this.

        It is not called for a checkpoint without such a state. Raises KeyError, ValueError or RuntimeError for the
        state of another stage.
        """
        raise ValueError(f"{type(self).__name__} has no state of its own, but the checkpoint holds {', '.join(state)}")

    def on_train_start(self) -> None:
        """Switch to training mode, because Lightning does not change the mode of a module."""
        self.train()

    def configure_model(self) -> None:
        """Shard the weights if the strategy has set up a device mesh."""
        if self.device_mesh is not None:
            shard(self.backbone, self.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Note whether the micro-batch ends its update."""
        self.ends_update = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the learning-rate schedule, which advances with every update."""
        named = list(self.backbone.named_parameters())
        optimizer: Optimizer
        if self.optimizer == "muon":
            optimizer = MuonAdamW(named, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
        else:
            groups = parameter_groups(named, self.weight_decay)
            optimizer = AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)
        total = self.progress.total
        warmup = warmup_updates(self.warmup, total)
        scheduler = LambdaLR(
            optimizer,
            lambda step: lr_factor(
                step, total=total, warmup=warmup, schedule=self.schedule, min_ratio=self.min_lr_ratio
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Scale the gradient of an update by `gradient_scale`, and clip it to the global norm `clip_norm`.

        A gradient that is not finite is dropped: the update then counts, but changes no weight.
        """
        if not self.ends_update:  # some strategies call this method after each micro-batch
            return
        placement = placement_of(self.trainer)
        parameters = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        scale = self.gradient_scale()
        if scale is not None:
            placement.scale(parameters, scale)
        self._lr = float(optimizer.param_groups[0]["lr"])
        norm = placement.clip(parameters, float("inf") if self.clip_norm is None else self.clip_norm)
        self._grad_norm = None if norm is None else float(norm)
        if norm is not None and not torch.isfinite(norm):
            for parameter in parameters:
                parameter.grad = None

    def note_gradient_norm(self, norm: float) -> None:
        """Take the norm of the update's gradient from a strategy that clips in its own step."""
        self._grad_norm = norm

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Run a micro-batch or an update, as the strategy does it, and count the update at its end."""
        super().optimizer_step(*args, **kwargs)
        if self.ends_update:
            self.progress.count_update(lr=self._lr, grad_norm=self._grad_norm)


def as_stage(module: LightningModule) -> Stage:
    """Return `module`, which must be a stage, with its type; for callbacks."""
    assert isinstance(module, Stage)
    return module
