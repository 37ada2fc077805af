"""The base of all stages: a backbone, its optimizer, and what a stage reports, scales and saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import torch
from lightning.pytorch import LightningModule
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geotune.backbones.base import Backbone
from geotune.backbones.placement import placement_of, shard
from geotune.config.parts import StageConfig
from geotune.data.datamodule import TrainingData
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError
from geotune.runs.progress import RunProgress
from geotune.stages.optim import MuonAdamW, lr_factor, parameter_groups, warmup_updates

if TYPE_CHECKING:
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan


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

    `progress` is the progress of the run, in which the stage counts its updates. Raises ConfigError if no parameter of
    `backbone` trains.
    """

    Config: ClassVar[type[StageConfig]] = StageConfig
    """Options of the stage; a subclass with options of its own names a subclass of `StageConfig`."""

    def __init__(self, backbone: Backbone, config: StageConfig, progress: RunProgress) -> None:
        super().__init__()
        if not any(parameter.requires_grad for parameter in backbone.parameters()):
            raise ConfigError(
                "backbone.tower, backbone.projector and backbone.language_model are all frozen: set one to lora or full"
            )
        self.backbone = backbone
        self.config = config
        """Options of the stage."""
        self.progress = progress
        """Progress of the run."""
        self.ends_update = False
        """Whether the current micro-batch is the last one of its update."""
        self.stop_reason: str | None = None
        """Why the run must not go on; None as long as it may. All processes agree on it."""
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

    def training_data(self, dataset: SampleDataset, plan: UpdatePlan, **settings: Any) -> TrainingData:
        """Return the data module that serves the micro-batches of the run. Raises ConfigError for unusable samples.

        settings: the other arguments of `TrainingData`.
        """
        return TrainingData(dataset, plan, **settings)

    def probe_loss(self, batch: Batch) -> torch.Tensor:
        """Return a scalar whose computation takes as much memory as a training step on `batch` does."""
        return self.backbone.token_logprobs(batch).sum()

    def preview(self, data: TrainingData) -> str:
        """Return what a dry run shows of the stage's own, as text; nothing by default."""
        return ""

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of one or more updates from their added sums, by names such as `loss`.

        They are logged as `train/<name>` in this order, and the progress bar shows the first. A figure without a value
        is NaN or missing.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no metrics")

    def note_figures(self, figures: Mapping[str, float]) -> None:
        """Take note of the figures (`metrics`) of the update that has ended; every process gets the same.

        What this changes is part of the checkpoint of the update. A stage that sets `stop_reason` here ends the run.
        """

    @property
    def can_be_saved(self) -> bool:
        """Whether a run could be resumed from a checkpoint that is written now, at the end of an update."""
        return True

    def gradient_scale(self) -> float | None:
        """Return the factor for the gradient of the update that ends now, before clipping; None leaves it as it is.

        Every process calls this once per update and gets the same factor. With 0 the update changes no weight, on
        purpose; with NaN it counts as skipped because of a gradient that is not finite, and too many end the run.
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
        config, named = self.config, list(self.backbone.named_parameters())
        settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
        optimizer: Optimizer
        if config.optimizer == "muon":
            optimizer = MuonAdamW(named, weight_decay=config.weight_decay, **settings)
        else:
            optimizer = AdamW(parameter_groups(named, config.weight_decay), **settings)
        total = self.progress.total
        shape: dict[str, Any] = {"schedule": config.schedule, "min_ratio": config.min_lr_ratio}
        warmup = warmup_updates(config.warmup, total)
        scheduler = LambdaLR(optimizer, lambda step: lr_factor(step, total=total, warmup=warmup, **shape))
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
        self._lr = float(optimizer.param_groups[0]["lr"])
        if scale == 0:  # a gradient of zeros would still move the weights, by momentum and decay
            self._grad_norm = 0.0
            placement.drop(optimizer, parameters)
            return
        if scale is not None:
            placement.scale(parameters, scale)
        limit = self.config.clip_norm
        norm = placement.clip(parameters, float("inf") if limit is None else limit)
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
