"""Where weights, gradients and optimizer state lie: whole in every process, or spread over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch import nn

from geotune.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.distributed.device_mesh import DeviceMesh

    from geotune.backbones.base import Backbone


DEEPSPEED_FOLDER = "deepspeed"


def shard(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Spread the language model's weights over `mesh`, layer by layer; a layer is whole only while it computes.

    Tower and projector stay whole: a process that has kept an image's features does not call them. What is outside the
    layers (embeddings, last norm, head) is spread when it trains, and stays whole when it is frozen. Raises ConfigError
    when embeddings and head are one tensor that trains.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    language: Any = backbone.base.model.language_model
    head = backbone.base.lm_head
    outside = [module for name, module in language.named_children() if name != "layers"]
    if isinstance(language.layers[0], FSDPModule):
        return
    if head.weight.requires_grad and head.weight is backbone.base.get_input_embeddings().weight:
        raise ConfigError(
            "trainer.strategy=fsdp2: embeddings and output head of this backbone are one tensor, which can't be spread "
            "while it trains; set backbone.language_model=lora, or use deepspeed_zero2"
        )
    trained = [module for module in [*outside, head] if any(p.requires_grad for p in module.parameters())]
    for unit in [*language.layers, *trained]:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)


class Placement:
    """Every process holds all weights, gradients and optimizer state: one process alone, and DDP."""

    name: ClassVar[str] = "replicated"

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> torch.Tensor | None:
        """Clip gradients to the global norm `limit`; the norm before, None where the strategy does it by itself."""
        return nn.utils.clip_grad_norm_(parameters, limit)

    def scale(self, parameters: Iterable[nn.Parameter], factor: float) -> None:
        """Multiply the gradients of the update."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def whole(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """The parameters as one process would have them; every process calls it."""
        return {name: parameter.detach() for name, parameter in parameters.items()}

    def optimizer_state(self, trainer: Trainer) -> Any:
        """What a checkpoint keeps of the optimizer, in the first process; every process calls it."""
        return trainer.optimizers[0].state_dict() if trainer.is_global_zero else None

    def save_part(self, trainer: Trainer, folder: Path) -> None:
        """Write what each process keeps by itself to `folder`; every process calls it."""

    def load_optimizer(self, trainer: Trainer, folder: Path, content: Mapping[str, Any]) -> None:
        """Take up the optimizer's state from the checkpoint `folder`, whose trainer state is `content`.

        Raises ConfigError for another strategy's state.
        """
        written = content.get("placement", Placement.name)
        if written != self.name:
            raise ConfigError(
                f"resume={folder}: its optimizer state is {written}, with this trainer.strategy it would be "
                f"{self.name}; use the strategy of that run"
            )
        self._load(trainer, folder, content["optimizer"])

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        trainer.optimizers[0].load_state_dict(state)


class ShardedPlacement(Placement):
    """FSDP2: parameters, gradients and optimizer state are spread; checkpoints hold them whole, for any number of
    processes."""

    name = "fsdp2"

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> torch.Tensor:
        """The norm is that of all shards."""
        return _whole(nn.utils.clip_grad_norm_(parameters, limit))

    def whole(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """Gathered."""
        return {name: _whole(parameter.detach()) for name, parameter in parameters.items()}

    def optimizer_state(self, trainer: Trainer) -> Any:
        """Gathered, by name of parameter."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return get_optimizer_state_dict(trainer.lightning_module, trainer.optimizers[0], options=options)

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(trainer.lightning_module, trainer.optimizers[0], state, options=options)


class DeepSpeedPlacement(Placement):
    """ZeRO: each process writes its part of the optimizer state, for the same number of processes."""

    name = "deepspeed"

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """The engine clips when it steps."""

    def scale(self, parameters: Iterable[nn.Parameter], factor: float) -> None:
        """Through DeepSpeed's access to the whole gradients, which takes its time."""
        from deepspeed.utils import safe_get_full_grad, safe_set_full_grad

        for parameter in parameters:
            gradient = safe_get_full_grad(parameter)
            if gradient is not None:
                safe_set_full_grad(parameter, gradient * factor)

    def whole(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """Gathered where stage 3 has spread them."""
        import deepspeed

        result = {}
        for name, parameter in parameters.items():
            with deepspeed.zero.GatheredParameters([parameter]):
                result[name] = parameter.detach().cpu().clone()
        return result

    def optimizer_state(self, trainer: Trainer) -> None:
        """In DeepSpeed's own files."""

    def save_part(self, trainer: Trainer, folder: Path) -> None:
        """DeepSpeed's own files."""
        deepspeed_engine(trainer).save_checkpoint(
            str(folder / DEEPSPEED_FOLDER), tag="state", save_latest=False, exclude_frozen_parameters=True
        )

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        path, _ = deepspeed_engine(trainer).load_checkpoint(
            str(folder / DEEPSPEED_FOLDER), tag="state", load_module_strict=False, load_lr_scheduler_states=False
        )
        if path is None:
            raise ConfigError(f"resume={folder}: {DEEPSPEED_FOLDER} can't be read; name another checkpoint")


def placement_of(trainer: Trainer) -> Placement:
    """What the trainer's strategy does with the model."""
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        return DeepSpeedPlacement()
    return ShardedPlacement() if isinstance(trainer.strategy, ModelParallelStrategy) else Placement()


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    full: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def deepspeed_engine(trainer: Trainer) -> Any:
    return trainer.strategy.model
