"""Builds the Lightning trainer from a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import WandbLogger


def check_devices(trainer: Mapping[str, Any], backbone: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the devices and packages are there that the nodes `trainer` and `backbone` ask for."""
    import torch
    from transformers.utils import is_bitsandbytes_available

    from geotune.training import strategies

    on_cpu = "train on the CPU with trainer=cpu"
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = cuda or int(torch.backends.mps.is_available())
    accelerator, devices, strategy = (trainer[key] for key in ("accelerator", "devices", "strategy"))
    if not gpus and accelerator != "cpu":
        reason = why_no_cuda()
        if accelerator == "gpu" or "too old" in reason:  # with auto, the run would be on the CPU unnoticed
            raise ConfigError(Problem("trainer.accelerator", accelerator, reason, f"{on_cpu}, or check nvidia-smi"))
    if accelerator != "cpu" and gpus and devices != "auto" and devices > gpus:
        text = f"{gpus} visible to this process"
        raise ConfigError(Problem("trainer.devices", devices, text, "give at most that number, or auto"))
    strategies.check_strategy(strategy, cpu=accelerator == "cpu")
    if backbone["quantization"] is not None and not is_bitsandbytes_available():
        text = "needs bitsandbytes, which is not installed"
        remedy = "run pip install 'geotune[gpu]' or pip install bitsandbytes, or set {key}=null"
        raise ConfigError(Problem("backbone.quantization", backbone["quantization"], text, remedy))


def why_no_cuda() -> str:
    """Return why no CUDA device can be used, as PyTorch says it."""
    import torch

    if torch.version.cuda is None:
        return "no GPU is visible to this process, because this build of PyTorch has no CUDA"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return str(error)
    return "no GPU is visible to this process"


def trainer_from(cfg: DictConfig, loggers: list[WandbLogger], *, vision_trains: bool) -> Trainer:
    """Return the Lightning trainer, without its own checkpoints, sampling, gradient clipping and precision.

    `vision_trains` says whether the vision tower or the projector trains. Raises ConfigError if the devices that the
    recipe asks for are not available.
    """
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins.environments import SLURMEnvironment
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from geotune.training.strategies import strategy_from

    devices = 1 if cfg.trainer.accelerator == "cpu" and cfg.trainer.devices == "auto" else cfg.trainer.devices
    several = cfg.trainer.strategy != "auto" or devices not in (1, "auto") or cfg.trainer.num_nodes > 1
    strategy: Any = "auto"
    if several:
        strategy = strategy_from(
            cfg.trainer.strategy,
            vision_trains=vision_trains,
            clip_norm=cfg.stage.clip_norm,
            cpu=cfg.trainer.accelerator == "cpu",
        )
    # No requeueing by Lightning: an interrupted run writes its own checkpoint, and the batch script starts it again.
    plugins: list[Any] = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    try:
        return Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=devices,
            num_nodes=cfg.trainer.num_nodes,
            strategy=strategy,
            plugins=plugins,
            accumulate_grad_batches=cfg.trainer.accumulate,
            max_epochs=1,  # the loader serves the updates of the whole run
            logger=loggers,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            use_distributed_sampler=False,
            default_root_dir=cfg.run_dir,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"trainer.accelerator={cfg.trainer.accelerator}, trainer.devices={cfg.trainer.devices}: {error}"
        ) from error
