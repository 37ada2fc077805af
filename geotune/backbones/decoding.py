"""Prompts that the language model has read, and rows of completions that grow from them by one token per step.

`TreePrompts` reads a batch of prompts as one prefix tree, whose keys all completions share. `CopiedPrompts` is its
plain twin, the usual way: prompts are padded rows, and each completion has a copy of its prompt's keys.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from geotune.backbones.branch_attention import BranchMask, PromptKeys, RowKeys, stored_tokens
from geotune.backbones.tree_attention import TreeMask
from geotune.encoding.collate import collate, collate_tree, next_position
from geotune.encoding.prefix_tree import build_tree, path_blocks

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.encoding.segments import Encoded


class Rows(ABC):
    """Completions that grow together, one row each."""

    @abstractmethod
    def read(self, embeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Read the newest token of each row; return its hidden states (rows, hidden).

        embeds: (rows, 1, hidden). positions: position ids (axes, rows, 1).
        """

    @abstractmethod
    def keep(self, kept: torch.Tensor) -> None:
        """Drop all rows but those with the indices `kept` (ascending)."""


class Prompts(ABC):
    """Prompts that the language model has read.

    `hidden` holds the hidden state of the last token of each prompt (prompts, hidden), `positions` the position id of
    the token that follows it (prompts,).
    """

    hidden: torch.Tensor
    positions: torch.Tensor

    def __init__(self, backbone: Backbone, prompts: Sequence[Encoded]) -> None:
        self.backbone = backbone
        after = [next_position(prompt, backbone.encoder) for prompt in prompts]
        self.positions = torch.tensor(after, device=backbone.device)

    @staticmethod
    @abstractmethod
    def cached_tokens(prompts: Sequence[Encoded], rows: int, max_new_tokens: int) -> int:
        """Number of tokens whose keys are kept, at most, while `rows` completions of the prompts grow."""

    @abstractmethod
    def rows(self, prompts: Sequence[int], max_new_tokens: int, *, keep: bool) -> Rows:
        """Return rows for completions of the prompts with these numbers, of which several may be the same.

        The numbers are in the order of `reading_order`. keep: whether more rows will be asked for; if not, the keys of
        the prompts go to these rows, which drop what none of them reads any more.
        """


def reading_order(prompts: Sequence[Encoded]) -> list[int]:
    """Return the indices of prompts so that those with most in common follow each other, and otherwise by length.

    It is the depth-first order of their prefix tree, in which longer prompts come first among siblings.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: (-prompts[index].length, index))
    paths = build_tree([prompts[index] for index in by_length]).paths
    return [by_length[at] for at in sorted(range(len(paths)), key=lambda at: paths[at][-1])]


class TreePrompts(Prompts):
    """Prompts read as one prefix tree: images, system prompt and whatever else some share are computed once."""

    def __init__(self, backbone: Backbone, prompts: Sequence[Encoded]) -> None:
        super().__init__(backbone, prompts)
        tree = build_tree(prompts)
        self.nodes = [path[-1] for path in tree.paths]
        """The last node of each prompt."""
        keys = PromptKeys(path_blocks(tree))
        batch = collate_tree(prompts, backbone.encoder).to(backbone.device)
        assert batch.subtree_end is not None
        mask = TreeMask(batch.subtree_end, backbone.device, attn=backbone.attn, compiles=False)
        hidden = backbone.hidden_states(backbone.embed(batch), mask, batch.position_ids, keys)
        last = torch.tensor([tree.nodes[node].stop - 1 for node in self.nodes], device=backbone.device)
        self.hidden = hidden[0, last]
        self._stacks = keys.stacks

    @staticmethod
    def cached_tokens(prompts: Sequence[Encoded], rows: int, max_new_tokens: int) -> int:
        """Tokens of the tree, with the padding of its blocks, and those of the rows."""
        return stored_tokens(path_blocks(build_tree(prompts))) + rows * max_new_tokens

    def rows(self, prompts: Sequence[int], max_new_tokens: int, *, keep: bool) -> Rows:
        """Return rows that share the keys of the prompts."""
        nodes = [self.nodes[prompt] for prompt in prompts]
        assert nodes == sorted(nodes), "rows come in the order of the tree"
        stacks = [stack.copy() for stack in self._stacks]
        if not keep:
            self._stacks = []
        return _TreeRows(self.backbone, stacks, nodes, max_new_tokens)


class _TreeRows(Rows):
    def __init__(self, backbone: Backbone, stacks: list[Any], nodes: list[int], max_new_tokens: int) -> None:
        self.backbone = backbone
        self.stacks = stacks
        self.nodes = nodes
        self.own = RowKeys(max_new_tokens)
        self._look()

    def _look(self) -> None:
        """Drop the blocks that no row reads, and let the others be read by the rows that there are."""
        self.stacks = [left for stack in self.stacks if (left := stack.read_by(self.nodes)) is not None]
        self.mask = BranchMask(self.stacks, self.nodes)

    def read(self, embeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.backbone.hidden_states(embeds, self.mask, positions, self.own)
        self.own.length += 1
        return hidden[:, -1]

    def keep(self, kept: torch.Tensor) -> None:
        self.own.keep(kept)
        self.nodes = [self.nodes[row] for row in kept.tolist()]
        self._look()


class CopiedPrompts(Prompts):
    """Prompts read as rows padded on the left; each completion gets a copy of its prompt's keys and values."""

    def __init__(self, backbone: Backbone, prompts: Sequence[Encoded]) -> None:
        from transformers import DynamicCache

        super().__init__(backbone, prompts)
        batch = collate(prompts, backbone.encoder, side="left").to(backbone.device)
        self.cache = DynamicCache(config=backbone.base.config.get_text_config())
        embeds = backbone.embed(batch)
        self.hidden = backbone.hidden_states(embeds, batch.attention, batch.position_ids, self.cache)[:, -1]
        self.present = batch.present
        """True on the tokens of each prompt (prompts, width), false on its padding."""

    @staticmethod
    def cached_tokens(prompts: Sequence[Encoded], rows: int, max_new_tokens: int) -> int:
        """Tokens of the rows, with their prompts and its padding."""
        return rows * (max(prompt.length for prompt in prompts) + max_new_tokens)

    def rows(self, prompts: Sequence[int], max_new_tokens: int, *, keep: bool) -> Rows:
        """Return rows that begin with copies of the prompts."""
        cache, present = self.cache, self.present
        if keep:
            # The copy grows by itself. Keys and values so far are shared, which are never written.
            cache = copy.copy(self.cache)
            cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        if list(prompts) != list(range(len(present))):
            of_row = torch.tensor(prompts, device=present.device)
            cache.batch_select_indices(of_row)
            present = present[of_row]
        return _CopiedRows(self.backbone, cache, present)


class _CopiedRows(Rows):
    def __init__(self, backbone: Backbone, cache: Any, present: torch.Tensor) -> None:
        self.backbone = backbone
        self.cache = cache
        self.present = present

    def read(self, embeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        self.present = torch.nn.functional.pad(self.present, (0, 1), value=True)
        mask = None if self.present.all() else self.present[:, None, None]
        hidden: torch.Tensor = self.backbone.hidden_states(embeds, mask, positions, self.cache)
        return hidden[:, -1]

    def keep(self, kept: torch.Tensor) -> None:
        self.cache.batch_select_indices(kept)
        self.present = self.present[kept]
