"""Norms, rotary positions and gated MLPs as one compiled kernel each, in place of the many that transformers launches.

Between the matrix products of a layer, these are what reads and writes whole activations. `torch.compile` makes the
kernels, once for any number of tokens. A kernel computes in float32 and rounds once at its end, where transformers
rounds at every step. The backward passes compute intermediate results again, so less is kept between the passes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.activations import SiLUActivation
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2MLP, Qwen2RMSNorm, apply_rotary_pos_emb
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen2_5_vl
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3MLP, Qwen3RMSNorm

from geotune.backbones.window_attention import WindowAttention

LEAST_ROWS = 64
"""With fewer rows, as when answers are generated, calling a compiled kernel takes longer than its work."""
ALIGNED = 8
"""Matrix products are about twice as fast on CUDA if rows of weights take a multiple of 16 bytes. The MLPs of
Qwen2.5-VL's tower have 3,420 hidden numbers, so they are padded with zeros that change no result."""
log = logging.getLogger(__name__)


def is_gathered(weight: torch.Tensor) -> bool:
    """Whether a weight matrix is there as a whole: DeepSpeed's ZeRO-3 and FSDP keep a part of it between its uses."""
    return weight.ndim == 2 and not isinstance(weight, DTensor)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Divide the rows of x (N, size) by their root mean square, and multiply them by `weight` (size,)."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def rotate(
    query: torch.Tensor, key: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn the heads query (N, heads, D) and key (N, kv heads, D) by the angles of their rows, given by (N, D)."""
    cosines, sines = cosines[:, None].float(), sines[:, None].float()
    half = query.shape[-1] // 2

    def turned(heads: torch.Tensor) -> torch.Tensor:
        wide = heads.float()
        crossed = torch.cat((-wide[..., half:], wide[..., :half]), dim=-1)
        return (wide * cosines + crossed * sines).to(heads.dtype)

    return turned(query), turned(key)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up for two tensors of one shape (N, size)."""
    return (nn.functional.silu(gate.float()) * up.float()).to(gate.dtype)


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` compiled for any number of rows."""
    return torch.compile(function, dynamic=True)


@cache
def compiles(kind: str) -> bool:
    """Whether `torch.compile` works on a type of device; if it does not, this is said once."""
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False):
            rows = torch.ones(LEAST_ROWS, 16, device=kind, requires_grad=True)
            compiled(swiglu)(rows, rows).sum().backward()
    except Exception as error:  # whatever a compiler or its absence may raise
        reason = str(error).strip().splitlines()[:1]
        log.warning("torch.compile does not work here (%s): norms, rotary positions and MLPs run uncompiled", *reason)
        return False
    return True


class _Compiled(nn.Module):
    """A module of transformers that runs compiled kernels on devices of some `kinds` (None: of all)."""

    kinds: tuple[str, ...] | None

    @classmethod
    def takes(cls, rows: torch.Tensor) -> bool:
        """Whether a compiled kernel takes the activations `rows` (N, size)."""
        kind = rows.device.type
        return len(rows) >= LEAST_ROWS and (cls.kinds is None or kind in cls.kinds) and compiles(kind)


class _Norm(_Compiled):
    def forward(self, hidden_states: torch.Tensor) -> Any:
        rows = hidden_states.flatten(0, -2)
        if not self.takes(rows):
            return super().forward(hidden_states)
        return compiled(rms_norm)(rows, self.weight, self.variance_epsilon).view_as(hidden_states)


class _GatedMLP(_Compiled):
    gate_proj: nn.Linear
    up_proj: nn.Linear
    down_proj: nn.Linear

    def forward(self, hidden_states: torch.Tensor) -> Any:
        if not isinstance(self.act_fn, SiLUActivation) or not self.takes(hidden_states.flatten(0, -2)):
            return super().forward(hidden_states)
        gate_proj, up_proj, down_proj = self._projections()
        gate, up = gate_proj(hidden_states), up_proj(hidden_states)
        return down_proj(compiled(swiglu)(gate.flatten(0, -2), up.flatten(0, -2)).view_as(gate))

    def _projections(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Gate, up and down projection; see `ALIGNED`."""
        layers = [self.gate_proj, self.up_proj, self.down_proj]
        if any(type(layer) is not nn.Linear or not is_gathered(layer.weight) for layer in layers):
            return layers  # type: ignore[return-value]  # they have adapters, are quantized or sharded
        missing = -self.up_proj.out_features % ALIGNED
        if not missing:
            return layers  # type: ignore[return-value]
        wider: list[Callable[[torch.Tensor], torch.Tensor]] = []
        for layer, sides in zip(layers, ((0, 0, 0, missing), (0, 0, 0, missing), (0, missing)), strict=True):
            bias: torch.Tensor | None = layer.bias
            if bias is not None and layer is not self.down_proj:
                bias = nn.functional.pad(bias, (0, missing))
            wider.append(partial(nn.functional.linear, weight=nn.functional.pad(layer.weight, sides), bias=bias))
        return wider


class _Attention(_Compiled):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # The stock forward pass, which looks up the function that turns the heads, is given another one to find.
        stock = super().forward
        names = {**stock.__globals__, "apply_rotary_pos_emb": self.rotary}
        return MethodType(FunctionType(stock.__code__, names, argdefs=stock.__defaults__), self)(*args, **kwargs)

    def rotary(
        self, query: torch.Tensor, key: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn query (B, heads, T, D) and key (B, kv heads, T, D) by angles, given by (B, T, D)."""
        if not self.takes(cosines.flatten(0, 1)) or len(cosines) != len(query):
            return apply_rotary_pos_emb(query, key, cosines, sines)
        heads = [tensor.transpose(1, 2) for tensor in (query, key)]
        turned = compiled(rotate)(*(tensor.flatten(0, 1) for tensor in (*heads, cosines, sines)))
        query, key = (tensor.view_as(like).transpose(1, 2) for tensor, like in zip(turned, heads, strict=True))
        return query, key


class _TowerAttention(_Compiled):
    def rotary(
        self, query: torch.Tensor, key: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn query and key (patches, heads, D) by angles, given by (patches, D)."""
        function = compiled(rotate) if self.takes(cosines) else apply_rotary_pos_emb_vision
        turned: tuple[torch.Tensor, torch.Tensor] = function(query, key, cosines, sines)
        return turned


FORMS: dict[type[_Compiled], tuple[type[nn.Module], ...]] = {
    _Norm: (Qwen2RMSNorm, Qwen3RMSNorm, qwen2_5_vl.Qwen2_5_VLRMSNorm),
    _GatedMLP: (Qwen2MLP, Qwen3MLP, qwen2_5_vl.Qwen2MLP, qwen2_5_vl.Qwen2_5_VLMLP),
    _Attention: (Qwen2Attention, Qwen3Attention, qwen2_5_vl.Qwen2_5_VLAttention),
    _TowerAttention: (WindowAttention,),
}
"""The classes whose forward passes compute what the compiled ones do."""


@cache
def _compiled_class(form: type[_Compiled], stock: type[nn.Module], kinds: tuple[str, ...] | None) -> type[nn.Module]:
    return type(f"Compiled{stock.__name__}", (form, stock), {"kinds": kinds})


def use_kernels(model: nn.Module, kinds: tuple[str, ...] | None) -> None:
    """Let the modules of `model` run compiled kernels on devices of some `kinds` (None: of all).

    Weights and their names stay. Modules of other families than Qwen2, Qwen2.5-VL and Qwen3 stay as they are.
    """
    for module in model.modules():
        for form, stocks in FORMS.items():
            if type(module) in stocks:
                module.__class__ = _compiled_class(form, type(module), kinds)  # type: ignore[arg-type]
