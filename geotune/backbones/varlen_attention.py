"""Attention over a prefix tree by flash kernels for sequences of various lengths: one call per depth of the tree.

First each block of tokens attends to itself, causally. Then, for each depth, the tokens below each block of that depth
attend to all of the block. The partial outputs are merged by log-sum-exp. In the backward pass a kernel computes the
gradient of each partial output from the merged output and its log-sum-exp, as the CPU does it in `tree_attention`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from geotune.encoding.prefix_tree import AttentionBlock


@dataclass(frozen=True)
class Ranges:
    """Ranges of tokens, packed one after another."""

    tokens: slice | torch.Tensor
    """The packed tokens: a slice if they follow each other in the sequence, which spares a copy, else their indices,
    int64 (tokens,)."""
    ends: torch.Tensor
    """Boundaries of the packed ranges, int32 (ranges + 1,)."""
    longest: int
    """Number of tokens of the longest range."""

    @classmethod
    def pack(cls, ranges: Sequence[tuple[int, int]], device: torch.device) -> Ranges:
        """Pack ranges [start, stop) of a sequence, which ascend and do not overlap."""
        sizes = [stop - start for start, stop in ranges]
        ends = torch.tensor([0, *itertools.accumulate(sizes)], dtype=torch.int32)
        first, last = ranges[0][0], ranges[-1][1]
        tokens: slice | torch.Tensor = slice(first, last)
        if sum(sizes) < last - first:
            tokens = torch.cat([torch.arange(start, stop) for start, stop in ranges]).to(device)
        return cls(tokens, ends.to(device), max(sizes))

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the packed rows of `tensor`; a view if they follow each other."""
        return tensor[self.tokens]

    def add(self, total: torch.Tensor, part: torch.Tensor) -> None:
        """Add `part`, of the packed rows, to the rows of `total` in place."""
        if isinstance(self.tokens, slice):
            total[self.tokens] += part
        else:
            total.index_add_(0, self.tokens, part.to(total.dtype))


@dataclass(frozen=True)
class Round:
    """One call of the kernel: the tokens of each range of `queries` attend to the same range of `keys`."""

    queries: Ranges
    keys: Ranges
    causal: bool

    @property
    def layout(self) -> tuple[Any, ...]:
        """Arguments of PyTorch's flash kernels: boundaries and largest lengths, no dropout, whether it is causal."""
        return self.queries.ends, self.keys.ends, self.queries.longest, self.keys.longest, 0.0, self.causal


def rounds_of(blocks: Sequence[AttentionBlock], subtree_ends: Sequence[int], device: torch.device) -> tuple[Round, ...]:
    """Return the calls that together let each token attend to all that it sees.

    blocks: the blocks of the sequence. subtree_ends: for each of them the index after the last token that sees it.
    """
    own = Ranges.pack([(block.start, block.stop) for block in blocks], device)
    rounds = [Round(own, own, causal=True)]
    by_depth: dict[int, list[tuple[AttentionBlock, int]]] = {}
    for block, end in zip(blocks, subtree_ends, strict=True):
        if block.stop < end:
            by_depth.setdefault(len(block.ancestors), []).append((block, end))
    for _, parents in sorted(by_depth.items()):
        queries = [(block.stop, end) for block, end in parents]
        keys = [(block.start, block.stop) for block, _ in parents]
        rounds.append(Round(Ranges.pack(queries, device), Ranges.pack(keys, device), causal=False))
    return tuple(rounds)


class Kernel(NamedTuple):
    """A flash kernel for packed tokens (tokens, heads, D); keys and values may have fewer heads than queries."""

    forward: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    """(query, key, value, round, scale) -> output, and log-sum-exp in float32 (heads, query tokens)."""
    backward: Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    """(gradient, query, key, value, output, log-sum-exp, round, scale) -> gradients of query, key and value."""


def _cuda_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, turn: Round, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    out, log_sums, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        *turn.layout,
        False,
        scale=scale,
    )
    return out, log_sums


def _cuda_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    log_sums: torch.Tensor,
    turn: Round,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=query.device)
    for_query, for_key, for_value = torch.ops.aten._flash_attention_backward(
        gradient,
        query,
        key,
        value,
        out,
        log_sums.contiguous(),
        *turn.layout,
        no_dropout,
        torch.empty(0, device=query.device),
        scale=scale,
    )
    return for_query, for_key, for_value


CUDA = Kernel(_cuda_forward, _cuda_backward)
"""Flash attention of PyTorch, as `torch.nn.attention.varlen` calls it; float16 and bfloat16 alone."""


class _VarlenAttention(torch.autograd.Function):
    """Attention of packed tokens (T, heads, D) over the rounds of a tree."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rounds: Sequence[Round],
        scale: float,
        kernel: Kernel,
    ) -> torch.Tensor:
        first, *others = rounds
        out, log_sums = kernel.forward(query, key, value, first, scale)
        if others:
            out = out.float()
        for turn in others:
            rows, keys = turn.queries, turn.keys
            share, more = kernel.forward(rows.of(query), keys.of(key), keys.of(value), turn, scale)
            before = log_sums[:, rows.tokens]
            merged = rows.of(out).lerp_(share.float(), (more - before).sigmoid().T[..., None])
            if isinstance(rows.tokens, torch.Tensor):  # else it is a view of `out`
                out[rows.tokens] = merged
            log_sums[:, rows.tokens] = torch.logaddexp(before, more)
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, log_sums)
        ctx.rounds, ctx.scale, ctx.kernel = rounds, scale, kernel
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, log_sums = ctx.saved_tensors
        gradient = gradient.contiguous()
        totals: list[torch.Tensor] = []
        for turn in ctx.rounds:
            rows, keys = turn.queries, turn.keys
            parts = ctx.kernel.backward(
                rows.of(gradient),
                rows.of(query),
                keys.of(key),
                keys.of(value),
                rows.of(out),
                log_sums[:, rows.tokens],
                turn,
                ctx.scale,
            )
            if not totals:  # the first round reads every token
                totals = [part.float() if len(ctx.rounds) > 1 else part for part in parts]
                continue
            for total, part, where in zip(totals, parts, (rows, keys, keys), strict=True):
                where.add(total, part)
        return (*(total.to(query.dtype) for total in totals), None, None, None)


def varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rounds: Sequence[Round],
    *,
    scale: float | None,
    kernel: Kernel = CUDA,
) -> torch.Tensor:
    """Attention over the `rounds` of a tree: (1, heads, T, D).

    query: (1, heads, T, D). key, value: (1, kv heads, T, D). scale: factor of the scores; None for 1 / sqrt(D).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    packed = [tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value)]
    out: torch.Tensor = _VarlenAttention.apply(*packed, rounds, scale, kernel)
    return out.transpose(0, 1)[None]
