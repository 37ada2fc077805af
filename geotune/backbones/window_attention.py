"""Attention in Qwen2.5-VL's vision tower: all windows of one length in one call.

Each layer attends within windows, or within whole images. Unless it uses flash attention, transformers calls the kernel
once per window, which is thousands of calls for a few images, and reads the lengths back from the device in every
layer. Here the layout of a batch is computed once, on the host, and each layer makes one call per length that occurs.
The features are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
    eager_attention_forward,
)
from transformers.vision_utils import get_vision_attention_seqlens, get_vision_position_ids, get_vision_window_index

Rotary = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines (patches, size of a head) of the positions."""


class Windows:
    """The windows of a batch of patches, in order; each patch attends to the patches of its own window.

    lengths: number of patches of each window.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = tuple(lengths)
        self.device = device
        self._rotary: tuple[Rotary, Rotary] | None = None

    @cached_property
    def groups(self) -> list[tuple[int, int]]:
        """Each length that occurs, ascending, with its number of windows."""
        return [(length, self.lengths.count(length)) for length in sorted(set(self.lengths))]

    @cached_property
    def _order(self) -> torch.Tensor | None:
        """The patches with windows of one length side by side, int64 (patches,); None if they are so already."""
        if list(self.lengths) == sorted(self.lengths):
            return None
        lengths = torch.tensor(self.lengths)
        return lengths.repeat_interleave(lengths).argsort(stable=True)

    @cached_property
    def _moves(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """`_order` and its inverse, on the device."""
        if self._order is None:
            return None
        return self._order.to(self.device), self._order.argsort().to(self.device)

    def grouped(self, patches: torch.Tensor) -> torch.Tensor:
        """Move the rows of `patches` so that windows of one length lie side by side."""
        return patches if self._moves is None else patches[self._moves[0]]

    def restored(self, patches: torch.Tensor) -> torch.Tensor:
        """Undo `grouped`."""
        return patches if self._moves is None else patches[self._moves[1]]

    def grouped_rotary(self, rotary: Rotary) -> Rotary:
        """Apply `grouped` to cosines and sines; layers that follow with the same ones get the same tensors."""
        if self._rotary is None or self._rotary[0] is not rotary:
            self._rotary = rotary, (self.grouped(rotary[0]), self.grouped(rotary[1]))
        return self._rotary[1]


@dataclass(frozen=True)
class TowerLayout:
    """What the tower needs to know of the images of a batch, computed on the host."""

    images: Windows
    """One window per image, for the layers that attend within whole images."""
    windows: Windows
    """The windows of the other layers."""
    precomputed: dict[str, torch.Tensor]
    """Arguments of the tower's forward pass, in place of what it would compute from the grids."""

    def of(self, boundaries: torch.Tensor) -> Windows:
        """Return the windows whose boundaries a layer got."""
        return self.windows if boundaries is self.precomputed["cu_window_seqlens"] else self.images


def tower_layout(visual: Any, grids: torch.Tensor, device: torch.device) -> TowerLayout:
    """Return the layout of images with the grids `grids`, int64 (N, 3) on the host, for the tower `visual`."""
    config = visual.config
    order, windows = get_vision_window_index(
        grids,
        spatial_merge_size=visual.spatial_merge_size,
        window_size=visual.window_size,
        patch_size=visual.patch_size,
    )
    images, _ = get_vision_attention_seqlens(grids, config)
    precomputed = {
        "position_ids": get_vision_position_ids(grids, visual.spatial_merge_size),
        "window_index": order,
        "cu_window_seqlens": windows,
        "cu_seqlens": images,
    }
    return TowerLayout(
        images=Windows(images.diff().tolist(), device),
        windows=Windows(windows.diff().tolist(), device),
        precomputed={name: tensor.to(device) for name, tensor in precomputed.items()},
    )


class WindowAttention(Qwen2_5_VLVisionAttention):
    """The stock attention layer, which makes one call per length of windows if it is given the `layout`."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        cu_seqlens: torch.Tensor,
        position_embeddings: Rotary | None = None,
        max_seqlen: int | None = None,
        layout: TowerLayout | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return the attended patches (patches, hidden). layout: that of the batch; None for the stock computation."""
        if layout is None:
            out: torch.Tensor = super().forward(hidden_states, cu_seqlens, position_embeddings, max_seqlen, **kwargs)
            return out
        assert position_embeddings is not None
        windows = layout.of(cu_seqlens)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        patches = len(hidden_states)
        states = windows.grouped(self.qkv(hidden_states)).view(patches, 3, self.num_heads, self.head_dim)
        query, key, value = states.unbind(1)
        query, key = self.rotary(query, key, *windows.grouped_rotary(position_embeddings))
        parts, start = [], 0
        for length, count in windows.groups:
            rows = slice(start, start + length * count)
            shape = (count, length, self.num_heads, self.head_dim)
            part, _ = attend(
                self,
                *(tensor[rows].view(shape).transpose(1, 2) for tensor in (query, key, value)),
                attention_mask=None,
                scaling=self.scaling,
                dropout=self.attention_dropout if self.training else 0.0,
                is_causal=False,
                **kwargs,
            )
            parts.append(part.reshape(length * count, -1))
            start = rows.stop
        attended: torch.Tensor = self.proj(windows.restored(torch.cat(parts)))
        return attended

    def rotary(
        self, query: torch.Tensor, key: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn query and key (patches, heads, D) by angles, given by cosines and sines (patches, D)."""
        return apply_rotary_pos_emb_vision(query, key, cosines, sines)


def use_window_attention(visual: nn.Module) -> None:
    """Let the layers of Qwen2.5-VL's tower `visual` accept a `layout`; its weights and their names stay."""
    for module in visual.modules():
        if type(module) is Qwen2_5_VLVisionAttention:
            module.__class__ = WindowAttention
