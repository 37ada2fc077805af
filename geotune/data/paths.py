"""The paths of all samples through the segments that they consist of, stored in two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class Paths(Sequence[tuple[int, ...]]):
    """A sequence with one path per sample: the numbers of the sample's segments, from the first to the last.

    Segments with the same content have the same number, so samples that begin alike have paths that begin alike.
    """

    def __init__(self, starts: np.ndarray, segments: np.ndarray) -> None:
        self.starts = starts
        """Where each path begins in `segments`, and where the last one ends: int64 (samples + 1,)."""
        self.segments = segments
        """All paths one after the other: int32."""

    @classmethod
    def of(cls, paths: Iterable[Sequence[int]]) -> Paths:
        """Return `paths` in flat form."""
        if isinstance(paths, cls):
            return paths
        lists = list(paths)
        starts = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        return cls(starts, np.fromiter((segment for path in lists for segment in path), np.int32, int(starts[-1])))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> tuple[int, ...]:  # type: ignore[override]  # never sliced
        return tuple(self.segments[self.starts[index] : self.starts[index + 1]].tolist())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """Number of segments of each path: (samples,)."""
        return np.diff(self.starts)

    def padded(self) -> np.ndarray:
        """Return one row per path, padded with -1 at its end: int32 (samples, longest path)."""
        lengths = self.lengths
        rows = np.full((len(self), int(lengths.max(initial=0))), -1, np.int32)
        rows[np.arange(rows.shape[1]) < lengths[:, None]] = self.segments
        return rows


def shared_prefix_lengths(rows: np.ndarray) -> np.ndarray:
    """Return how many first values each row shares with the row before it, 0 for the first row: (rows,).

    `rows` is (rows, columns), padded with -1; padding counts as no value.
    """
    same = np.zeros(rows.shape, bool)
    same[1:] = (rows[1:] == rows[:-1]) & (rows[1:] >= 0)
    return np.logical_and.accumulate(same, axis=1).sum(axis=1)


def number_by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct `values` (N,) in the order in which they first appear.

    Returns:
        The number of each value, int32 (N,), and the positions at which the distinct values first appear, ascending.
    """
    distinct, first, code = np.unique(values, return_index=True, return_inverse=True)
    number = np.empty(len(distinct), np.int32)
    number[np.argsort(first)] = np.arange(len(distinct), dtype=np.int32)
    return number[code], np.sort(first)
