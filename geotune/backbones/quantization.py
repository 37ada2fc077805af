"""QLoRA (arXiv 2305.14314): frozen linear layers in four bits (NF4, double quantization), through bitsandbytes."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn

from geotune.backbones.adapters import Parts
from geotune.errors import ConfigError, Problem


def quantize_language_model(model: nn.Module, parts: Parts, compute_dtype: torch.dtype) -> None:
    """Replace the linear layers of the language model by four-bit ones in place; they compute in `compute_dtype`.

    Tower, projector, embeddings, norms and the output head are not quantized: they are a small share of the weights and
    the most sensitive to rounding. Call this before adding adapters. Raises ConfigError if bitsandbytes is missing.
    """
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ModuleNotFoundError as error:
        raise ConfigError(
            Problem(
                "backbone.quantization",
                "nf4",
                "needs bitsandbytes, which is not installed",
                "run pip install 'geotune[gpu]' or pip install bitsandbytes (it also runs on CPUs), or set "
                "backbone.quantization=null",
            )
        ) from error
    # Quantizing a large model takes minutes on a CPU, but seconds on the GPU that this process will train on.
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    for name, plain in list(model.named_modules()):
        if not isinstance(plain, nn.Linear) or parts.part_of(name) != "language_model" or name == parts.head:
            continue
        layer = Linear4bit(
            plain.in_features, plain.out_features, plain.bias is not None, compute_dtype=compute_dtype, device="meta"
        )
        weight: Any = Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        layer.weight = weight.to(device).to("cpu")
        layer.bias = plain.bias
        # For some CPUs bitsandbytes repacks the weights in evaluation mode; results would differ from training mode.
        layer.support_avx512bf16_for_cpu = False
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, layer)
    # PEFT looks at this attribute to choose its LoRA layers for four-bit weights.
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def weight_count(parameter: nn.Parameter) -> int:
    """Number of weights in `parameter`, also if it is quantized (two weights per byte) or partitioned by ZeRO-3."""
    state = getattr(parameter, "quant_state", None)
    return getattr(parameter, "ds_numel", parameter.numel()) if state is None else math.prod(state.shape)
