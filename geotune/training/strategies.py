"""The strategies by which several processes share the training of a model, by the names that a recipe gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, Strategy
from torch import nn

from geotune.backbones.placement import deepspeed_engine
from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from geotune.backbones.base import Backbone
    from geotune.sample import Sample


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
"""The section `zero_optimization` of DeepSpeed's config, by strategy."""


def check_strategy(name: str, *, cpu: bool) -> None:
    """Raise ConfigError if a strategy needs CUDA devices that are not there or that the recipe does not ask for."""
    if name in ZERO and (cpu or not torch.cuda.is_available()):
        raise ConfigError(Problem("trainer.strategy", name, "needs CUDA devices", "use trainer=ddp or trainer=fsdp2"))


def strategy_from(name: str, *, vision_trains: bool, clip_norm: float | None, cpu: bool) -> Strategy:
    """Return the Lightning strategy for several processes.

    Args:
        name: `trainer.strategy` of the recipe; auto means DDP.
        vision_trains: Whether the vision tower or the projector trains.
        clip_norm: Global norm to which gradients are clipped; None for no clipping.
        cpu: Whether the recipe asks for the CPU.

    Raises:
        ConfigError: The strategy needs CUDA devices or a package that is missing.
    """
    if name == "fsdp2":
        return FullySharded()
    check_strategy(name, cpu=cpu)
    if name in ZERO:
        return deepspeed_strategy(name, clip_norm=clip_norm)
    # In a micro-batch without images, a tower that trains gets no gradient.
    return DDPStrategy(find_unused_parameters=vision_trains)


def deepspeed_strategy(name: str, *, clip_norm: float | None) -> DeepSpeedStrategy:
    """Return DeepSpeed's strategy with the ZeRO settings `ZERO[name]`.

    Raises ConfigError if deepspeed is not installed.
    """
    try:
        import deepspeed  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            Problem(
                "trainer.strategy",
                name,
                "needs deepspeed, which is not installed",
                "pip install 'geotune[gpu]', or use trainer=ddp or trainer=fsdp2",
            )
        ) from error
    config = {
        "zero_optimization": ZERO[name],
        "gradient_clipping": clip_norm or 0.0,
        # Only shown in messages. Without it, Lightning would ask for the loader's batch sampler, and ours has none.
        "train_micro_batch_size_per_gpu": 1,
        "zero_allow_untested_optimizer": True,
        # On the CPU, use PyTorch's AdamW; DeepSpeed's own AdamW would have to be compiled first.
        "zero_force_ds_cpu_optimizer": False,
    }
    return DeepSpeedStrategy(config=config, precision_plugin=BackbonePrecision("32-true"))


class FullySharded(ModelParallelStrategy):
    """FSDP2 over all processes, without tensor parallelism; `Stage.configure_model` shards the weights."""

    def setup_environment(self) -> None:
        """Set up one device mesh over all processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()


class BackbonePrecision(DeepSpeedPrecision):
    """A DeepSpeed precision plugin that leaves all dtypes alone: the backbone's autocast decides on the precision."""

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Return the module unchanged, so that frozen weights stay in bf16."""
        return module

    def convert_input(self, data: Any) -> Any:
        """Return the batch unchanged: rewards and log-probabilities stay as precise as they are."""
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """Return a context that does not change the default dtype."""
        return nullcontext()

    def backward(  # type: ignore[override]
        self, tensor: torch.Tensor, model: LightningModule, optimizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Run the backward pass without DeepSpeed's division by the number of micro-batches: Lightning has divided."""
        engine: Any = model.trainer.model
        engine.backward(tensor, *args, scale_wrt_gas=False, **kwargs)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: LightningModule, closure: Any, **kwargs: Any
    ) -> Any:
        """Run one micro-batch, and tell the stage the gradient norm that DeepSpeed found at the end of an update.

        Raises RuntimeError if that norm is not finite.
        """
        from geotune.stages.base import as_stage

        result = super().optimizer_step(optimizer, model, closure, **kwargs)
        stage, engine = as_stage(model), deepspeed_engine(model.trainer)
        if stage.ends_update and (norm := engine.get_global_grad_norm()) is not None:
            stage.note_gradient_norm(float(norm))
            if not math.isfinite(norm):
                raise RuntimeError(
                    f"update {stage.progress.step + 1}: the gradient was not finite, and DeepSpeed has applied it; "
                    "continue with resume=last and a lower stage.lr, or use trainer.strategy=ddp, which skips such "
                    "updates"
                )
        return result


def prepare(name: str, backbone: Backbone, samples: Sequence[Sample]) -> None:
    """Prepare `backbone` for a strategy that shards the vision tower: every process must call it in every micro-batch.

    Cached image features would make a process skip the call, so their cache is turned off. For other strategies,
    nothing happens. Raises ConfigError for a sample without an image.
    """
    if name != "deepspeed_zero3_offload":
        return
    backbone.disable_feature_cache()
    for sample in samples:
        if not sample.images:
            raise ConfigError(
                Problem(
                    "trainer.strategy",
                    name,
                    f"sample {sample.id} has no image, but every micro-batch must pass one to the vision tower, "
                    "whose weights are sharded",
                    "use trainer=deepspeed_zero2 or trainer=ddp",
                )
            )
