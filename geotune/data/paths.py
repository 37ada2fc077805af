"""Paths of segments, many of them, in two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class Paths(Sequence[tuple[int, ...]]):
    """Each sample as numbers of its segments; an item is one sample's."""

    def __init__(self, starts: np.ndarray, segments: np.ndarray) -> None:
        self.starts = starts
        """Where each path begins in `segments`, and where the last ends: int64 (samples + 1,)."""
        self.segments = segments
        """The paths one after the other, int32."""

    @classmethod
    def of(cls, paths: Iterable[Sequence[int]]) -> Paths:
        """The same paths, flat."""
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
        """Segments of each path."""
        return np.diff(self.starts)

    def padded(self) -> np.ndarray:
        """One row per path, int32 (samples, longest), -1 behind its end."""
        lengths = self.lengths
        rows = np.full((len(self), int(lengths.max(initial=0))), -1, np.int32)
        rows[np.arange(rows.shape[1]) < lengths[:, None]] = self.segments
        return rows
