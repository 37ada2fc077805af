"""The prefix tree of a batch: a prefix that several samples share is encoded once.

Questions about a place repeat its images, and the completions of a prompt repeat the prompt. Samples are paths of
segments (`geotune.encoding.segments.Encoded`); samples whose first segments are equal share these as one branch of a
tree. The tree is laid out depth first as one sequence without padding. Every token sees its own segment up to itself,
and the segments on its path to the root. Position ids continue along the path, so each sample gets the positions that
it has alone: logits, losses and gradients equal those of separate sequences, up to rounding.

In depth-first order the subtree of a node follows it directly. One number per token therefore describes the whole mask:
with `subtree_end[k]`, the end of token k's subtree, token q sees token k if k <= q < subtree_end[k].
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from geotune.encoding.encoder import Encoder
    from geotune.encoding.segments import Encoded, Segment


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A segment at its place in a prefix tree; all samples whose paths run through the node share it.

    Tokens are numbered by their index in the sequence of the tree; ends are exclusive.
    """

    segment: Segment
    """The segment itself."""
    parent: int
    """Index of the parent node; -1 for a root."""
    start: int
    """Index of its first token."""
    subtree_end: int
    """End of its subtree: of the last token of its own or of a descendant."""

    @property
    def stop(self) -> int:
        """End of its own tokens."""
        return self.start + len(self.segment.ids)


@dataclass(frozen=True)
class PrefixTree:
    """Samples laid out as one sequence of shared segments. There may be several roots."""

    nodes: tuple[TreeNode, ...]
    """The nodes depth first: each is followed directly by its subtree."""
    paths: tuple[tuple[int, ...], ...]
    """For each sample the indices of its nodes, from the root on."""

    @property
    def length(self) -> int:
        """Number of tokens of the sequence."""
        return max((node.subtree_end for node in self.nodes), default=0)

    def ids(self) -> np.ndarray:
        """Token ids, int64 (length,)."""
        return np.concatenate([np.asarray(node.segment.ids, dtype=np.int64) for node in self.nodes])

    def subtree_end(self) -> np.ndarray:
        """For each token the end of its subtree, the first later token that does not see it: int64 (length,)."""
        return np.repeat([node.subtree_end for node in self.nodes], [len(node.segment.ids) for node in self.nodes])

    def positions(self, encoder: Encoder) -> np.ndarray:
        """Position ids, which continue along each path: int64 (axes, length)."""
        columns: list[np.ndarray] = []
        ends: list[int] = []
        for node in self.nodes:
            offsets, span = encoder.positions(node.segment)
            start = ends[node.parent] if node.parent >= 0 else 0
            columns.append(offsets + start)
            ends.append(start + span)
        return np.concatenate(columns, axis=1)


@dataclass(slots=True)
class _NodeBuilder:
    """A node of the tree before its place in the sequence is known."""

    segment: Segment
    children: dict[Hashable, _NodeBuilder] = field(default_factory=dict)
    index: int = -1


def build_tree(samples: Sequence[Encoded]) -> PrefixTree:
    """Build the prefix tree of `samples`. Siblings stand in the order in which they first appear."""
    roots: dict[Hashable, _NodeBuilder] = {}
    paths: list[list[_NodeBuilder]] = []
    for sample in samples:
        siblings, path = roots, []
        for segment in sample.segments:
            branch = siblings.setdefault(segment.key, _NodeBuilder(segment))
            path.append(branch)
            siblings = branch.children
        paths.append(path)
    nodes: list[TreeNode] = []

    def place(branch: _NodeBuilder, parent: int, start: int) -> int:
        branch.index = index = len(nodes)
        nodes.append(TreeNode(branch.segment, parent, start, start))
        at = start + len(branch.segment.ids)
        for child in branch.children.values():
            at = place(child, index, at)
        nodes[index] = TreeNode(branch.segment, parent, start, at)
        return at

    at = 0
    for root in roots.values():
        at = place(root, -1, at)
    return PrefixTree(tuple(nodes), tuple(tuple(branch.index for branch in path) for path in paths))


@dataclass(frozen=True, slots=True)
class AttentionBlock:
    """A run of tokens with one subtree end, the unit in which attention over a tree is computed.

    Each token sees the tokens of its block up to itself, and all tokens of the ancestors.
    """

    start: int
    """Index of its first token."""
    stop: int
    """Index after its last token."""
    ancestors: tuple[int, ...]
    """Numbers of the earlier blocks on its path to the root, ascending."""


def attention_blocks(subtree_end: np.ndarray) -> tuple[AttentionBlock, ...]:
    """Cut a sequence of trees into blocks: maximal runs of tokens with equal `subtree_end` (length,)."""
    edges = [0, *(np.flatnonzero(np.diff(subtree_end)) + 1).tolist(), len(subtree_end)]
    blocks: list[AttentionBlock] = []
    path: list[tuple[int, int]] = []  # (number, end of subtree) of each block on the path to the current one
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        while path and path[-1][1] <= start:
            path.pop()
        blocks.append(AttentionBlock(start, stop, tuple(ancestor for ancestor, _ in path)))
        path.append((number, int(subtree_end[start])))
    return tuple(blocks)


@dataclass(frozen=True, slots=True)
class PathBlock:
    """A run of tokens of a prefix tree that the same samples read: a part of their paths that never branches.

    A sample reads the block if the last node of its path is one of [`first`, `last`).
    """

    start: int
    """Index of its first token."""
    stop: int
    """Index after its last token."""
    depth: int
    """Number of blocks before it on the path to the root."""
    first: int
    """Index of its first node."""
    last: int
    """Index after the last node of the subtree."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.stop - self.start


def path_blocks(tree: PrefixTree) -> tuple[PathBlock, ...]:
    """Cut a tree into blocks that are read as a whole or not at all, depth first."""
    ends = {path[-1] for path in tree.paths}
    children = [0] * len(tree.nodes)
    last = [number + 1 for number in range(len(tree.nodes))]
    for number in reversed(range(len(tree.nodes))):
        if (parent := tree.nodes[number].parent) >= 0:
            children[parent] += 1
            last[parent] = max(last[parent], last[number])
    blocks: list[PathBlock] = []
    block_of: list[int] = []
    for number, node in enumerate(tree.nodes):
        parent = node.parent
        if parent >= 0 and children[parent] == 1 and parent not in ends:
            block_of.append(block_of[parent])
            blocks[block_of[parent]] = replace(blocks[block_of[parent]], stop=node.stop)
        else:
            depth = blocks[block_of[parent]].depth + 1 if parent >= 0 else 0
            block_of.append(len(blocks))
            blocks.append(PathBlock(node.start, node.stop, depth, number, last[number]))
    return tuple(blocks)
