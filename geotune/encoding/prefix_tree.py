"""The prefix tree: what samples have in common from their beginning on is read once.

A ground view, its maps and crops serve up to 39 questions; the completions of one prompt share all of it. Samples are
paths of segments (`geotune.encoding.segments.Encoded`); those that begin with the same segments share a branch. The
tree is written as one sequence without padding, depth first, and every token sees its own segment up to itself and
the segments on its path to the root. Positions go on along the path, so each branch sees what it would see alone:
logits, losses and gradients are those of the separate sequences, up to rounding.

Depth first, the tokens below a node stand together behind it. So one number per token says all about who sees it:
`subtree_end`, where the part of the tree below it ends; token q sees token k where k <= q < subtree_end[k].
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from geotune.encoding.encoder import Encoder
    from geotune.encoding.segments import Encoded, Segment


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A segment that the samples below it share."""

    segment: Segment
    parent: int
    """Index of the node before it on its paths; -1 for none."""
    start: int
    """Where its first token stands in the sequence."""
    subtree_end: int
    """Where the last token below it (or of its own) ends."""

    @property
    def stop(self) -> int:
        """Where its own tokens end."""
        return self.start + len(self.segment.ids)


@dataclass(frozen=True)
class PrefixTree:
    """Samples as one sequence of segments."""

    nodes: tuple[TreeNode, ...]
    """Depth first: a node stands behind its parent, and what is below it directly behind it."""
    paths: tuple[tuple[int, ...], ...]
    """The nodes of each sample, from the root."""

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return max((node.subtree_end for node in self.nodes), default=0)

    def ids(self) -> np.ndarray:
        """Token ids, int64 (length,)."""
        return np.concatenate([np.asarray(node.segment.ids, dtype=np.int64) for node in self.nodes])

    def subtree_end(self) -> np.ndarray:
        """For each token, the first one behind it that no longer sees it, int64 (length,)."""
        return np.repeat([node.subtree_end for node in self.nodes], [len(node.segment.ids) for node in self.nodes])

    def positions(self, encoder: Encoder) -> np.ndarray:
        """Position ids along each path, int64 (axes, length)."""
        columns: list[np.ndarray] = []
        after: list[int] = []
        for node in self.nodes:
            own, span = encoder.positions(node.segment)
            start = after[node.parent] if node.parent >= 0 else 0
            columns.append(own + start)
            after.append(start + span)
        return np.concatenate(columns, axis=1)


@dataclass(slots=True)
class _Branch:
    segment: Segment
    below: dict[Hashable, _Branch] = field(default_factory=dict)
    number: int = -1


def build_tree(samples: Sequence[Encoded]) -> PrefixTree:
    """The tree of `samples`, branches in the order in which they first appear."""
    roots: dict[Hashable, _Branch] = {}
    paths: list[list[_Branch]] = []
    for sample in samples:
        below, path = roots, []
        for segment in sample.segments:
            branch = below.setdefault(segment.key, _Branch(segment))
            path.append(branch)
            below = branch.below
        paths.append(path)
    nodes: list[TreeNode] = []

    def place(branch: _Branch, parent: int, start: int) -> int:
        branch.number = number = len(nodes)
        nodes.append(TreeNode(branch.segment, parent, start, start))
        at = start + len(branch.segment.ids)
        for child in branch.below.values():
            at = place(child, number, at)
        nodes[number] = TreeNode(branch.segment, parent, start, at)
        return at

    at = 0
    for root in roots.values():
        at = place(root, -1, at)
    return PrefixTree(tuple(nodes), tuple(tuple(branch.number for branch in path) for path in paths))


def tree_tokens(paths: Iterable[Sequence[int]], sizes: np.ndarray) -> int:
    """Tokens of the tree of `paths`, each a list of segment numbers; `sizes` (segments,) are their tokens.

    The slow twin of `TreePlan.cost`.
    """
    seen: set[tuple[int, ...]] = set()
    total = 0
    for path in paths:
        prefix: tuple[int, ...] = ()
        for segment in path:
            prefix = (*prefix, segment)
            if prefix not in seen:
                seen.add(prefix)
                total += int(sizes[segment])
    return total


@dataclass(frozen=True, slots=True)
class AttentionBlock:
    """Consecutive tokens of which each sees those before it, and what all of them see before the block."""

    start: int
    stop: int
    seen: tuple[int, ...]
    """Numbers of the earlier blocks that it sees, ascending."""


def attention_blocks(subtree_end: np.ndarray) -> tuple[AttentionBlock, ...]:
    """The blocks of a sequence of trees, from `subtree_end` (length,): runs of tokens that are seen equally far."""
    edges = [0, *(np.flatnonzero(np.diff(subtree_end)) + 1).tolist(), len(subtree_end)]
    blocks: list[AttentionBlock] = []
    open_: list[tuple[int, int]] = []
    """Numbers of the blocks that are on the path, with their ends."""
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        while open_ and open_[-1][1] <= start:
            open_.pop()
        blocks.append(AttentionBlock(start, stop, tuple(earlier for earlier, _ in open_)))
        open_.append((number, int(subtree_end[start])))
    return tuple(blocks)


def dense_mask(subtree_end: np.ndarray) -> np.ndarray:
    """Boolean (length, length): row q may see column k. The slow twin of `attention_blocks`."""
    at = np.arange(len(subtree_end))
    return (at[None, :] <= at[:, None]) & (at[:, None] < subtree_end[None, :])
