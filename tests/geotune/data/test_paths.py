"""Paths in flat arrays, and the helpers on them."""

from __future__ import annotations

import numpy as np

from geotune.data.paths import Paths, number_by_appearance, shared_prefix_lengths


def test_flat_paths_are_the_paths() -> None:
    lists = [(3, 1), (), (5,), (0, 1, 2)]
    paths = Paths.of(lists)
    assert list(paths) == lists
    assert paths.padded().tolist() == [[3, 1, -1], [-1, -1, -1], [5, -1, -1], [0, 1, 2]]


def test_shared_prefix_lengths_stop_at_padding() -> None:
    rows = np.array([[3, 1, -1], [3, 1, -1], [3, 2, 4], [3, 2, 4], [-1, -1, -1], [-1, -1, -1]])
    assert shared_prefix_lengths(rows).tolist() == [0, 2, 1, 3, 0, 0]


def test_numbers_follow_first_appearance() -> None:
    number, first = number_by_appearance(np.array([70, 5, 70, 9, 5]))
    assert (number.tolist(), first.tolist()) == ([0, 1, 0, 2, 1], [0, 1, 3])
    assert number.dtype == np.int32
