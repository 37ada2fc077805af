"""Attention over a prefix tree.

A tree of 40 questions fills a few percent of its square mask. Here each block of tokens (`attention_blocks`) attends
only to the keys on its path, so each token costs what it costs in a separate sequence, and no square mask is built. On
CUDA this is one call of a flash kernel per depth of the tree (`varlen_attention`), one FlexAttention kernel for the
whole tree, or one call of SDPA per block; `tree_kernel` chooses.

On the CPU the keys of a path are not concatenated. The tokens of a block's subtree follow the block directly and see
all of it, so one flash kernel attends from the subtree to the block. A token's partial outputs, from its own block and
from each block on its path, are merged by log-sum-exp. In the backward pass a flash kernel computes the gradient of
each partial output from the merged output and its log-sum-exp.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from geotune.backbones.varlen_attention import Round, rounds_of, varlen_attention
from geotune.encoding.prefix_tree import AttentionBlock, attention_blocks
from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

TILE = 128
"""Side of FlexAttention's tiles in tokens."""
LEAST_HEAD, LARGEST_HEAD = 16, 256
"""Smallest size of a head that FlexAttention's kernels take (smaller heads are padded with zeros), and the largest that
any kernel but SDPA takes."""
SMALL_SUBTREE = 256
"""Largest number of tokens of a subtree in which the CPU computes attention at once, under a square mask. Calls for
each of the many short blocks of answer options would take longer than their work."""
TreeKernel = Literal["shared", "flex", "varlen", "paths"]
"""Flash kernels of the CPU, FlexAttention, flash kernels of CUDA, or SDPA block by block."""
WITHOUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
log = logging.getLogger(__name__)


class TreeShare(NamedTuple):
    """A part of the attention over a tree: some tokens attend to themselves, and those below them to all of them."""

    own: slice
    """The tokens: those of a block, or of a whole subtree."""
    below: slice
    """The later tokens that see all of them; empty for a subtree."""
    mask: torch.Tensor | None
    """What is added to the scores within a subtree, float32 (1, 1, own, own); None for a block, which is causal."""


def _visible(subtree_end: torch.Tensor) -> torch.Tensor:
    """Boolean (T, T), True where a token (row) may attend to another, given the ends of their subtrees (T,)."""
    at = torch.arange(len(subtree_end), device=subtree_end.device)
    return (at[None, :] <= at[:, None]) & (at[:, None] < subtree_end[None, :])


