"""The questions of a place in groups that stay together: what is shared stays whole, and groups are of like size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BALANCED_AT_ONCE = 32
"""So many groups at a time are made alike: a place may have any number of questions."""
EXCHANGEABLE = 16
"""So many parts of a group are thought of as ones to exchange."""


@dataclass(frozen=True)
class Grouping:
    """Cuts the questions of a place, sorted by path, in groups of at most `size`.

    Branches of their tree that fit into a group stay whole as far as that goes, and are dealt out, the largest first,
    each to the group whose tree is smallest; then groups exchange branches until they are of like size.
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
        small = _Group()
        for branch in self._branches(questions, shared):
            if len(branch) > self.size:
                yield from self._groups(branch)
                continue
            small.add(Part(self._cost(branch, shared), branch))
            if small.questions >= BALANCED_AT_ONCE * self.size:
                yield from self._deal(small)
                small = _Group()
        yield from self._deal(small)

    def _branches(self, questions: range, shared: int) -> Iterator[range]:
        """The questions parted where they share no more than all of them do."""
        starts = [questions.start, *(at for at in questions[1:] if self.agreeing[at] == shared), questions.stop]
        return (range(start, stop) for start, stop in itertools.pairwise(starts))

    def _cost(self, branch: range, shared: int) -> int:
        """Tokens of a branch's tree beyond the first `shared` segments."""
        first, *others = branch
        return self.tokens[first][shared] + sum(self.tokens[at][self.agreeing[at]] for at in others)

    def _deal(self, branches: _Group) -> Iterator[list[int]]:
        groups = [_Group() for _ in range(math.ceil(branches.questions / self.size))]
        for part in sorted(branches.parts, key=lambda part: (-part.tokens, part.questions.start)):
            left = part.questions
            while left:
                room = [self.size - group.questions for group in groups]
                wanted = len(left) if max(room) >= len(left) else 1  # a branch is cut only where none has room for it
                least = min(
                    (group for group, space in zip(groups, room, strict=True) if space >= wanted),
                    key=lambda group: group.tokens,
                )
                taken, left = left[: self.size - least.questions], left[self.size - least.questions :]
                least.add(Part(part.tokens * len(taken) // len(part.questions), taken))
        for _ in branches.parts:
            large, small = (choose(groups, key=lambda group: group.tokens) for choose in (max, min))
            if not self._exchange(large, small):
                break
        return (sorted(at for part in group.parts for at in part.questions) for group in groups)

    def _exchange(self, large: _Group, small: _Group) -> bool:
        """Make two groups more alike: exchange up to two parts of each. False where that is not to be had."""
        gap = large.tokens - small.tokens
        some, others = large.few(), small.few()
        tokens, length = (
            np.array([count(few) for few in some])[:, None] - np.array([count(few) for few in others])
            for count in (_tokens, _questions)
        )
        fits = (length <= self.size - small.questions) & (-length <= self.size - large.questions)
        left = np.where(fits, np.abs(gap - 2 * tokens), gap)
        best = int(left.argmin())
        if left.flat[best] >= gap:
            return False
        given, got = some[best // len(others)], others[best % len(others)]
        large.swap(given, got)
        small.swap(got, given)
        return True


class Part(NamedTuple):
    """What stays together."""

    tokens: int
    questions: range


class _Group:
    """Parts, with their sums."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.tokens = self.questions = 0

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.tokens += part.tokens
        self.questions += len(part.questions)

    def swap(self, given: Sequence[Part], got: Sequence[Part]) -> None:
        """Part with some and take others."""
        self.parts = [part for part in self.parts if part not in given] + list(got)
        self.tokens += _tokens(got) - _tokens(given)
        self.questions += _questions(got) - _questions(given)

    def few(self) -> list[tuple[Part, ...]]:
        """Every choice of up to two parts; of many, among the largest and the smallest."""
        parts = sorted(self.parts, key=lambda part: (part.tokens, part.questions.start))
        some = parts if len(parts) <= EXCHANGEABLE else parts[: EXCHANGEABLE // 2] + parts[-EXCHANGEABLE // 2 :]
        return [few for count in (0, 1, 2) for few in itertools.combinations(some, count)]


def _tokens(parts: Sequence[Part]) -> int:
    return sum(part.tokens for part in parts)


def _questions(parts: Sequence[Part]) -> int:
    return sum(len(part.questions) for part in parts)
