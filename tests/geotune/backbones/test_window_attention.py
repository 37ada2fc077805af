"""The tower's attention: the stock tower's features and gradients, bit for bit, in one call per length of windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from geotune.backbones.window_attention import Windows, tower_layout, use_window_attention

GRIDS = [(1, 16, 22), (1, 8, 8), (1, 16, 22), (1, 10, 34), (1, 4, 4)]
"""Grids in patches, of which some are no multiple of a window (8 x 8 patches)."""
CPU = torch.device("cpu")


def tower(attn: str) -> Any:
    """A random tower with four layers, of which the second and the fourth attend within whole images."""
    settings = {
        "depth": 4,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 4,
        "out_hidden_size": 32,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
    }
    config = Qwen2_5_VLConfig(vision_config=settings).vision_config
    config._attn_implementation = attn
    torch.manual_seed(0)
    return Qwen2_5_VisionTransformerPretrainedModel._from_config(config)


def stock(visual: Any, patches: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = visual(patches, grid_thw=grids).pooler_output
    return features


def ours(visual: Any, patches: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    use_window_attention(visual)
    layout = tower_layout(visual, grids, CPU)
    features: torch.Tensor = visual(patches, grid_thw=grids, layout=layout, **layout.precomputed).pooler_output
    return features


def features_and_gradients(compute: Callable[..., torch.Tensor], attn: str, grids: Any) -> list[torch.Tensor]:
    visual, grids = tower(attn), torch.tensor(grids)
    torch.manual_seed(1)
    patches = torch.randn(int(grids.prod(-1).sum()), 3 * 2 * 14 * 14, requires_grad=True)
    features = compute(visual, patches, grids)
    (features * torch.randn(features.shape)).sum().backward()
    return [features, patches.grad, *(parameter.grad for parameter in visual.parameters())]


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("grids", [GRIDS, GRIDS[1:2], [(1, 8, 16)] * 3, [(1, 2, 2)]])
def test_features_and_gradients_are_those_of_the_stock_tower(attn: str, grids: list[tuple[int, int, int]]) -> None:
    expected, found = (features_and_gradients(compute, attn, grids) for compute in (stock, ours))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def attention_calls(compute: Callable[..., torch.Tensor]) -> int:
    grids = torch.tensor(GRIDS)
    patches = torch.zeros(int(grids.prod(-1).sum()), 3 * 2 * 14 * 14)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        compute(tower("sdpa"), patches, grids)
    return sum(event.count for event in profiler.key_averages() if event.key == "aten::scaled_dot_product_attention")


def test_each_layer_makes_one_call_per_length() -> None:
    """The windows have 4, 16, 48 or 64 patches, and the images 4 different numbers."""
    assert attention_calls(ours) == 2 * 4 + 2 * 4
    assert attention_calls(stock) == 2 * (1 + 6 + 4 + 13) + 2 * len(GRIDS)


def test_without_a_layout_the_layers_compute_as_before() -> None:
    visual, grids = tower("sdpa"), torch.tensor(GRIDS)
    patches = torch.randn(int(grids.prod(-1).sum()), 3 * 2 * 14 * 14)
    with torch.no_grad():
        expected = stock(visual, patches, grids)
        use_window_attention(visual)
        assert torch.equal(stock(visual, patches, grids), expected)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_grouping_keeps_windows_whole_and_can_be_undone(lengths: list[int]) -> None:
    windows = Windows(lengths, CPU)
    of_patch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    grouped = windows.grouped(of_patch)
    start = 0
    for length, count in windows.groups:
        rows = grouped[start : start + length * count].view(count, length)
        assert (rows == rows[:, :1]).all()
        assert [lengths[i] for i in rows[:, 0]] == [length] * count
        start += length * count
    assert start == sum(lengths)
    assert torch.equal(windows.restored(grouped), of_patch)
