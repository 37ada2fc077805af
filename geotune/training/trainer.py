"""Builds the Lightning trainer and the W&B logger from a recipe."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import WandbLogger


WANDB_MODES = {"dryrun": "offline", "run": "online"}
"""Modes by the older names that the variable WANDB_MODE may hold."""


def check_devices(trainer: Mapping[str, Any], backbone: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the devices and packages are there that the nodes `trainer` and `backbone` ask for."""
    import torch

    from geotune.training.strategies import ZERO

    on_cpu = "train on the CPU with trainer=cpu"
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = cuda or int(torch.backends.mps.is_available())
    accelerator, devices, strategy = (trainer[key] for key in ("accelerator", "devices", "strategy"))
    if accelerator == "gpu" and not gpus:
        text = "no GPU is visible to this process"
        raise ConfigError(Problem("trainer.accelerator", "gpu", text, f"{on_cpu}, or check nvidia-smi"))
    if accelerator != "cpu" and gpus and devices != "auto" and devices > gpus:
        text = f"{gpus} visible to this process"
        raise ConfigError(Problem("trainer.devices", devices, text, "give at most that number, or auto"))
    if strategy in ZERO and (accelerator == "cpu" or not cuda):
        raise ConfigError(
            Problem("trainer.strategy", strategy, "needs CUDA devices", "use trainer=ddp or trainer=fsdp2")
        )
    if backbone["quantization"] is not None and importlib.util.find_spec("bitsandbytes") is None:
        text = "needs bitsandbytes, which is not installed"
        remedy = "run pip install 'geotune[gpu]' or pip install bitsandbytes, or set {key}=null"
        raise ConfigError(Problem("backbone.quantization", backbone["quantization"], text, remedy))


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


def loggers_from(cfg: DictConfig, run_dir: Path, run_id: str | None) -> list[WandbLogger]:
    """Return the W&B logger, or no logger if W&B is disabled.

    The mode is that of the recipe, else that of the variable WANDB_MODE, else offline. `run_id` is the id of the W&B
    run to continue; None starts a new one. Raises ConfigError if wandb is not installed.
    """
    named = os.environ.get("WANDB_MODE") or "offline"
    mode = cfg.wandb.mode if cfg.wandb.mode is not None else WANDB_MODES.get(named, named)
    if mode == "disabled":
        return []
    try:
        import wandb  # noqa: F401
        from lightning.pytorch.loggers import WandbLogger
    except ModuleNotFoundError as error:
        raise ConfigError(
            Problem("wandb.mode", cfg.wandb.mode, str(error), "install wandb, or set wandb.mode=disabled")
        ) from error
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return [
        WandbLogger(
            project=cfg.wandb.project,
            entity=cfg.wandb.entity,
            group=cfg.wandb.group,
            name=cfg.wandb.name or run_dir.name,
            tags=list(cfg.wandb.tags),
            save_dir=str(run_dir),
            id=run_id,
            # WandbLogger's own argument `offline` would overwrite the variable WANDB_MODE.
            mode=mode,
            config=config,
        )
    ]


@contextmanager
def closing(loggers: list[WandbLogger]) -> Iterator[None]:
    """Finish the W&B run at the end of the block, also after an error, so that all its data is on disk."""
    try:
        yield
    finally:
        if loggers:
            import wandb

            wandb.finish()
