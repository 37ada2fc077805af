"""Cuts the questions about one place into groups that stay together in a micro-batch.

The questions of a group share their images, so a group should consist of whole branches of the place's prefix tree:
each branch that is split over two groups is computed twice. The groups' trees should also have similar sizes, because
micro-batches are built from groups and ranks wait for the largest micro-batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BALANCED_AT_ONCE = 32
"""Number of groups that are balanced at a time; it bounds the work for a place with many questions."""
EXCHANGEABLE = 16
"""Number of branches of a group that are considered for an exchange with another group."""


@dataclass(frozen=True)
class Grouping:
    """Cuts the questions about one place, sorted by path, into groups of at most `size` questions.

    1. The tree is cut into branches of at most `size` questions, as close to the root as possible.
    2. The branches are assigned to groups, the largest (in tokens) first, each to the group with the fewest tokens
       among those with room for all of it. Only if no group has room for a branch is the branch split.
    3. The largest and the smallest group exchange branches until no exchange narrows the gap between them.

    The result depends on the arguments alone.
    """

    shared: Sequence[int]
    """Number of first segments that each question shares with the question before it; the first entry is not used."""
    tokens: Sequence[Sequence[int]]
    """`tokens[question][depth]`: tokens of the question's segments from `depth` on; the last entry of each is 0."""
    size: int
    """Largest number of questions in a group."""

    def groups(self) -> list[list[int]]:
        """Return the groups, each as ascending positions of its questions."""
        return list(self._groups_of(range(len(self.tokens))))

    def _groups_of(self, questions: range) -> Iterator[list[int]]:
        if len(questions) <= self.size:
            yield list(questions)
            return
        depth = min(self.shared[at] for at in questions[1:])
        waiting = _Group()
        for branch in self._branches(questions, depth):
            if len(branch) > self.size:
                yield from self._groups_of(branch)
                continue
            waiting.add(_Branch(self._tree_tokens(branch, depth), branch))
            if waiting.questions >= BALANCED_AT_ONCE * self.size:
                yield from self._balanced_groups(waiting)
                waiting = _Group()
        yield from self._balanced_groups(waiting)

    def _branches(self, questions: range, depth: int) -> Iterator[range]:
        """Cut questions that all share their first `depth` segments wherever neighbors share no more than that."""
        starts = [questions.start, *(at for at in questions[1:] if self.shared[at] == depth), questions.stop]
        return (range(start, stop) for start, stop in itertools.pairwise(starts))

    def _tree_tokens(self, branch: range, depth: int) -> int:
        """Return the tokens of a branch's tree, without the first `depth` segments."""
        first, *others = branch
        return self.tokens[first][depth] + sum(self.tokens[at][self.shared[at]] for at in others)

    def _balanced_groups(self, pool: _Group) -> Iterator[list[int]]:
        """Distribute the branches of `pool` over as few groups as can hold them, with trees of similar sizes."""
        groups = self._filled_groups(pool)
        for _ in pool.branches:
            largest, smallest = (choose(groups, key=lambda group: group.tokens) for choose in (max, min))
            if not self._exchange(largest, smallest):
                break
        return (sorted(at for branch in group.branches for at in branch.questions) for group in groups)

    def _filled_groups(self, pool: _Group) -> list[_Group]:
        """Assign each branch of `pool`, the largest first, to the group with the fewest tokens that has room for it."""
        groups = [_Group() for _ in range(math.ceil(pool.questions / self.size))]
        for branch in sorted(pool.branches, key=lambda branch: (-branch.tokens, branch.questions.start)):
            left = branch.questions
            while left:
                room = [self.size - group.questions for group in groups]
                needed = len(left) if max(room) >= len(left) else 1  # no group has room for all: split the branch
                target = min(
                    (group for group, space in zip(groups, room, strict=True) if space >= needed),
                    key=lambda group: group.tokens,
                )
                space = self.size - target.questions
                taken, left = left[:space], left[space:]
                target.add(_Branch(branch.tokens * len(taken) // len(branch.questions), taken))
        return groups

    def _exchange(self, large: _Group, small: _Group) -> bool:
        """Exchange up to two branches of each group for the smallest possible gap between their tokens.

        Returns False, and exchanges nothing, if no exchange narrows the gap.
        """
        gap = large.tokens - small.tokens
        offers, returns = large.choices(), small.choices()
        tokens, questions = (
            np.array([count(choice) for choice in offers])[:, None] - np.array([count(choice) for choice in returns])
            for count in (_tokens, _questions)
        )
        fits = (questions <= self.size - small.questions) & (-questions <= self.size - large.questions)
        remaining_gap = np.where(fits, np.abs(gap - 2 * tokens), gap)
        best = int(remaining_gap.argmin())
        if remaining_gap.flat[best] >= gap:
            return False
        given, taken = offers[best // len(returns)], returns[best % len(returns)]
        large.replace(given, taken)
        small.replace(taken, given)
        return True


class _Branch(NamedTuple):
    """Questions of one branch of the tree, or of a part of a branch that was split."""

    tokens: int
    """Tokens of their tree, without what all branches share; a part of a branch has its share of them."""
    questions: range


class _Group:
    """A collection of branches with the sums of their tokens and questions."""

    def __init__(self) -> None:
        self.branches: list[_Branch] = []
        self.tokens = self.questions = 0

    def add(self, branch: _Branch) -> None:
        self.branches.append(branch)
        self.tokens += branch.tokens
        self.questions += len(branch.questions)

    def replace(self, old: Sequence[_Branch], new: Sequence[_Branch]) -> None:
        """Remove the branches `old` and add the branches `new`."""
        self.branches = [branch for branch in self.branches if branch not in old] + list(new)
        self.tokens += _tokens(new) - _tokens(old)
        self.questions += _questions(new) - _questions(old)

    def choices(self) -> list[tuple[_Branch, ...]]:
        """Return every choice of up to two branches; in a large group, only among its largest and smallest branches."""
        branches = sorted(self.branches, key=lambda branch: (branch.tokens, branch.questions.start))
        if len(branches) > EXCHANGEABLE:
            branches = branches[: EXCHANGEABLE // 2] + branches[-EXCHANGEABLE // 2 :]
        return [choice for count in (0, 1, 2) for choice in itertools.combinations(branches, count)]


def _tokens(branches: Sequence[_Branch]) -> int:
    return sum(branch.tokens for branch in branches)


def _questions(branches: Sequence[_Branch]) -> int:
    return sum(len(branch.questions) for branch in branches)
