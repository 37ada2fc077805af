"""Placement of weights, gradients and optimizer state: whole in every process, or sharded over the processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch import nn

from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.distributed.device_mesh import DeviceMesh
    from torch.optim import Optimizer

    from geotune.backbones.base import Backbone


DEEPSPEED_FOLDER = "deepspeed"
"""Folder of a checkpoint that holds DeepSpeed's own files."""


def shard(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Shard the language model's weights over `mesh`, layer by layer; a layer is gathered only while it computes.

    Tower and projector are not sharded, because a process that has cached an image's features does not call them. The
    modules outside the layers (embeddings, last norm, head) are sharded if they train. Raises ConfigError if embeddings
    and head are one tensor that trains.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    language: Any = backbone.base.model.language_model
    head = backbone.base.lm_head
    outside = [module for name, module in language.named_children() if name != "layers"]
    if isinstance(language.layers[0], FSDPModule):
        return
    if head.weight.requires_grad and head.weight is backbone.base.get_input_embeddings().weight:
        raise ConfigError(
            Problem(
                "trainer.strategy",
                "fsdp2",
                "embeddings and output head of this backbone are one tensor, which can't be sharded while it trains",
                "set backbone.language_model=lora, or use deepspeed_zero2",
            )
        )
    trained = [module for module in [*outside, head] if any(p.requires_grad for p in module.parameters())]
    for unit in [*language.layers, *trained]:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)


class Placement:
    """Replicated placement (one process, or DDP): every process holds all weights, gradients and optimizer state."""

    name: ClassVar[str] = "replicated"
    """Name that checkpoints record."""

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> torch.Tensor | None:
        """Clip gradients to the global norm `limit`.

        Returns the norm before clipping, None if the strategy clips by itself.
        """
        return nn.utils.clip_grad_norm_(parameters, limit)

    def scale(self, parameters: Iterable[nn.Parameter], factor: float) -> None:
        """Multiply the gradients by `factor`."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def drop(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        """Make the step of the optimizer that follows change no weight, whatever the gradients are."""
        for parameter in parameters:
            parameter.grad = None

    def gather(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """Return the whole values of the parameters. Every process must call this."""
        return {name: parameter.detach() for name, parameter in parameters.items()}

    def optimizer_state(self, trainer: Trainer) -> Any:
        """Return the optimizer state to save with a checkpoint.

        It is meaningful in the first process alone, and None if the strategy saves it itself. Every process must call
        this.
        """
        return trainer.optimizers[0].state_dict() if trainer.is_global_zero else None

    def save_part(self, trainer: Trainer, folder: Path) -> None:
        """Write the files of this process, if the strategy has any, to `folder`. Every process must call this."""

    def load_optimizer(self, trainer: Trainer, folder: Path, content: Mapping[str, Any]) -> None:
        """Load the optimizer state from the checkpoint `folder`, whose trainer state is `content`.

        Raises ConfigError if another placement wrote it.
        """
        written = content.get("placement", Placement.name)
        if written != self.name:
            raise ConfigError(
                Problem(
                    "resume",
                    folder,
                    f"its optimizer state is {written}, but this trainer.strategy needs {self.name}",
                    "use the strategy of that run",
                )
            )
        self._load(trainer, folder, content["optimizer"])

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        trainer.optimizers[0].load_state_dict(state)


class ShardedPlacement(Placement):
    """FSDP2: parameters, gradients and optimizer state are sharded.

    Checkpoints hold them whole and resume on any number of processes.
    """

    name = "fsdp2"

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> torch.Tensor:
        """Clip gradients to the global norm `limit` over all shards; return the norm before."""
        return _gather_tensor(nn.utils.clip_grad_norm_(parameters, limit))

    def gather(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """Gather the parameters."""
        return {name: _gather_tensor(parameter.detach()) for name, parameter in parameters.items()}

    def optimizer_state(self, trainer: Trainer) -> Any:
        """Gather the optimizer state, by name of parameter."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return get_optimizer_state_dict(trainer.lightning_module, trainer.optimizers[0], options=options)

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(trainer.lightning_module, trainer.optimizers[0], state, options=options)


class DeepSpeedPlacement(Placement):
    """ZeRO: each process saves its own part of the optimizer state, which resumes on the same number of processes."""

    name = "deepspeed"

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """Do nothing: the engine clips in its own step."""

    def scale(self, parameters: Iterable[nn.Parameter], factor: float) -> None:
        """Multiply the gradients through DeepSpeed's access to the whole gradients, which is slow."""
        from deepspeed.utils import safe_get_full_grad, safe_set_full_grad

        for parameter in parameters:
            gradient = safe_get_full_grad(parameter)
            if gradient is not None:
                safe_set_full_grad(parameter, gradient * factor)

    def drop(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        """Set the learning rate to 0 for this step: the engine holds gradients of its own, and would step with zeros.

        The schedule sets the learning rate again right after the step. The optimizer's averages of gradients fade by
        one step, which they don't do under other strategies.
        """
        for group in optimizer.param_groups:
            group["lr"] = 0.0

    def gather(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """Gather the parameters, which stage 3 partitions."""
        import deepspeed

        result = {}
        for name, parameter in parameters.items():
            with deepspeed.zero.GatheredParameters([parameter]):
                result[name] = parameter.detach().cpu().clone()
        return result

    def optimizer_state(self, trainer: Trainer) -> None:
        """Return None: DeepSpeed's own files hold the state."""

    def save_part(self, trainer: Trainer, folder: Path) -> None:
        """Write DeepSpeed's own files."""
        deepspeed_engine(trainer).save_checkpoint(
            str(folder / DEEPSPEED_FOLDER), tag="state", save_latest=False, exclude_frozen_parameters=True
        )

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        path, _ = deepspeed_engine(trainer).load_checkpoint(
            str(folder / DEEPSPEED_FOLDER), tag="state", load_module_strict=False, load_lr_scheduler_states=False
        )
        if path is None:
            raise ConfigError(Problem("resume", folder, f"{DEEPSPEED_FOLDER} can't be read", "name another checkpoint"))


def placement_of(trainer: Trainer) -> Placement:
    """Return the placement that the trainer's strategy uses."""
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        return DeepSpeedPlacement()
    return ShardedPlacement() if isinstance(trainer.strategy, ModelParallelStrategy) else Placement()


def _gather_tensor(tensor: torch.Tensor) -> torch.Tensor:
    full: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def deepspeed_engine(trainer: Trainer) -> Any:
    """Return the DeepSpeed engine that wraps the stage."""
    return trainer.strategy.model
