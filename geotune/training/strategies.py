"""How processes share a model: the strategies that a recipe can name, and what training and checkpoints ask of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, Strategy
from torch import nn

from geotune.backbones.placement import deepspeed_engine
from geotune.errors import ConfigError

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
"""DeepSpeed's `zero_optimization` by strategy."""


def strategy_from(name: str, *, vision_trains: bool, clip_norm: float | None, cpu: bool) -> Strategy:
    """The strategy `name` of several processes, auto being DDP.

    vision_trains: whether tower or projector train. cpu: whether the run is asked to stay on the CPU.
    Raises ConfigError.
    """
    if name == "fsdp2":
        return FullySharded()
    if name in ZERO:
        if cpu or not torch.cuda.is_available():
            raise ConfigError(f"trainer.strategy={name}: needs CUDA devices; use trainer=ddp or trainer=fsdp2")
        return deepspeed_strategy(name, clip_norm=clip_norm)
    # A micro-batch of text alone leaves a training tower without a gradient.
    return DDPStrategy(find_unused_parameters=vision_trains)


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
    return DeepSpeedStrategy(config=config, precision_plugin=BackbonePrecision("32-true"))


class FullySharded(ModelParallelStrategy):
    """FSDP2 over all processes, without tensor parallelism; the stage's `configure_model` shards."""

    def setup_environment(self) -> None:
        """All processes share one mesh."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()


class BackbonePrecision(DeepSpeedPrecision):
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
        stage, engine = as_stage(model), deepspeed_engine(model.trainer)
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
    backbone.disable_feature_cache()
    for sample in samples:
        if not sample.images:
            raise ConfigError(
                f"trainer.strategy={name}: sample {sample.id} has no image, but every micro-batch must show one to "
                "the tower, whose weights are spread; use trainer=deepspeed_zero2 or trainer=ddp"
            )
