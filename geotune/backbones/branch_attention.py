"""Attention of growing completions to prompts that were read once, as a prefix tree.

A row is a completion that grows by one token per step. It attends to the blocks of prompt tokens on its path
(`PathBlock`) and to its own earlier tokens. The keys of a block are stored once, however many rows read them. Each row
attends to its own keys in one call of a kernel, and to the blocks of each depth in one more (blocks of very different
lengths take several): the queries of all rows below a block, and of all heads that share its keys, are the queries of
one matrix product. The partial outputs are merged by log-sum-exp.

The kernel is the flash kernel of the CPU; on CUDA, flash kernels that take packed sequences of various lengths
(`varlen_attention`); elsewhere, and for what these don't take, the scores are computed by hand.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from geotune.backbones.tree_attention import attention_dtype, unusable
from geotune.backbones.varlen_attention import CUDA, Kernel, Ranges, Round
from geotune.encoding.prefix_tree import PathBlock

LEAST_FILLED = 0.5
"""Blocks are padded to one length if the shortest of them is at least this share of it."""
Partial = tuple[torch.Tensor, torch.Tensor]
"""Output (B, kv heads, queries, D) of a kernel, and log-sum-exp of the scores in float32 (B, kv heads, queries)."""


def flash_on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> Partial:
    """Attention of queries (B, kv heads, queries, D) to all keys (B, kv heads, keys, D); bias: (B, 1, 1, keys)."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    found: Partial = flash(query, key, value, 0.0, False, attn_mask=bias, scale=scale)
    return found


def flash_on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> Partial:
    """Compute what `flash_on_cpu` computes, on CUDA and without a bias."""
    assert bias is None
    out, log_sums, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, False, False, scale=scale
    )
    return out, log_sums


def attend_by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> Partial:
    """Compute what `flash_on_cpu` computes, on any device, in float32."""
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.matmul(query.float(), key.float().mT) * scale
        if bias is not None:
            scores += bias
        log_sums = scores.logsumexp(-1, keepdim=True)
        return torch.matmul((scores - log_sums).exp(), value.float()), log_sums.squeeze(-1)


class Kernels(NamedTuple):
    """The kernels of a device."""

    dense: Callable[..., Partial]
    """For keys of one length."""
    packed: Kernel | None
    """For packed keys of various lengths; None if the device has none, so that keys are padded for `dense`."""


def kernels_of(device: str, dtype: torch.dtype, size: int) -> Kernels:
    """Return the kernels of a type of device, in `dtype`, for heads of `size`."""
    if device == "cpu":
        return Kernels(flash_on_cpu, None)
    if unusable("varlen", device, dtype, size) is None:
        return Kernels(flash_on_cuda, CUDA)
    return Kernels(attend_by_hand, None)


def length_groups(blocks: Sequence[PathBlock]) -> list[list[PathBlock]]:
    """Group blocks of one depth and similar lengths, each group in the order of the tree."""
    groups: list[list[PathBlock]] = []
    for block in sorted(blocks, key=lambda block: (block.depth, -block.length)):
        longest = groups[-1][0] if groups else None
        if longest is None or longest.depth != block.depth or block.length < LEAST_FILLED * longest.length:
            groups.append([])
        groups[-1].append(block)
    return [sorted(group, key=lambda block: block.start) for group in groups]


def stored_tokens(blocks: Sequence[PathBlock]) -> int:
    """Number of tokens whose keys are stored for `blocks`, at most: with the padding that some kernels need."""
    return sum(len(group) * max(block.length for block in group) for group in length_groups(blocks))


def rows_below(block: PathBlock, nodes: Sequence[int]) -> range:
    """Return the rows that read a block, given the last node of each row's path, ascending."""
    return range(bisect_left(nodes, block.first), bisect_left(nodes, block.last))


class Share(ABC):
    """A share of the attention, one call of a kernel per layer: some rows attend to the blocks of one depth."""

    rows: slice | torch.Tensor
    """The rows: a slice, or indices int64."""

    @abstractmethod
    def attend(self, query: torch.Tensor, layer: int, scale: float) -> Partial:
        """Output (n, kv heads, groups, D) and log-sum-exp (n, kv heads, groups) of the n `rows` of the query.

        query: (rows, kv heads, groups, D).
        """


