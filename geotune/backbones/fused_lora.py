"""LoRA's product in one pass: PEFT's layers with the same parameters and results, without their full-size temporaries.

PEFT adds `scale * B(A(x))` to what the frozen layer says through three tensors as large as the layer's output, and as
many going back. Here the scale is applied to the r numbers in between, and the sum is made where the result stands.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import nn
from torch.autograd.function import once_differentiable


class _LoraProduct(torch.autograd.Function):
    """x W^T + b + scale (x A^T) B^T with W and b frozen, for x (N, in) and everything of one dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        low = (x @ a.T).mul_(scale)
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scale = scale
        return nn.functional.linear(x, weight, bias).addmm_(low, b.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, low = ctx.saved_tensors
        back = (gradient @ b).mul_(ctx.scale)
        for_x = (gradient @ weight).addmm_(back, a) if ctx.needs_input_grad[0] else None
        return for_x, None, None, back.T @ x, gradient.T @ low, None


class FusedLinear(Linear):
    """PEFT's LoRA layer; what it can't fuse goes PEFT's way."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As `Linear.forward`."""
        base: Any = self.get_base_layer()
        # DeepSpeed's ZeRO-3 leaves empty weights outside the layer's own call.
        if args or kwargs or self.disable_adapters or self.merged or base.weight.ndim != 2 or not self._is_simple():
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        low, high = self.lora_A[name].weight, self.lora_B[name].weight
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
        tensors: list[Any] = [x.flatten(0, -2), base.weight, base.bias, low, high]
        flat, weight, bias, a, b = (None if tensor is None else tensor.to(dtype) for tensor in tensors)
        out: torch.Tensor = _LoraProduct.apply(flat, weight, bias, a, b, self.scaling[name])
        return out.view(*x.shape[:-1], -1)

    def _is_simple(self) -> bool:
        """One plain adapter without dropout on a frozen layer."""
        base: Any = self.get_base_layer()
        active = self.active_adapters
        return (
            len(active) == 1
            and active[0] in self.lora_A
            and active[0] not in self.lora_variant
            and isinstance(self.lora_dropout[active[0]], nn.Identity)
            and self.lora_B[active[0]].bias is None
            and not base.weight.requires_grad
            and (base.bias is None or not base.bias.requires_grad)
        )


def fuse_lora(model: nn.Module) -> None:
    """Let the plain LoRA layers of `model` work in one pass; quantised ones and other kinds stay as they are."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = FusedLinear
