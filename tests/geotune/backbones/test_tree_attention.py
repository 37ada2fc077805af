"""A prefix tree has the loss, the logits of supervised tokens and the gradients of its samples one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.backbones import tree_attention as tree_attention_module
from geotune.backbones.generation import sample
from geotune.backbones.tree_attention import (
    TILE,
    TreeMask,
    flex_attention,
    path_attention,
    tree_attention,
    tree_kernel,
)
from geotune.encoding.collate import collate, collate_tree
from geotune.encoding.prefix_tree import build_tree
from geotune.errors import ConfigError
from geotune.sample import Sample, Turn
from geotune.stages.sft import nll_sum

City = tuple[Path, list[Sample]]


def questions(city: City, branches: int) -> list[Sample]:
    """Samples that share one view: various maps and questions, a conversation of two turns, and one text alone."""
    _, samples = city
    made = []
    for number in range(branches):
        images = ("view0.png", *(("map0.png",), ("map0.png", "map1.png"), ("map2.png",), ())[number % 4])
        asked = "<image>\n" * len(images) + ("Which way?", "Which way does the camera look?")[number // 4 % 2]
        turns = [Turn("user", asked), Turn("assistant", "The view shows a red block.\n" * (number % 3) + "N")]
        if number == 2:
            turns += [Turn("user", "Answer in JSON."), Turn("assistant", '{"direction": "N"}')]
        made.append(Sample(f"q{number}", images, tuple(turns), system=samples[0].system))
    if branches > 2:
        made.append(Sample("text", (), (Turn("user", "Which way?"), Turn("assistant", "Nowhere."))))
    return made


def outcome(backbone: Any, batches: list[Any]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Loss, logits and gradients of several batches together."""
    backbone.zero_grad()
    logits = [backbone(batch) for batch in batches]
    labels = torch.cat([batch.labels for batch in batches])
    loss = nll_sum(torch.cat(logits), labels)
    loss.backward()
    gradients = {name: p.grad.float().clone() for name, p in backbone.named_parameters() if p.grad is not None}
    return loss.detach(), torch.cat(logits).detach(), gradients


