"""The questions of a place in groups that stay together: what is shared stays whole, and groups are of like size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Part = tuple[int, range]
"""Tokens and questions of what stays together."""
NOTHING: Part = (0, range(0))
TOGETHER = 32
"""So many groups at a time are made alike: a place may have any number of questions."""


@dataclass(frozen=True)
class Grouping:
    """Cuts the questions of a place, sorted by path, in groups of at most `size`.

    Branches of their tree that fit into a group stay whole as far as that goes, and are dealt out, the largest first,
    each to the group whose tree is smallest. So the trees of a place's groups are of like size, and where every branch
    asks the same tasks so does every group.
    """

    agreeing: Sequence[int]
    """How many segments each question shares with the one before it; of the first it does not matter."""
    tokens: Sequence[Sequence[int]]
    """`tokens[question][depth]`: those of its segments from `depth` on; one entry more than segments, 0."""
    size: int

    def groups(self) -> list[list[int]]:
        """Positions of the questions, group by group, each ascending."""
        return list(self._groups(range(len(self.tokens))))

    def _groups(self, questions: range) -> Iterator[list[int]]:
        if len(questions) <= self.size:
            yield list(questions)
            return
        shared = min(self.agreeing[at] for at in questions[1:])
        small: list[Part] = []
        for branch in self._branches(questions, shared):
            if len(branch) > self.size:
                yield from self._groups(branch)
                continue
            small.append((self._cost(branch, shared), branch))
            if _length(small) >= TOGETHER * self.size:
                yield from self._deal(small)
                small = []
        yield from self._deal(small)

    def _branches(self, questions: range, shared: int) -> Iterator[range]:
        """The questions parted where they share no more than all of them do."""
        starts = [questions.start, *(at for at in questions[1:] if self.agreeing[at] == shared), questions.stop]
        return (range(start, stop) for start, stop in itertools.pairwise(starts))

    def _cost(self, branch: range, shared: int) -> int:
        """Tokens of a branch's tree beyond the first `shared` segments."""
        first, *others = branch
        return self.tokens[first][shared] + sum(self.tokens[at][self.agreeing[at]] for at in others)

    def _deal(self, branches: Sequence[Part]) -> list[list[int]]:
        count = math.ceil(_length(branches) / self.size)
        groups: list[list[Part]] = [[] for _ in range(count)]
        for cost, branch in sorted(branches, key=lambda entry: (-entry[0], entry[1].start)):
            left = branch
            while left:
                room = [self.size - _length(group) for group in groups]
                wanted = len(left) if max(room) >= len(left) else 1  # a branch is cut only where none has room for it
                open_ = [group for group, space in zip(groups, room, strict=True) if space >= wanted]
                least = min(open_, key=_load)
                taken, left = left[: self.size - _length(least)], left[self.size - _length(least) :]
                least.append((cost * len(taken) // len(branch), taken))
        for _ in branches:
            if not self._exchange(max(groups, key=_load), min(groups, key=_load)):
                break
        return [sorted(at for _, part in group for at in part) for group in groups]

    def _exchange(self, large: list[Part], small: list[Part]) -> bool:
        """Make two groups more alike: exchange up to two parts of each. False where that is not to be had."""
        gap = _load(large) - _load(small)
        some, others = _few(large), _few(small)
        cost, length = (
            np.array([count(few) for few in some])[:, None] - np.array([count(few) for few in others])
            for count in (_load, _length)
        )
        fits = (length <= self.size - _length(small)) & (-length <= self.size - _length(large))
        left = np.where(fits, np.abs(gap - 2 * cost), gap)
        best = int(left.argmin())
        if left.flat[best] >= gap:
            return False
        given, got = some[best // len(others)], others[best % len(others)]
        large[:] = [part for part in large if part not in given] + got
        small[:] = [part for part in small if part not in got] + given
        return True


def _few(group: Sequence[Part]) -> list[list[Part]]:
    """Every choice of up to two parts."""
    return [list(few) for count in (0, 1, 2) for few in itertools.combinations(group, count)]


def _length(group: Sequence[Part]) -> int:
    return sum(len(part) for _, part in group)


def _load(group: Sequence[Part]) -> int:
    return sum(cost for cost, _ in group)
