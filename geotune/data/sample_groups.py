"""All samples as one prefix tree: cut into groups that stay together, with the cost of the tree of any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geotune.data.grouping import Grouping
from geotune.data.paths import Paths, shared_prefix_lengths

SampleSpan = tuple[int, int]
"""Samples of one group that are neighbors: the positions from (first) up to (second) in `SampleGroups.order`."""


class SampleGroups:
    """The samples in an order in which the members of a group are neighbors, and what their trees cost.

    The samples of a place with more than `group_size` of them are cut into groups along the branches of their tree
    (`Grouping`); the samples of any other place are one group. Within a group, samples are sorted by path.

    The cost of some samples is the number of tokens and of images of their prefix tree. A token counts as often as the
    tree holds it; an image counts once, because the vision tower encodes each distinct image of a batch once.

    Everything is kept in arrays of a few bytes per sample, since a run may have millions of them.
    """

    order: np.ndarray
    """The samples by place and group: int (samples,)."""
    starts: np.ndarray
    """Where each group starts in `order`, and where the last one ends: int (groups + 1,)."""

    def __init__(
        self,
        paths: Paths,
        sizes: np.ndarray,
        is_image: np.ndarray,
        places: Sequence[str] | np.ndarray,
        group_size: int,
    ) -> None:
        self._sizes = np.asarray(sizes)
        self._is_image = np.asarray(is_image)
        rows = paths.padded()
        by_path = np.lexsort(rows.T[::-1]) if rows.shape[1] else np.arange(len(rows))
        nodes = self._number_nodes(rows, by_path)
        self._cut_into_groups(rows, by_path, places, group_size)
        self._add_up_costs(rows[self.order])
        self._flatten(rows[self.order], nodes[self.order])

    def _number_nodes(self, rows: np.ndarray, by_path: np.ndarray) -> np.ndarray:
        """Number the nodes of the tree of all samples, and note the tokens of each.

        Two samples share a node if their paths are equal up to it. `rows` holds the padded paths; `by_path` sorts them.
        Returns the nodes of each sample, in the shape of `rows`.
        """
        ordered = rows[by_path]
        is_new = np.arange(rows.shape[1]) >= shared_prefix_lengths(ordered)[:, None]
        is_new &= ordered >= 0
        numbers = np.cumsum(is_new, dtype=np.int32).reshape(is_new.shape) - 1
        self._node_tokens = self._sizes[ordered[is_new]]
        # Where a path shares a node with the path before it, the running maximum repeats the number of that node.
        nodes = np.empty_like(rows)
        nodes[by_path] = np.maximum.accumulate(np.where(is_new, numbers, -1), axis=0)
        return nodes

    def _cut_into_groups(
        self, rows: np.ndarray, by_path: np.ndarray, places: Sequence[str] | np.ndarray, group_size: int
    ) -> None:
        """Sort the samples by place, in the order in which places appear, and by path; cut large places into groups."""
        rank = np.empty(len(rows), np.int64)
        rank[by_path] = np.arange(len(rows))
        _, first, place = np.unique(np.asarray(places), return_index=True, return_inverse=True)
        place = first[place]
        order = np.lexsort((rank, place))
        place_ends = np.append(np.flatnonzero(np.diff(place[order])) + 1, len(order))
        place_starts = np.concatenate([[0], place_ends[:-1]])
        group_sizes = [np.array([count]) for count in place_ends - place_starts]
        for number in np.flatnonzero(place_ends - place_starts > group_size):
            members = slice(place_starts[number], place_ends[number])
            paths = rows[order[members]]
            tokens = np.cumsum(self._tokens(paths)[:, ::-1], axis=1)[:, ::-1]
            tokens = np.pad(tokens, ((0, 0), (0, 1))).tolist()
            groups = Grouping(shared_prefix_lengths(paths).tolist(), tokens, group_size).groups()
            order[members] = order[members][np.concatenate(groups)]
            group_sizes[number] = np.array([len(group) for group in groups])
        self.order = order
        self.starts = np.concatenate([[0], np.cumsum(np.concatenate(group_sizes))])

    def _add_up_costs(self, ordered: np.ndarray) -> None:
        """Prepare `span_cost`; `ordered` holds the padded paths in the order of the samples.

        The tree of a span consists of its first sample and of what each further sample adds to the sample before it.
        With a running sum of these additions, the cost of any span is a difference.
        """
        tokens = self._tokens(ordered)
        images = np.where(ordered >= 0, self._is_image[ordered], False)
        is_new = np.arange(ordered.shape[1]) >= shared_prefix_lengths(ordered)[:, None]
        self._cost_alone = np.stack([tokens.sum(axis=1), images.sum(axis=1)])
        added = np.stack([(tokens * is_new).sum(axis=1), (images * is_new).sum(axis=1)])
        self._added_before = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(added, axis=1)], axis=1)

    def _tokens(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens of each segment of padded paths, 0 for padding."""
        return np.where(rows >= 0, self._sizes[rows], 0)

    def _flatten(self, ordered: np.ndarray, nodes: np.ndarray) -> None:
        """Store segments and nodes one sample after the other, so that those of a span are one slice."""
        present = ordered >= 0
        self._segments, self._nodes = ordered[present], nodes[present]
        self._segment_starts = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        self._position = np.empty(len(ordered), np.int64)
        self._position[self.order] = np.arange(len(ordered))

    def span(self, group: int) -> SampleSpan:
        """Return the samples of a group."""
        return int(self.starts[group]), int(self.starts[group + 1])

    def samples(self, span: SampleSpan) -> list[int]:
        """Return the indices of the samples of a span."""
        return list(self.order[span[0] : span[1]].tolist())

    def cost(self, samples: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Return the tokens and the images of the tree of samples, given by index."""
        return self.cost_of_spans([(at, at + 1) for at in self._position[np.asarray(samples)].tolist()])

    def cost_of_spans(self, spans: Sequence[SampleSpan]) -> tuple[int, int]:
        """Return the tokens and the images of the tree of several spans together."""
        slices = [slice(self._segment_starts[start], self._segment_starts[stop]) for start, stop in spans]
        nodes = np.unique(np.concatenate([self._nodes[part] for part in slices]))
        segments = np.unique(np.concatenate([self._segments[part] for part in slices]))
        return int(self._node_tokens[nodes].sum()), int(self._is_image[segments].sum())

    def span_cost(self, span: SampleSpan) -> np.ndarray:
        """Return the tokens and the images of the tree of one span: (2,).

        An image that appears in two branches counts twice, so the second number is an upper bound.
        """
        start, stop = span
        return self._cost_alone[:, start] + self._added_before[:, stop] - self._added_before[:, start + 1]

    def tokens_alone(self, samples: np.ndarray) -> int:
        """Return the sum of the tokens of samples, given by index, without any sharing."""
        return int(self._cost_alone[0, self._position[samples]].sum())

    def exceeding(self, max_tokens: float, max_images: float) -> list[int]:
        """Return the samples that exceed a limit by themselves, by index, ascending."""
        tokens, images = self._cost_alone
        suspects = np.sort(self.order[(tokens > max_tokens) | (images > max_images)]).tolist()
        # An image that a sample shows twice was counted twice.
        return [sample for sample in suspects if np.greater(self.cost([sample]), (max_tokens, max_images)).any()]
