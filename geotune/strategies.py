"""How processes share a model: the strategies that a recipe can name, and what training and checkpoints ask of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, Strategy
from torch import nn

from geotune.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch.distributed.device_mesh import DeviceMesh

    from geotune.backbones.base import Backbone
    from geotune.sample import Sample

DEEPSPEED_FOLDER = "deepspeed"
ZERO = {
    "deepspeed_zero2": {"stage": 2, "contiguous_gradients": True, "overlap_comm": True},
    "deepspeed_zero3_offload": {
        "stage": 3,
        "contiguous_gradients": True,
        "overlap_comm": True,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "cpu", "pin_memory": True},
    },
}
"""DeepSpeed's `zero_optimization` by strategy."""


def strategy_from(name: str, *, changing: bool, clip_norm: float | None, cpu: bool) -> Strategy:
    """The strategy `name` of several processes, auto being DDP.

    changing: whether tower or projector train. cpu: whether the run is asked to stay on the CPU. Raises ConfigError.
    """
    if name == "fsdp2":
        return FullySharded()
    if name in ZERO:
        if cpu or not torch.cuda.is_available():
            raise ConfigError(f"trainer.strategy={name}: needs CUDA devices; use trainer=ddp or trainer=fsdp2")
        return deepspeed_strategy(name, clip_norm=clip_norm)
    # A micro-batch of text alone leaves a training tower without a gradient.
    return DDPStrategy(find_unused_parameters=changing)


def deepspeed_strategy(name: str, *, clip_norm: float | None) -> DeepSpeedStrategy:
    """DeepSpeed's ZeRO by one of the names of `ZERO`. Raises ConfigError when deepspeed is not installed."""
    try:
        import deepspeed  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"trainer.strategy={name}: needs deepspeed, which is not installed; pip install 'geotune[gpu]', or use "
            "trainer=ddp or trainer=fsdp2"
        ) from error
    config = {
        "zero_optimization": ZERO[name],
        "gradient_clipping": clip_norm or 0.0,
        # For its messages alone; Lightning would ask the loader's batch sampler, of which there is none.
        "train_micro_batch_size_per_gpu": 1,
        "zero_allow_untested_optimizer": True,
        # Torch's AdamW on the CPU; DeepSpeed's own would have to be compiled first.
        "zero_force_ds_cpu_optimizer": False,
    }
    return DeepSpeedStrategy(config=config, precision_plugin=AsItIs("32-true"))


class FullySharded(ModelParallelStrategy):
    """FSDP2 over all processes, without tensor parallelism; the stage's `configure_model` shards."""

    def setup_environment(self) -> None:
        """All processes share one mesh."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()


class AsItIs(DeepSpeedPrecision):
    """DeepSpeed without a precision of its own: weights keep their dtypes, the backbone's autocast does the rest."""

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Frozen weights stay in bf16."""
        return module

    def convert_input(self, data: Any) -> Any:
        """A batch holds no floating-point numbers."""
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """The default dtype stays as it is."""
        return nullcontext()

    def backward(  # type: ignore[override]
        self, tensor: torch.Tensor, model: LightningModule, optimizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Lightning has divided the loss by the micro-batches already; DeepSpeed would do so again."""
        engine: Any = model.trainer.model
        engine.backward(tensor, *args, scale_wrt_gas=False, **kwargs)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: LightningModule, closure: Any, **kwargs: Any
    ) -> Any:
        """One micro-batch; the norm that DeepSpeed clipped to. Raises RuntimeError for one that is not finite."""
        from geotune.stages.base import as_stage

        result = super().optimizer_step(optimizer, model, closure, **kwargs)
        stage, engine = as_stage(model), _engine(model.trainer)
        if stage.ends_update and (norm := engine.get_global_grad_norm()) is not None:
            stage.grad_norm = float(norm)
            if not torch.isfinite(torch.tensor(stage.grad_norm)):
                raise RuntimeError(
                    f"update {stage.step + 1}: the gradient was not finite, and DeepSpeed has applied it; go on with "
                    "resume=last and a lower stage.lr, or use trainer.strategy=ddp, which skips such updates"
                )
        return result


def prepare(name: str, backbone: Backbone, samples: Sequence[Sample]) -> None:
    """Have every process call the tower in every micro-batch, where `name` spreads its weights too.

    Raises ConfigError for samples that it would not be called for.
    """
    if name != "deepspeed_zero3_offload":
        return
    backbone.keep_no_features()
    for sample in samples:
        if not sample.images:
            raise ConfigError(
                f"trainer.strategy={name}: sample {sample.id} has no picture, but every micro-batch must show one to "
                "the tower, whose weights are spread; use trainer=deepspeed_zero2 or trainer=ddp"
            )


def shard(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Spread the language model's weights over `mesh`, layer by layer; a layer is whole only while it computes.

    Tower and projector stay whole: a process that has kept a picture's features does not call them. What is outside the
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
        _engine(trainer).save_checkpoint(
            str(folder / DEEPSPEED_FOLDER), tag="state", save_latest=False, exclude_frozen_parameters=True
        )

    def _load(self, trainer: Trainer, folder: Path, state: Any) -> None:
        path, _ = _engine(trainer).load_checkpoint(
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


def _engine(trainer: Trainer) -> Any:
    return trainer.strategy.model
