"""LoRA layers of PEFT with the same parameters and results, computed without PEFT's full-size temporary tensors.

PEFT adds `scale * B(A(x))` to the output of the frozen layer through three tensors as large as that output, and through
as many in the backward pass. Here the scale is applied to the r numbers between A and B, and the sum is made in place.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import nn
from torch.autograd.function import once_differentiable


class _LoraProduct(torch.autograd.Function):
    """x W^T + b + scale (x A^T) B^T for x (N, in); W and b are frozen, and all tensors have one dtype."""

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
    """PEFT's LoRA layer with a fused forward pass; cases that it can't fuse fall back to PEFT's."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Output (..., out) for x (..., in), as `Linear.forward` computes it."""
        base: Any = self.get_base_layer()
        # Under DeepSpeed's ZeRO-3 the weight is empty (not 2-D) outside the frozen layer's own forward pass.
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
        """Whether the layer is frozen and has exactly one plain LoRA adapter without dropout."""
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
    """Turn the plain LoRA layers of `model` into `FusedLinear` in place; quantized and other layers stay unchanged."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = FusedLinear