class TreeMask:
    """Attention mask of a sequence that holds prefix trees; transformers passes it to the layers in place of a tensor.

    subtree_end: int64 (T,); token q may attend to token k if k <= q < subtree_end[k]. device: device of the queries.
    attn: `auto`, or the kernel for CUDA; compiles: whether it may be compiled; see `tree_kernel`.
    """

    def __init__(
        self, subtree_end: torch.Tensor, device: torch.device, *, attn: str = "auto", compiles: bool = True
    ) -> None:
        self.subtree_end = subtree_end
        self.attn = attn
        self.compiles = compiles
        self.device = device
        self._masks: dict[tuple[int, int], torch.Tensor] = {}

    @cached_property
    def blocks(self) -> tuple[AttentionBlock, ...]:
        """The blocks of the sequence; see `attention_blocks`."""
        return attention_blocks(self.subtree_end.cpu().numpy())

    @cached_property
    def shares(self) -> list[TreeShare]:
        """What the CPU computes: a share for each block, or for each small subtree."""
        ends = self.subtree_end.cpu()
        shares: list[TreeShare] = []
        done = 0
        for block in self.blocks:
            end = int(ends[block.start])
            if block.start < done:
                continue
            if block.stop < end <= block.start + SMALL_SUBTREE:
                done = end
                own = slice(block.start, end)
                blocked = ~_visible(ends[own] - block.start)
                mask = torch.zeros(blocked.shape).masked_fill_(blocked, -torch.inf)[None, None]
                shares.append(TreeShare(own, slice(end, end), mask))
            else:
                shares.append(TreeShare(slice(block.start, block.stop), slice(block.stop, end), None))
        return shares

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The calls of `varlen_attention`, which all layers share."""
        ends = [int(self.subtree_end[block.start]) for block in self.blocks]
        return rounds_of(self.blocks, ends, self.device)

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of each block."""
        return [block.stop - block.start for block in self.blocks]

    def path_mask(self, own: int, before: int) -> torch.Tensor:
        """Boolean mask (own, before + own) of a block of `own` tokens below `before` tokens.

        Each token may attend to all tokens before the block, and to the block up to itself.
        """
        key = (own, before)
        if key not in self._masks:
            mask = torch.ones(own, before + own, dtype=torch.bool, device=self.device)
            self._masks[key] = mask.tril(diagonal=before)
        return self._masks[key]

    def dense(self) -> torch.Tensor:
        """Boolean (1, 1, T, T), True where a token may attend."""
        return _visible(self.subtree_end.to(self.device))[None, None]

    @cached_property
    def block_mask(self) -> BlockMask:
        """FlexAttention's form of the mask, which all layers share: tiles to skip, to read in full and to read in part.

        Tiles are chosen conservatively; in a tile that is read in part, `sees` decides for each pair of tokens.
        """
        from torch.nn.attention.flex_attention import BlockMask

        subtree_end, length = self.subtree_end.to(self.device, torch.long), len(self.subtree_end)
        tiles = -(-length // TILE)
        padded = nn.functional.pad(subtree_end, (0, tiles * TILE - length)).view(tiles, TILE)
        first = torch.arange(tiles, device=self.device) * TILE
        last = (first + TILE).clamp(max=length) - 1
        begun, over = last[:, None] >= first, first[:, None] >= padded.amax(1)
        read = begun & ~over
        whole = (first[:, None] > last) & (last[:, None] < padded.amin(1))

        def sees(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return (key <= query) & (query < subtree_end[key])

        def tiled(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Number of chosen tiles in each row, and the columns of all tiles with the chosen ones first."""
            order = chosen.int().argsort(dim=1, descending=True, stable=True).int()
            return chosen.sum(1, dtype=torch.int32)[None, None], order[None, None]

        return BlockMask.from_kv_blocks(
            *tiled(read & ~whole), *tiled(whole), BLOCK_SIZE=TILE, mask_mod=sees, seq_lengths=(length, length)
        )


class _SharedAttention(torch.autograd.Function):
    """Tree attention on the CPU by flash kernels, merged by log-sum-exp.

    query: (kv heads, groups, T, D). key, value: (kv heads, 1, T, D). The output has the shape of `query`.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: TreeMask, scale: float | None
    ) -> torch.Tensor:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        heads, groups, length, size = query.shape
        key, value = (tensor.expand(-1, groups, -1, -1) for tensor in (key, value))
        out = query.new_empty(length, heads, groups, size, dtype=torch.float32).permute(1, 2, 0, 3)
        log_sums = query.new_empty(heads, groups, length, dtype=torch.float32)
        for own, _, visible in mask.shares:
            out[:, :, own], log_sums[:, :, own] = flash(
                query[:, :, own],
                key[:, :, own],
                value[:, :, own],
                0.0,
                visible is None,
                attn_mask=visible,
                scale=scale,
            )
        for own, below, _ in mask.shares:
            if below.start < below.stop:
                share, more = flash(query[:, :, below], key[:, :, own], value[:, :, own], 0.0, False, scale=scale)
                before = log_sums[:, :, below]
                out[:, :, below].lerp_(share.float(), (more - before).sigmoid_()[..., None])
                torch.logaddexp(before, more, out=before)
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, log_sums)
        ctx.shares, ctx.scale = mask.shares, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        query, key, value, out, log_sums = ctx.saved_tensors
        for_query = torch.empty_like(query)
        for_key, for_value = (torch.empty_like(tensor[:, :1]) for tensor in (key, value))
        # Every token belongs to one block, so the causal round writes every element and the second round adds.
        for causal in (True, False):
            for own, below, visible in ctx.shares:
                rows = own if causal else below
                if rows.start == rows.stop:
                    continue
                parts = flash(
                    *(tensor[:, :, rows] for tensor in (gradient, query)),
                    *(tensor[:, :, own] for tensor in (key, value)),
                    *(tensor[:, :, rows] for tensor in (out, log_sums)),
                    0.0,
                    causal and visible is None,
                    attn_mask=visible if causal else None,
                    scale=ctx.scale,
                )
                totals = (parts[0], *(part.sum(1, keepdim=True) for part in parts[1:]))
                for total, part, where in zip((for_query, for_key, for_value), totals, (rows, own, own), strict=True):
                    if causal:
                        total[:, :, where] = part
                    else:
                        total[:, :, where] += part
        return for_query, for_key, for_value, None, None


@cache
def tree_kernel(attn: str, device: str, dtype: torch.dtype, size: int, compiles: bool = True) -> TreeKernel:
    """Return the kernel that reads prefix trees on a type of device, in `dtype`, with heads of `size`.

    attn: `auto` for the fastest one, `flex`, `varlen`, or `sdpa` for SDPA block by block; the CPU has one of its own.
    compiles: whether `auto` may choose FlexAttention, whose kernel is compiled when it is first used, which takes
    longer than to read a few prompts without it. Says so, once, if only SDPA is left. Raises ConfigError if the kernel
    that `attn` names can't do it.
    """
    if device == "cpu":
        return "shared"
    if attn == "sdpa":
        return "paths"
    reasons = {kernel: unusable(kernel, device, dtype, size) for kernel in ("varlen", "flex")}
    if attn in reasons:
        if reason := reasons[attn]:
            raise ConfigError(Problem("backbone.attn", attn, reason, "set backbone.attn=auto"))
        return attn  # type: ignore[return-value]
    for kernel, reason in reasons.items():
        if reason is None and (compiles or kernel != "flex"):
            return kernel  # type: ignore[return-value]
    if not compiles:
        return "paths"
    found = ", ".join(f"{kernel}: {reason}" for kernel, reason in reasons.items())
    log.warning("prefix trees are read by SDPA, block by block, which is slow (%s)", found)
    return "paths"


def unusable(kernel: str, device: str, dtype: torch.dtype, size: int) -> str | None:
    """Return why a kernel can't be used, None if it can."""
    taken = {torch.float16, torch.bfloat16} | ({torch.float32} if kernel == "flex" else set())
    if device != "cuda":
        return f"it needs CUDA, and the device is {device}"
    if dtype not in taken:
        return f"it does not take {dtype}"
    if size > LARGEST_HEAD:
        return f"it takes heads of at most {LARGEST_HEAD} numbers, and the model's have {size}"
    if kernel == "varlen" and size % 8:
        return f"it takes heads of a multiple of 8 numbers, and the model's have {size}"
    if kernel == "varlen" and torch.cuda.get_device_capability() < (8, 0):
        return "it needs compute capability 8.0 (Ampere) or later"
    return None


def without_cudnn(query: torch.Tensor) -> AbstractContextManager[None]:
    """Context in which SDPA does not choose cuDNN, which builds a plan for every new shape: batches are all new."""
    return sdpa_kernel(WITHOUT_CUDNN) if query.is_cuda else nullcontext()


def attention_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype in which attention computes with `tensor`.

    Under autocast it is not that of the tensor: rotary positions leave queries and keys in float32 if the weights are
    float32.
    """
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def tree_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: TreeMask, *, dropout: float, scale: float | None
) -> torch.Tensor:
    """Attention under `mask`, with the kernel that suits the device: (1, heads, T, D).

    query: (1, heads, T, D). key, value: (1, kv heads, T, D). scale: factor of the scores; None for 1 / sqrt(D). With
    `dropout` above 0 `path_attention` serves on every device.
    """
    _, heads, length, size = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    kind, dtype = query.device.type, attention_dtype(query)
    query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    kernel = "paths" if dropout else tree_kernel(mask.attn, kind, dtype, size, mask.compiles)
    if kernel == "shared":
        out: torch.Tensor = _SharedAttention.apply(
            query.view(kv_heads, groups, length, size), key[0][:, None], value[0][:, None], mask, scale
        )
        return out.permute(2, 0, 1, 3).reshape(1, length, heads, size).transpose(1, 2)
    if kernel == "flex":
        return flex_attention(query, key, value, mask, scale=scale)
    if kernel == "varlen":
        return varlen_attention(query, key, value, mask.rounds, scale=scale)
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    return path_attention(query, key, value, mask, dropout=dropout, scale=scale)


def flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: TreeMask, *, scale: float | None
) -> torch.Tensor:
    """Compute `tree_attention` by FlexAttention: compiled on CUDA, elsewhere a slow reference without gradients."""
    size = query.shape[-1]
    scale = size**-0.5 if scale is None else scale
    wider = [nn.functional.pad(tensor, (0, max(0, LEAST_HEAD - size))) for tensor in (query, key, value)]
    out: torch.Tensor = _flex(query.is_cuda)(
        *wider,
        block_mask=mask.block_mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        # Fewer than 128 queries would otherwise go to a decoding kernel, which fails for lack of a configuration.
        kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
    )
    return out[..., :size]


@cache
def _flex(compiled: bool) -> Callable[..., torch.Tensor]:
    from torch.nn.attention.flex_attention import flex_attention as flex

    # Uncompiled, it builds the square of scores. With static shapes it would compile a kernel for every length.
    return torch.compile(flex, dynamic=True) if compiled else flex  # type: ignore[return-value]


def path_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: TreeMask, *, dropout: float, scale: float | None
) -> torch.Tensor:
    """Compute `tree_attention` by SDPA, block by block, for `key` and `value` with as many heads as `query`.

    Each block attends to the concatenated keys of its path.
    """
    sizes = mask.sizes
    # One split for all blocks: each slice of the whole tensor would get a gradient of full size.
    queries, keys, values = (tensor.split(sizes, dim=2) for tensor in (query, key, value))
    outputs = []
    with without_cudnn(query):
        for number, block in enumerate(mask.blocks):
            path = (*block.ancestors, number)
            before = sum(sizes[ancestor] for ancestor in block.ancestors)
            outputs.append(
                nn.functional.scaled_dot_product_attention(
                    queries[number],
                    torch.cat([keys[i] for i in path], dim=2) if before else keys[number],
                    torch.cat([values[i] for i in path], dim=2) if before else values[number],
                    attn_mask=mask.path_mask(sizes[number], before) if before else None,
                    is_causal=not before,
                    dropout_p=dropout,
                    scale=scale,
                )
            )
    return torch.cat(outputs, dim=2)
