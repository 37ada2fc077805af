"""Attention over a tree, one call per depth: the calls, their merge and the gradients, with a reference kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.backbones.tree_attention import TreeMask
from geotune.backbones.varlen_attention import CUDA, Kernel, Ranges, Round, varlen_attention

CPU = torch.device("cpu")
TREES = st.lists(st.integers(0, 40), min_size=1, max_size=40)
"""For each token how many tokens after it may see it, before `nested` makes a tree of it."""


def nested(spans: list[int]) -> torch.Tensor:
    """Subtree ends of a tree: no token is seen beyond the end of the token before it that sees it."""
    ends: list[int] = []
    path: list[int] = []
    for at, span in enumerate(spans):
        while path and path[-1] <= at:
            path.pop()
        path.append(min(at + 1 + span, path[-1] if path else len(spans)))
        ends.append(path[-1])
    return torch.tensor(ends)


def scores(query: torch.Tensor, key: torch.Tensor, scale: float, causal: bool) -> torch.Tensor:
    product = torch.einsum("qhd,khd->hqk", query, key) * scale
    if causal:
        product = product.masked_fill(torch.ones(product.shape[1:]).triu(1).bool(), -torch.inf)
    return product


def pieces(ranges: Ranges, packed: torch.Tensor, dim: int = 0) -> list[torch.Tensor]:
    return list(packed.split(ranges.ends.diff().tolist(), dim=dim))


def reference_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, turn: Round, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    outs, sums = [], []
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    assert max(len(part) for part in pieces(turn.queries, query)) == turn.queries.longest
    assert max(len(part) for part in pieces(turn.keys, key)) == turn.keys.longest
    for q, k, v in zip(pieces(turn.queries, query), pieces(turn.keys, key), pieces(turn.keys, value), strict=True):
        product = scores(q, k, scale, turn.causal)
        sums.append(product.logsumexp(-1).float())
        outs.append(torch.einsum("hqk,khd->qhd", product.softmax(-1), v))
    return torch.cat(outs), torch.cat(sums, dim=1)


def reference_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    log_sums: torch.Tensor,
    turn: Round,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a flash kernel computes: probabilities from the given log-sum-exp, row sums from the given output."""
    groups = query.shape[1] // key.shape[1]
    wide_key, wide_value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    parts: list[tuple[torch.Tensor, ...]] = []
    for g, q, k, v, o, sums in zip(
        *(pieces(turn.queries, tensor) for tensor in (gradient, query)),
        *(pieces(turn.keys, tensor) for tensor in (wide_key, wide_value)),
        pieces(turn.queries, out),
        pieces(turn.queries, log_sums, dim=1),
        strict=True,
    ):
        p = (scores(q, k, scale, turn.causal) - sums[..., None]).exp()
        row = (g * o).sum(-1).T[..., None]
        d = p * (torch.einsum("qhd,khd->hqk", g, v) - row) * scale
        parts.append(
            (
                torch.einsum("hqk,khd->qhd", d, k),
                torch.einsum("hqk,qhd->khd", d, q),
                torch.einsum("hqk,qhd->khd", p, g),
            )
        )
    for_query, for_key, for_value = (torch.cat(column) for column in zip(*parts, strict=True))
    narrow = [tensor.unflatten(1, (-1, groups)).sum(2) for tensor in (for_key, for_value)]
    return for_query, narrow[0], narrow[1]


REFERENCE = Kernel(reference_forward, reference_backward)


@given(spans=TREES, groups=st.sampled_from([1, 3]), scale=st.sampled_from([None, 0.5]))
@settings(deadline=None, max_examples=60)
def test_output_and_gradients_are_those_under_the_dense_mask(
    spans: list[int], groups: int, scale: float | None
) -> None:
    mask = TreeMask(nested(spans), CPU)
    random = torch.Generator().manual_seed(len(spans))
    inputs = [
        torch.randn(1, heads, len(spans), 8, generator=random, dtype=torch.float64, requires_grad=True)
        for heads in (2 * groups, 2, 2)
    ]
    query, *others = inputs
    repeated = [tensor.repeat_interleave(groups, dim=1) for tensor in others]
    wanted = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask.dense(), scale=scale)
    found = varlen_attention(*inputs, mask.rounds, scale=scale, kernel=REFERENCE)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    weight = torch.randn(wanted.shape, generator=random, dtype=torch.float64)
    gradients, expected = (torch.autograd.grad((out * weight).sum(), inputs) for out in (found, wanted))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=2e-5, rtol=1e-4)


@given(spans=TREES)
@settings(deadline=None, max_examples=60)
def test_the_rounds_let_each_token_attend_once_to_all_that_it_may_see(spans: list[int]) -> None:
    mask = TreeMask(nested(spans), CPU)
    seen = np.zeros((len(spans), len(spans)), dtype=int)
    everything = torch.arange(len(spans))
    for turn in mask.rounds:
        queries, keys = (pieces(ranges, ranges.of(everything)) for ranges in (turn.queries, turn.keys))
        for tokens, visible in zip(queries, keys, strict=True):
            pairs = np.ones((len(tokens), len(visible)), dtype=int)
            seen[np.ix_(tokens, visible)] += np.tril(pairs) if turn.causal else pairs
    assert (seen == mask.dense()[0, 0].numpy()).all()
    depths = {len(block.ancestors) for block in mask.blocks}
    assert len(mask.rounds) <= 1 + len(depths)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("groups", [1, 3])
def test_the_cuda_kernel_gives_the_same(groups: int) -> None:
    mask = TreeMask(nested([300] * 40 + [90, 10] * 130), torch.device("cuda"))
    length = len(mask.subtree_end)
    inputs = [
        torch.randn(1, heads, length, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for heads in (2 * groups, 2, 2)
    ]
    query, *others = inputs
    repeated = [tensor.float().repeat_interleave(groups, dim=1) for tensor in others]
    wanted = torch.nn.functional.scaled_dot_product_attention(query.float(), *repeated, attn_mask=mask.dense())
    found = varlen_attention(*inputs, mask.rounds, scale=None, kernel=CUDA)
    torch.testing.assert_close(found.float(), wanted, atol=2e-2, rtol=2e-2)
    weight = torch.randn_like(wanted)
    gradients, expected = (torch.autograd.grad((out.float() * weight).sum(), inputs) for out in (found, wanted))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-1, rtol=5e-2)
