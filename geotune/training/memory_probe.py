"""Runs the longest micro-batch before the first update, so that a run without enough memory ends at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy
from omegaconf import DictConfig

from geotune.data.datamodule import TrainingData
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError, Problem
from geotune.stages.base import Stage, as_stage
from geotune.stages.grpo import RolloutData
from geotune.training.monitor import device_name
from geotune.training.random_state import rng_state, set_rng_state

PROBED_DEVICES = ("cuda",)
"""Types of devices that are probed."""
STATES = 2
"""Numbers that the optimizer keeps for each trained parameter; they are not there before the first update."""


class MemoryProbe(Callback):
    """Runs the longest micro-batch of this process forward and backward before training, on a GPU.

    The memory that the optimizer will take is taken meanwhile. Weights, gradients and random state are afterwards what
    they were. DeepSpeed's engine, which takes the gradients away as they come, is not probed.

    data: the data of the run. settings: node `data` of its recipe. Raises ConfigError, in training, if the memory
    does not suffice.
    """

    def __init__(self, data: TrainingData, settings: DictConfig) -> None:
        self.data = data
        self.settings = settings

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the memory."""
        stage = as_stage(pl_module)
        if stage.device.type not in PROBED_DEVICES or isinstance(trainer.strategy, DeepSpeedStrategy):
            return
        batch = self.data.longest_batch(trainer.global_rank)
        if batch is None:
            return
        try:
            with nothing_changed(stage):
                probe(stage, batch)
        except torch.OutOfMemoryError as error:
            raise ConfigError(self.problem(batch, stage)) from error

    def problem(self, batch: Batch, stage: Stage) -> Problem:
        """Return what to tell the user if `batch` does not fit."""
        settings, tokens = self.settings, batch.input_ids.numel()
        what = f"{tokens:,} tokens, {len(batch.ids)} samples, {len(batch.images)} images"
        text = f"the longest micro-batch ({what}) does not fit in the memory of {device_name(stage.device)}"
        less = "set backbone.gradient_checkpointing=true, backbone.quantization=nf4 or a lower backbone.max_pixels"
        if settings.prefix_tree and not isinstance(self.data, RolloutData):
            return Problem("data.max_tokens", settings.max_tokens, text, f"try {{key}}={tokens * 3 // 4}, or {less}")
        shorter = "lower stage.rollout.max_new_tokens, or " if isinstance(self.data, RolloutData) else ""
        remedy = f"lower it and raise trainer.accumulate, or {shorter}{less}"
        return Problem("data.batch_size", settings.batch_size, text, remedy)


def probe(stage: Stage, batch: Batch) -> None:
    """Run `batch` forward and backward on the device of `stage`, beside what the optimizer will keep."""
    trained = [parameter for parameter in stage.backbone.parameters() if parameter.requires_grad]
    kept: list[Any] = [torch.empty_like(parameter) for parameter in trained for _ in range(STATES)]
    stage.train()
    stage.probe_loss(batch.to(stage.device)).backward()
    del kept


@contextmanager
def nothing_changed(stage: Stage) -> Iterator[None]:
    """Context after which random state, gradients and the counted memory are what they were."""
    random_state, training = rng_state(), stage.training
    try:
        yield
    finally:
        set_rng_state(random_state)
        stage.train(training)
        for parameter in stage.parameters():
            parameter.grad = None
        if stage.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(stage.device)