@pytest.fixture(params=[0, 24, 256])
def small_subtree(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Compute attention block by block, within subtrees of some tokens at once, and within whole trees."""
    monkeypatch.setattr(tree_attention_module, "SMALL_SUBTREE", request.param)
    return int(request.param)


def test_small_subtrees_are_one_share(small_subtree: int) -> None:
    root, first, second = [60] * 10, [30] * 5 + [22] * 7 + [30] * 8, [60] * 5 + [46] * 11 + [60] * 14
    mask = TreeMask(torch.tensor([*root, *first, *second]), torch.device("cpu"))
    owned = [at for share in mask.shares for at in range(60)[share.own]]
    assert owned == list(range(60)), "each token belongs to one share"
    squares = [share.own for share in mask.shares if share.mask is not None]
    assert squares == {0: [], 24: [slice(10, 30)], 256: [slice(0, 60)]}[small_subtree]


@pytest.mark.parametrize("family", ["qwen", "internvl"])
@pytest.mark.parametrize("branches", [1, 2, 5, 8])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("small_subtree", [0, 256], indirect=True)
@pytest.mark.usefixtures("small_subtree")
def test_tree_equals_separate_samples(
    family: str, branches: int, attn: str, load_tiny: Callable[..., Any], city: City
) -> None:
    folder, _ = city
    backbone = load_tiny(family, attn=attn).train()
    torch.manual_seed(0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    encoded = [backbone.encode(sample.in_folder(folder)) for sample in questions(city, branches)]
    loss, logits, gradients = outcome(backbone, [collate_tree(encoded, backbone.encoder)])
    wanted_loss, wanted_logits, wanted = outcome(backbone, [collate([e], backbone.encoder) for e in encoded])
    torch.testing.assert_close(logits, wanted_logits, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(loss, wanted_loss, atol=1e-3, rtol=1e-5)
    assert gradients.keys() == wanted.keys()
    assert gradients
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4 * float(gradient.abs().max() + 1), rtol=1e-3)


@pytest.mark.parametrize("family", ["qwen", "internvl"])
@pytest.mark.usefixtures("small_subtree")
def test_tree_in_bf16_equals_rows_within_rounding(family: str, load_tiny: Callable[..., Any], city: City) -> None:
    """The mean squared distance from float32 is at most 1.5 times that of the rows."""
    folder, _ = city
    exact, rounded = load_tiny(family), load_tiny(family, dtype="bf16")
    encoded = [exact.encode(sample.in_folder(folder)) for sample in questions(city, 8)]
    with torch.no_grad():
        truth = exact(collate(encoded, exact.encoder))
        tree, rows = rounded(collate_tree(encoded, exact.encoder)), rounded(collate(encoded, exact.encoder))
    assert float((tree - truth).square().mean()) < 1.5 * float((rows - truth).square().mean()) + 1e-6


def test_a_training_tower_gets_the_same_gradient(load_tiny: Callable[..., Any], city: City) -> None:
    folder, _ = city
    backbone = load_tiny("qwen", tower="full", projector="full", language_model="lora").train()
    encoded = [backbone.encode(sample.in_folder(folder)) for sample in questions(city, 6)]
    _, _, gradients = outcome(backbone, [collate_tree(encoded, backbone.encoder)])
    _, _, wanted = outcome(backbone, [collate(encoded, backbone.encoder)])
    tower = [name for name in wanted if "visual" in name]
    assert tower
    for name in tower:
        torch.testing.assert_close(
            gradients[name], wanted[name], atol=1e-3 * float(wanted[name].abs().max()), rtol=1e-2
        )


def test_gradient_checkpointing_keeps_the_tree(load_tiny: Callable[..., Any], city: City) -> None:
    folder, _ = city
    plain, checkpointed = load_tiny("qwen").train(), load_tiny("qwen", gradient_checkpointing=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    batch = collate_tree([plain.encode(sample.in_folder(folder)) for sample in questions(city, 4)], plain.encoder)
    assert torch.equal(outcome(plain, [batch])[0], outcome(checkpointed, [batch])[0])


@pytest.mark.parametrize("attend", [tree_attention, path_attention])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.usefixtures("small_subtree")
def test_attention_equals_that_under_the_dense_mask(
    attend: Callable[..., torch.Tensor], groups: int, load_tiny: Callable[..., Any], city: City
) -> None:
    """Compare output and gradients, with `groups` query heads per key head."""
    folder, samples = city
    encoder = load_tiny("qwen").encoder
    subtree_end = torch.from_numpy(
        build_tree([encoder.encode(sample.in_folder(folder)) for sample in samples[:9]]).subtree_end()
    )
    mask = TreeMask(subtree_end, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2 * groups, len(subtree_end), 8, generator=random, requires_grad=True)
    key, value = (torch.randn(1, 2, len(subtree_end), 8, generator=random, requires_grad=True) for _ in range(2))
    weight = torch.randn(query.shape, generator=random)
    repeated = [tensor.repeat_interleave(groups, dim=1) for tensor in (key, value)]
    given = [key, value] if attend is tree_attention else repeated
    found = attend(query, *given, mask, dropout=0.0, scale=0.5)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask.dense(), scale=0.5)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients, expected = (
        torch.autograd.grad((out * weight).sum(), (query, key, value), retain_graph=True) for out in (found, wanted)
    )
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("size", "scale"), [(16, 0.5), (8, None), (24, None)])
def test_flex_attention_equals_attention_under_the_dense_mask(
    size: int, scale: float | None, load_tiny: Callable[..., Any], city: City
) -> None:
    folder, samples = city
    encoder = load_tiny("qwen").encoder
    subtree_end = torch.from_numpy(
        build_tree([encoder.encode(sample.in_folder(folder)) for sample in samples[:9]]).subtree_end()
    )
    mask = TreeMask(subtree_end, torch.device("cpu"))
    query, key, value = (torch.randn(1, heads, len(subtree_end), size) for heads in (4, 2, 2))
    repeated = [tensor.repeat_interleave(2, dim=1) for tensor in (key, value)]
    wanted = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask.dense(), scale=scale)
    torch.testing.assert_close(flex_attention(query, key, value, mask, scale=scale), wanted, atol=1e-5, rtol=1e-5)


@given(
    subtree_end=st.lists(st.integers(0, 400), min_size=1, max_size=400).map(
        lambda spans: np.array([at + 1 + min(span, len(spans) - at - 1) for at, span in enumerate(spans)])
    )
)
@settings(deadline=None, max_examples=30)
def test_flex_attention_reads_every_visible_tile(subtree_end: np.ndarray) -> None:
    """Tiles read in full are visible in full, and skipped tiles hold no visible pair."""
    mask = TreeMask(torch.from_numpy(subtree_end), torch.device("cpu"))
    side = -(-len(subtree_end) // TILE) * TILE
    dense = torch.zeros(side, side, dtype=torch.bool)
    dense[: len(subtree_end), : len(subtree_end)] = mask.dense()[0, 0]
    tiles = dense.view(side // TILE, TILE, side // TILE, TILE).transpose(1, 2)
    some, every = tiles.flatten(2).any(2), tiles.flatten(2).all(2)
    block_mask = mask.block_mask
    partial, full = torch.zeros_like(some), torch.zeros_like(some)
    for chosen, counts, columns in (
        (partial, block_mask.kv_num_blocks, block_mask.kv_indices),
        (full, block_mask.full_kv_num_blocks, block_mask.full_kv_indices),
    ):
        for row, count in enumerate(counts[0, 0].tolist()):
            chosen[row, columns[0, 0, row, :count].long()] = True
    assert not (partial & full).any()
    assert (some <= (partial | full)).all()
    assert (full <= every).all()


@pytest.mark.parametrize(
    ("attn", "device", "dtype", "size", "kernel"),
    [
        ("auto", "cpu", torch.float32, 8, "shared"),
        ("flex", "cpu", torch.bfloat16, 8, "shared"),
        ("auto", "cuda", torch.bfloat16, 128, "varlen"),
        ("auto", "cuda", torch.bfloat16, 36, "flex"),
        ("auto", "cuda", torch.float32, 8, "flex"),
        ("flex", "cuda", torch.bfloat16, 128, "flex"),
        ("sdpa", "cuda", torch.bfloat16, 128, "paths"),
        ("auto", "mps", torch.float32, 64, "paths"),
        ("auto", "cuda", torch.float64, 64, "paths"),
        ("auto", "cuda", torch.bfloat16, 512, "paths"),
    ],
)
def test_the_kernel_is_the_fastest_that_works(
    attn: str,
    device: str,
    dtype: torch.dtype,
    size: int,
    kernel: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    tree_kernel.cache_clear()
    found = {tree_kernel(attn, device, dtype, size) for _ in range(3)}
    assert found == {kernel}
    assert len(caplog.records) == (kernel == "paths" and attn == "auto"), "a fallback is said once"


def test_prompts_are_read_without_a_kernel_that_must_be_compiled(
    caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    tree_kernel.cache_clear()
    assert tree_kernel("auto", "cuda", torch.bfloat16, 128, compiles=False) == "varlen"
    assert tree_kernel("auto", "cuda", torch.float32, 128, compiles=False) == "paths"
    assert tree_kernel("flex", "cuda", torch.float32, 128, compiles=False) == "flex"
    assert not caplog.records


@pytest.mark.parametrize(
    ("attn", "device", "dtype", "size", "reason"),
    [
        ("flex", "mps", torch.float32, 64, "needs CUDA"),
        ("flex", "cuda", torch.float64, 64, "does not take torch.float64"),
        ("varlen", "cuda", torch.float32, 64, "does not take torch.float32"),
        ("varlen", "cuda", torch.bfloat16, 512, "at most 256 numbers"),
        ("varlen", "cuda", torch.bfloat16, 36, "a multiple of 8 numbers"),
        ("varlen", "cuda", torch.bfloat16, 64, "compute capability"),
    ],
)
def test_a_kernel_that_cannot_do_it_is_refused(
    attn: str, device: str, dtype: torch.dtype, size: int, reason: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    tree_kernel.cache_clear()
    with pytest.raises(ConfigError, match=reason):
        tree_kernel(attn, device, dtype, size)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("attn", "dtype", "atol"),
    [
        ("sdpa", torch.float32, 2e-3),
        ("flex", torch.float32, 2e-3),
        ("sdpa", torch.bfloat16, 5e-2),
        ("flex", torch.bfloat16, 5e-2),
        ("varlen", torch.bfloat16, 5e-2),
    ],
)
def test_attention_on_a_gpu(
    attn: str, dtype: torch.dtype, atol: float, load_tiny: Callable[..., Any], city: City
) -> None:
    """Compare output and gradients for trees of several lengths, which share one compiled kernel."""
    folder, samples = city
    encoder = load_tiny("qwen").encoder
    device = torch.device("cuda")
    for count in (1, 4, 9):
        subtree_end = torch.from_numpy(
            build_tree([encoder.encode(sample.in_folder(folder)) for sample in samples[:count]]).subtree_end()
        )
        mask = TreeMask(subtree_end, device, attn=attn)
        sizes = (8, 2, 2)
        query, key, value = (
            torch.randn(1, heads, len(subtree_end), 64, device=device, dtype=dtype, requires_grad=True)
            for heads in sizes
        )
        weight = torch.randn_like(query)
        repeated = [tensor.repeat_interleave(4, dim=1) for tensor in (key, value)]
        found = tree_attention(query, key, value, mask, dropout=0.0, scale=None)
        wanted = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask.dense())
        torch.testing.assert_close(found, wanted, atol=atol, rtol=1e-2)
        gradients, expected = (
            torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (found, wanted)
        )
        for gradient, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, other, atol=4 * atol, rtol=2e-2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("language_model", ["lora", "full"])
@pytest.mark.parametrize("attn", ["auto", "flex", "varlen"])
def test_bf16_on_a_gpu(language_model: str, attn: str, load_tiny: Callable[..., Any], city: City) -> None:
    """Queries and keys are float32 if all weights train."""
    backbone = load_tiny("qwen", attn=attn, dtype="bf16", language_model=language_model).train().to("cuda")
    encoded = [backbone.encode(sample.in_folder(city[0])) for sample in questions(city, 8)]
    loss, _, gradients = outcome(backbone, [collate_tree(encoded, backbone.encoder).to("cuda")])
    wanted, _, _ = outcome(backbone, [collate(encoded, backbone.encoder).to("cuda")])
    torch.testing.assert_close(loss, wanted, atol=0, rtol=2e-2)
    assert gradients


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("family", ["qwen", "internvl"])
@pytest.mark.parametrize("attn", ["auto", "sdpa", "flex", "eager"])
def test_tree_equals_separate_samples_on_a_gpu(
    family: str, attn: str, load_tiny: Callable[..., Any], city: City
) -> None:
    backbone = load_tiny(family, attn=attn).train().to("cuda")
    encoded = [backbone.encode(sample.in_folder(city[0])) for sample in questions(city, 8)]
    tree = collate_tree(encoded, backbone.encoder).to("cuda")
    rows = [collate([e], backbone.encoder).to("cuda") for e in encoded]
    loss, logits, gradients = outcome(backbone, [tree])
    wanted_loss, wanted_logits, wanted = outcome(backbone, rows)
    torch.testing.assert_close(logits, wanted_logits, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(loss, wanted_loss, atol=1e-2, rtol=1e-4)
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-3 * float(gradient.abs().max() + 1), rtol=1e-2)


def test_generated_answers_do_not_change(load_tiny: Callable[..., Any], city: City) -> None:
    """Under stock attention the rows of the plain twin say the same, and so do those under the own one."""
    samples = [sample.in_folder(city[0]) for sample in city[1][:4]]
    backbone = load_tiny("qwen")
    prompts = [backbone.encode(one, answer=False) for one in samples]
    said = [sample(backbone, prompts, max_new_tokens=6, batch_size=4, tree=tree) for tree in (True, False)]
    backbone.base.set_attn_implementation("sdpa")
    said.append(sample(backbone, prompts, max_new_tokens=6, batch_size=4, tree=False))
    tokens = [[one.tokens for [one] in completions] for completions in said]
    assert tokens[0] == tokens[1] == tokens[2]
