"""QLoRA (arXiv 2305.14314): frozen linear layers in four bits (NF4, double quantisation), through bitsandbytes."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn

from geotune.backbones.adapters import Parts
from geotune.errors import ConfigError


def quantize_language_model(model: nn.Module, parts: Parts, compute_dtype: torch.dtype) -> None:
    """Put the linear layers of the language model in four bits; products are computed in `compute_dtype`.

    Tower, projector, embeddings, norms and the output head stay as they are: they are a small share of the weights,
    and what the rest is most sensitive to. Goes before adapters. Raises ConfigError without bitsandbytes.
    """
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ModuleNotFoundError as error:
        raise ConfigError(
            "backbone.quantization=nf4: needs bitsandbytes, which is not installed; "
            "pip install 'geotune[gpu]' or bitsandbytes alone (it also runs on CPUs), or set backbone.quantization=null"
        ) from error
    # Its arithmetic takes minutes for a large model on a CPU, seconds on the GPU that this process will train on.
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
        # In evaluation mode it would pack the weights anew for some CPUs, and answer otherwise than in training.
        layer.support_avx512bf16_for_cpu = False
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, layer)
    # Where PEFT looks whether linear layers are of this kind.
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def weight_count(parameter: nn.Parameter) -> int:
    """Weights that `parameter` stands for: in four bits two are stored as one number, ZeRO-3 keeps none in place."""
    state = getattr(parameter, "quant_state", None)
    return getattr(parameter, "ds_numel", parameter.numel()) if state is None else math.prod(state.shape)