@dataclass(frozen=True)
class Stack(ABC):
    """Keys and values of blocks of one depth, layer by layer."""

    blocks: tuple[PathBlock, ...]
    """The blocks in the order of the tree."""
    layers: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list, init=False)
    """Keys and values of each layer that has read the prompts."""

    @abstractmethod
    def store(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the next layer's keys and values, of which key and value (1, kv heads, T, D) hold the whole tree's."""

    @abstractmethod
    def share(self, nodes: Sequence[int]) -> Share:
        """Return the share of rows whose paths end in `nodes`, ascending; each block is read by some of them."""

    @abstractmethod
    def _part(self, numbers: Sequence[int]) -> Stack:
        """Return a stack of the blocks `numbers`, without layers."""

    @abstractmethod
    def _places(self, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """Indices, in the first dimension of the layers, of what belongs to the blocks `numbers`."""

    def copy(self) -> Stack:
        """Return a stack with a list of its own of the same layers."""
        copied = replace(self)
        copied.layers.extend(self.layers)
        return copied

    def read_by(self, nodes: Sequence[int]) -> Stack | None:
        """Return the stack without the blocks that no row reads any more, layer by layer; None without any block.

        Call it on a `copy`, which loses its layers.
        """
        used = [number for number, block in enumerate(self.blocks) if rows_below(block, nodes)]
        if len(used) == len(self.blocks):
            return self
        if not used:
            return None
        part = self._part(used)
        places = self._places(used, self.layers[0][0].device)
        while self.layers:
            key, value = self.layers.pop(0)
            part.layers.append((key[places], value[places]))
        return part


@dataclass(frozen=True)
class PaddedStack(Stack):
    """Blocks of similar length, padded to one length."""

    dense: Callable[..., Partial]
    bias: torch.Tensor | None = None
    """-inf on padding, 0 elsewhere, float32 (blocks, 1, 1, length); None without padding."""
    index: torch.Tensor | None = None
    """Indices in the tree (blocks, length) of the tokens, 0 for padding."""

    @classmethod
    def of(cls, blocks: Sequence[PathBlock], dense: Callable[..., Partial], device: torch.device) -> PaddedStack:
        """Make an empty stack of `blocks`."""
        lengths = torch.tensor([block.length for block in blocks], device=device)[:, None]
        starts = torch.tensor([block.start for block in blocks], device=device)[:, None]
        at = torch.arange(max(block.length for block in blocks), device=device)
        padding = at >= lengths
        bias = torch.zeros(padding.shape, device=device).masked_fill_(padding, -torch.inf)[:, None, None]
        index = (starts + at).masked_fill_(padding, 0)
        return cls(tuple(blocks), dense, bias if bool(padding.any()) else None, index)

    def store(self, key: torch.Tensor, value: torch.Tensor) -> None:
        assert self.index is not None
        kept = [
            tensor[0].index_select(1, self.index.flatten()).unflatten(1, self.index.shape).transpose(0, 1)
            for tensor in (key, value)
        ]
        self.layers.append((kept[0], kept[1]))

    def share(self, nodes: Sequence[int]) -> Share:
        return PaddedShare(self, nodes)

    def _part(self, numbers: Sequence[int]) -> Stack:
        bias = None if self.bias is None else self.bias[self._places(numbers, self.bias.device)]
        return PaddedStack(tuple(self.blocks[number] for number in numbers), self.dense, bias)

    def _places(self, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        return torch.tensor(numbers, device=device)


class PaddedShare(Share):
    """All rows below the blocks of a padded stack; each block gets as many queries as the one with most rows."""

    def __init__(self, stack: PaddedStack, nodes: Sequence[int]) -> None:
        self.stack = stack
        below = [rows_below(block, nodes) for block in stack.blocks]
        self.most = max(len(rows) for rows in below)
        flat = [row for rows in below for row in rows]
        self.slots: torch.Tensor | None = None
        """For each of the rows its place among the queries of the kernel (blocks x most); None if these are the rows.
        """
        if flat == list(range(flat[0], flat[0] + self.most * len(below))):
            self.rows = slice(flat[0], flat[-1] + 1)
            return
        device = stack.layers[0][0].device
        self.rows = torch.tensor(flat, device=device)
        self.sources = torch.tensor(
            [rows[number] if number < len(rows) else rows[0] for rows in below for number in range(self.most)],
            device=device,
        )
        """The row of each of the kernel's queries."""
        places = [number * self.most + at for number, rows in enumerate(below) for at in range(len(rows))]
        self.slots = torch.tensor(places, device=device)

    def attend(self, query: torch.Tensor, layer: int, scale: float) -> Partial:
        key, value = self.stack.layers[layer]
        taken = query[self.rows] if self.slots is None else query[self.sources]
        count, kv_heads, groups, size = taken.shape
        blocks = len(self.stack.blocks)
        joined = taken.view(blocks, self.most, kv_heads, groups, size).transpose(1, 2).flatten(2, 3)
        out, log_sums = self.stack.dense(joined, key, value, self.stack.bias, scale)
        out = out.unflatten(2, (self.most, groups)).transpose(1, 2).reshape(count, kv_heads, groups, size)
        log_sums = log_sums.unflatten(2, (self.most, groups)).transpose(1, 2).reshape(count, kv_heads, groups)
        return (out, log_sums) if self.slots is None else (out[self.slots], log_sums[self.slots])


@dataclass(frozen=True)
class PackedStack(Stack):
    """Blocks of any lengths, packed one after another for a kernel that takes various lengths."""

    packed: Kernel

    def store(self, key: torch.Tensor, value: torch.Tensor) -> None:
        kept = [
            torch.cat([tensor[0, :, block.start : block.stop] for block in self.blocks], dim=1)
            .transpose(0, 1)
            .contiguous()
            for tensor in (key, value)
        ]
        self.layers.append((kept[0], kept[1]))

    def share(self, nodes: Sequence[int]) -> Share:
        return PackedShare(self, nodes)

    def _part(self, numbers: Sequence[int]) -> Stack:
        return PackedStack(tuple(self.blocks[number] for number in numbers), self.packed)

    def _places(self, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        starts = [0, *itertools.accumulate(block.length for block in self.blocks)]
        return torch.cat([torch.arange(starts[number], starts[number + 1], device=device) for number in numbers])


class PackedShare(Share):
    """All rows below the blocks of a packed stack."""

    def __init__(self, stack: PackedStack, nodes: Sequence[int]) -> None:
        self.stack = stack
        device = stack.layers[0][0].device
        below = [rows_below(block, nodes) for block in stack.blocks]
        queries = Ranges.pack([(rows.start, rows.stop) for rows in below], device)
        starts = [0, *itertools.accumulate(block.length for block in stack.blocks)]
        keys = Ranges.pack(list(itertools.pairwise(starts)), device)
        self.round = Round(queries, keys, causal=False)
        self.rows = queries.tokens

    def attend(self, query: torch.Tensor, layer: int, scale: float) -> Partial:
        key, value = self.stack.layers[layer]
        _, kv_heads, groups, _ = query.shape
        taken = query[self.rows].flatten(1, 2)
        out, log_sums = self.stack.packed.forward(taken, key, value, self.round, scale)
        return out.unflatten(1, (kv_heads, groups)), log_sums.T.unflatten(1, (kv_heads, groups))


class PromptKeys:
    """Keys and values of a prefix tree of prompts; takes the place of a transformers cache while they are read."""

    def __init__(self, blocks: Sequence[PathBlock]) -> None:
        self.blocks = blocks
        self.stacks: list[Stack] = []

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values (1, kv heads, T, D) of a layer; layers come in their order."""
        key, value = (tensor.to(attention_dtype(tensor)) for tensor in (key, value))
        if not self.stacks:
            kernels = kernels_of(key.device.type, key.dtype, key.shape[-1])
            if kernels.packed is None:
                groups = length_groups(self.blocks)
                self.stacks = [PaddedStack.of(group, kernels.dense, key.device) for group in groups]
            else:
                depths = itertools.groupby(
                    sorted(self.blocks, key=lambda block: block.depth), lambda block: block.depth
                )
                self.stacks = [PackedStack(tuple(group), kernels.packed) for _, group in depths]
        for stack in self.stacks:
            assert len(stack.layers) == layer
            stack.store(key, value)
        return key, value


class RowKeys:
    """Keys and values of each row's own tokens; takes the place of a transformers cache while completions grow."""

    FIRST = 32
    """Number of tokens that there is room for at first; it doubles when it is used up."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Largest number of tokens of a row."""
        self.length = 0
        """Number of tokens that all layers have stored."""
        self._layers: list[list[torch.Tensor]] = []

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values (rows, kv heads, 1, D) of the next token; return those of all tokens so far."""
        if layer == len(self._layers):
            dtype, room = attention_dtype(key), min(self.FIRST, self.limit)
            self._layers.append([key.new_empty(*key.shape[:2], room, key.shape[-1], dtype=dtype) for _ in range(2)])
        stored = self._layers[layer]
        for number, new in enumerate((key, value)):
            room = stored[number].shape[2]
            if self.length == room:
                more = min(2 * room, self.limit) - room
                stored[number] = torch.nn.functional.pad(stored[number], (0, 0, 0, more))
            stored[number][:, :, self.length : self.length + 1] = new
        return stored[0][:, :, : self.length + 1], stored[1][:, :, : self.length + 1]

    def keep(self, rows: torch.Tensor) -> None:
        """Keep the rows with the indices `rows` alone."""
        self._layers = [[tensor[rows] for tensor in stored] for stored in self._layers]


class BranchMask:
    """Stands for the attention mask of rows that grow by one token: what they see besides their own tokens."""

    def __init__(self, stacks: Sequence[Stack], nodes: Sequence[int]) -> None:
        self.shares = [stack.share(nodes) for stack in stacks]


def branch_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: BranchMask, layer: int, *, scale: float | None
) -> torch.Tensor:
    """Attention of each row's newest token to its own tokens and to the prompt: (rows, 1, heads, D).

    query: (rows, heads, 1, D). key, value: (rows, kv heads, own tokens, D). scale: factor of the scores; None for
    1 / sqrt(D).
    """
    rows, heads, _, size = query.shape
    kv_heads = key.shape[1]
    scale = size**-0.5 if scale is None else scale
    query = query.to(key.dtype).reshape(rows, kv_heads, heads // kv_heads, size)
    out, log_sums = kernels_of(query.device.type, query.dtype, size).dense(query, key, value, None, scale)
    out = out.float()
    for share in mask.shares:
        part, more = share.attend(query, layer, scale)
        before = log_sums[share.rows]
        out[share.rows] = out[share.rows].lerp(part.float(), (more - before).sigmoid()[..., None])
        log_sums[share.rows] = torch.logaddexp(before, more)
    return out.to(query.dtype).reshape(rows, 1, heads, size)
