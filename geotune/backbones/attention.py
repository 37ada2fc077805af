"""The attention function of language models and towers in transformers: it looks at the type of the mask."""

from __future__ import annotations

from typing import Any

import torch

from geotune.backbones.branch_attention import BranchMask, branch_attention
from geotune.backbones.tree_attention import TreeMask, tree_attention, without_cudnn

NAME = "geotune_tree"
"""Name of the attention function in transformers."""
Mask = torch.Tensor | TreeMask | BranchMask | None
"""What `Backbone.hidden_states` takes as a mask."""


def attention_forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a layer: `tree_attention` under a `TreeMask`, `branch_attention` under a `BranchMask`, else SDPA."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(attention_mask, BranchMask):
        return branch_attention(query, key, value, attention_mask, module.layer_idx, scale=scaling), None
    if not isinstance(attention_mask, TreeMask):
        with without_cudnn(query):
            out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return out, None
    out = tree_attention(query, key, value, attention_mask, dropout=dropout, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def use_own_attention(config: Any) -> None:
    """Let the language model or tower of `config` accept the masks of this project beside those of SDPA."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME
