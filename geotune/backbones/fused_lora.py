"""LoRA layers of PEFT with the same parameters and results, computed with fewer and smaller temporary tensors.

PEFT adds `scale * B(A(x))` to the output of the frozen layer through three tensors as large as that output, and through
as many in the backward pass, and casts A and B at every call. Here the scale is applied to the r numbers between A and
B, and the sum is made in place. Layers that read the same input, such as queries, keys and values, are computed
together: one product with all their A, and one sum for the gradient of the input. All adapters of a part of the model
are cast together, whenever a forward pass of the part with gradients begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

from geotune.backbones.adapters import Parts

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers that read the same input if one module has them."""


@dataclass(frozen=True)
class Operands:
    """What the sibling layers compute with, in one dtype.

    frozen: weight (out, in) and bias (out,) of each layer. a: (sum of ranks, in), the A of all layers below each other.
    bs: B (out, r) of each layer. ranks: r of each layer. scale: factor of all adapters.
    """

    frozen: Sequence[tuple[torch.Tensor, torch.Tensor | None]]
    a: torch.Tensor
    bs: Sequence[torch.Tensor]
    ranks: list[int]
    scale: float

    def of(self, number: int) -> Operands:
        """Return what the layer `number` alone computes with."""
        a = self.a.split(self.ranks)[number]
        return Operands([self.frozen[number]], a, [self.bs[number]], [self.ranks[number]], self.scale)

    def products(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Scaled products of x (N, in) with all A, (N, sum of ranks), and the output (N, out) of each layer."""
        low = (x @ self.a.T).mul_(self.scale)
        return low, tuple(
            nn.functional.linear(x, weight, bias).addmm_(part, b.T)
            for (weight, bias), part, b in zip(self.frozen, low.split(self.ranks, 1), self.bs, strict=True)
        )


class _LoraProducts(torch.autograd.Function):
    """x W^T + b + scale (x A^T) B^T for x (N, in) and each layer of `operands`, whose W and b are frozen.

    adapters: the parameters A of all layers, then B of all layers; they get the gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, operands: Operands, *adapters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        low, outputs = operands.products(x)
        ctx.save_for_backward(x, low, operands.a, *operands.bs, *(weight for weight, _ in operands.frozen))
        ctx.scale, ctx.ranks = operands.scale, operands.ranks
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, low, a, *others = ctx.saved_tensors
        bs, weights = others[: len(gradients)], others[len(gradients) :]
        back = torch.empty_like(low)
        for gradient, b, part in zip(gradients, bs, back.split(ctx.ranks, 1), strict=True):
            torch.mm(gradient, b, out=part)
        back.mul_(ctx.scale)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradients[0] @ weights[0]
            for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
                for_x.addmm_(gradient, weight)
            for_x.addmm_(back, a)
        for_bs = [gradient.T @ part for gradient, part in zip(gradients, low.split(ctx.ranks, 1), strict=True)]
        return for_x, None, *(back.T @ x).split(ctx.ranks), *for_bs


class FusedLinear(Linear):
    """PEFT's LoRA layer with a fused forward pass; cases that it can't fuse fall back to PEFT's."""

    siblings: Siblings

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Output (..., out) for x (..., in), as `Linear.forward` computes it."""
        if args or kwargs or not (self.siblings.fixed or self.is_plain()):
            out: torch.Tensor = super().forward(x, *args, **kwargs)
            return out
        return self.siblings.output(self, x)

    def is_plain(self) -> bool:
        """Whether the layer is frozen, and has exactly one LoRA adapter, switched on, unmerged and without dropout."""
        base: Any = self.get_base_layer()
        active = self.active_adapters
        return (
            not self.disable_adapters
            and not self.merged
            # Under DeepSpeed's ZeRO-3 the weight is empty (not 2-D) outside the frozen layer's own forward pass.
            and base.weight.ndim == 2
            and len(active) == 1
            and active[0] in self.lora_A
            and active[0] not in self.lora_variant
            and isinstance(self.lora_dropout[active[0]], nn.Identity)
            and self.lora_B[active[0]].bias is None
            and not base.weight.requires_grad
            and (base.bias is None or not base.bias.requires_grad)
        )

    @property
    def scale(self) -> float:
        """Factor of the adapter of a plain layer."""
        return float(self.scaling[self.active_adapters[0]])

    @property
    def adapter(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A (r, in) and B (out, r) of a plain layer."""
        name = self.active_adapters[0]
        low: torch.Tensor = self.lora_A[name].weight  # type: ignore[assignment]
        high: torch.Tensor = self.lora_B[name].weight  # type: ignore[assignment]
        return low, high


class Siblings:
    """Layers of one module that are called one after the other with the same input; often just one layer.

    The call of the first layer computes the outputs of all, and the calls of the others take theirs.
    """

    def __init__(self, layers: Sequence[FusedLinear]) -> None:
        self.layers = tuple(layers)
        self._input: torch.Tensor | None = None
        self._version = 0
        self._outputs: dict[FusedLinear, torch.Tensor] = {}
        self._cast: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self._cast_from: list[int] = []
        self.fixed: Operands | None = None
        """What all layers compute with while `fixed_adapters` holds."""

    @property
    def whole(self) -> bool:
        """Whether no strategy shards weights or adapters."""
        tensors = [*self.adapters, *(base.weight for base in _bases(self.layers))]
        return not any(isinstance(tensor, DTensor) for tensor in tensors)

    @property
    def plain(self) -> bool:
        """Whether all layers can be computed together."""
        return all(layer.is_plain() for layer in self.layers) and len({layer.scale for layer in self.layers}) == 1

    @property
    def sizes(self) -> list[int]:
        """Number of parameters in all A together, and in each B."""
        adapters, count = self.adapters, len(self.layers)
        return [sum(low.numel() for low in adapters[:count]), *(high.numel() for high in adapters[count:])]

    @property
    def adapters(self) -> list[torch.Tensor]:
        """A of all layers, then B of all layers."""
        lows, highs = zip(*(layer.adapter for layer in self.layers), strict=True)
        return [*lows, *highs]

    def take(self, cast: Sequence[torch.Tensor] | None) -> None:
        """Compute with `cast`, flat tensors of the `sizes`, wherever the adapters lie where they lie now.

        None: cast the adapters at every call.
        """
        self._cast = None
        if cast is not None:
            joined, *bs = cast
            adapters = self.adapters
            highs = adapters[len(self.layers) :]
            self._cast = joined.view(-1, adapters[0].shape[1]), [b.view_as(h) for b, h in zip(bs, highs, strict=True)]
            self._cast_from = [adapter.data_ptr() for adapter in adapters]

    def output(self, layer: FusedLinear, x: torch.Tensor) -> torch.Tensor:
        """Output (..., out) of the plain `layer` for x (..., in)."""
        version = -1 if x.is_inference() else x._version
        if self._input is x and self._version == version and layer in self._outputs:
            out = self._outputs.pop(layer)
        else:
            first = layer is self.layers[0]
            chosen = self.layers if first and (self.fixed or self.plain) else (layer,)
            if self.fixed is not None:
                operands = self.fixed if first else self.fixed.of(self.layers.index(layer))
                _, products = operands.products(x.flatten(0, -2).to(operands.a.dtype))
            else:
                operands = self._operands(chosen, _computing_dtype(layer))
                lows, highs = zip(*(each.adapter for each in chosen), strict=True)
                products = _LoraProducts.apply(x.flatten(0, -2).to(operands.a.dtype), operands, *lows, *highs)
            out, *others = (product.view(*x.shape[:-1], -1) for product in products)
            self._outputs = dict(zip(chosen[1:], others, strict=True))
            self._input, self._version = x, version
        if not self._outputs:
            self._input = None
        return out

    def fix(self) -> None:
        """Compute with weights and adapters as they are now, if the layers can be computed together."""
        if self.plain and self.whole:
            self.fixed = self._operands(self.layers, _computing_dtype(self.layers[0]))

    def _operands(self, chosen: Sequence[FusedLinear], dtype: torch.dtype) -> Operands:
        """What the `chosen` layers compute with in `dtype`: all layers, or one of them."""
        frozen = [
            (base.weight.to(dtype), None if base.bias is None else base.bias.to(dtype)) for base in _bases(chosen)
        ]
        lows, highs = zip(*(layer.adapter for layer in chosen), strict=True)
        cast = self._cast
        if (
            len(chosen) == len(self.layers)
            and cast is not None
            and cast[0].dtype == dtype
            # An adapter lies elsewhere while it has the values of a kept copy.
            and self._cast_from == [adapter.data_ptr() for adapter in (*lows, *highs)]
        ):
            a, bs = cast
        else:
            a = torch.cat([low.detach().to(dtype) for low in lows])
            bs = [high.detach().to(dtype) for high in highs]
        return Operands(frozen, a, bs, [len(low) for low in lows], chosen[0].scale)


def _bases(layers: Sequence[FusedLinear]) -> list[Any]:
    return [layer.get_base_layer() for layer in layers]


def _computing_dtype(layer: FusedLinear) -> torch.dtype:
    """Dtype of autocast if it is enabled, else that of the frozen weight."""
    weight: torch.Tensor = _bases([layer])[0].weight
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


class CastAdapters:
    """Forward pre-hook of a part of a model, which casts all of the part's plain adapters at once.

    Adapters that a strategy shards are left to their layers.
    """

    def __init__(self, groups: Sequence[Siblings]) -> None:
        self.groups = groups

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        """Cast the adapters as they are now; without gradients, as for each token of an answer, it would not pay."""
        for group in self.groups:
            group.take(None)
        if torch.is_grad_enabled():
            self._cast()

    @torch.no_grad()
    def _cast(self) -> None:
        plain = [group for group in self.groups if group.plain]
        groups = [group for group in plain if not any(isinstance(adapter, DTensor) for adapter in group.adapters)]
        if not groups:
            return
        flat = torch.cat([adapter.flatten() for group in groups for adapter in group.adapters])
        sizes = [group.sizes for group in groups]
        parts = iter(flat.to(_computing_dtype(groups[0].layers[0])).split([size for each in sizes for size in each]))
        for group, own in zip(groups, sizes, strict=True):
            group.take([next(parts) for _ in own])


@contextmanager
def fixed_adapters(model: nn.Module) -> Iterator[None]:
    """Context without autograd in which the fused layers of `model` check and cast their adapters only once.

    When answers are generated, that would otherwise take as long for each token as all products of a layer.
    """
    groups = {id(layer.siblings): layer.siblings for layer in model.modules() if isinstance(layer, FusedLinear)}
    try:
        for group in groups.values():
            group.fix()
        yield
    finally:
        for group in groups.values():
            group.fixed = None


def fuse_lora(model: nn.Module, parts: Parts) -> None:
    """Turn the plain LoRA layers of `model` into `FusedLinear` in place; quantized and other layers stay unchanged.

    model: the model without PEFT's wrapper. parts: where its parts are.
    """
    groups: dict[str | None, list[Siblings]] = {}
    grouped: dict[tuple[str, ...], list[FusedLinear]] = {}
    for name, module in model.named_modules():
        if type(module) is Linear:
            module.__class__ = FusedLinear
            parent, _, own = name.rpartition(".")
            siblings = next((names for names in SIBLINGS if own in names), (own,))
            grouped.setdefault((parent, *siblings), []).append(module)  # type: ignore[arg-type]
    for (parent, *_), layers in grouped.items():
        group = Siblings(layers)
        for layer in layers:
            layer.siblings = group
        groups.setdefault(parts.part_of(parent), []).append(group)
    for part, found in groups.items():
        assert part is not None, "adapters lie within the parts"
        model.get_submodule(getattr(parts, part)).register_forward_pre_hook(CastAdapters(found))
