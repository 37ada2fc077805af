"""Seeded draws that leave no shortcut to the answers of a dataset.

Labels are spread evenly over items, maps of other places are used equally often, and a choice of questions is balanced
over answers and places.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from geotune.data.balance import choose_balanced


def generator(seed: int, *names: str) -> Generator:
    """Return a random generator for the purpose that `names` give, independent of the draws for other purposes."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def spread_labels(groups: Sequence[Hashable], n_labels: int, rng: Generator) -> list[int]:
    """Draw a label in range(n_labels) for each item so that labels are equally frequent overall and within each group.

    groups: the group of each item (the place that a question asks about). If the size of a group is not a multiple of
    `n_labels`, the next group continues with the labels that are left over.
    """
    members: dict[Hashable, list[int]] = {}
    for item, group in enumerate(groups):
        members.setdefault(group, []).append(item)
    labels = [0] * len(groups)
    deck: list[int] = []
    for items in members.values():
        while len(deck) < len(items):
            deck.extend(rng.permutation(n_labels).tolist())
        hand, deck = deck[: len(items)], deck[len(items) :]
        for item, label in zip(items, rng.permutation(hand).tolist(), strict=True):
            labels[item] = label
    return labels


def draw_others(
    own: Sequence[int], count: int, n_maps: int, others: Callable[[int], NDArray[np.intp]], rng: Generator
) -> list[list[int] | None]:
    """Draw `count` distinct maps of other places for each item, using all maps about equally often.

    If some maps were drawn more often than others, their frequency would show that they are not the true map.

    own: the own map of each item, in range(n_maps). others: returns the numbers of the maps that may be shown beside
    the given map. The result holds None for an item with fewer than `count` such maps.
    """
    used = np.zeros(n_maps, np.int64)
    drawn: list[list[int] | None] = []
    for mine in own:
        candidates = others(mine)
        if len(candidates) < count:
            drawn.append(None)
            continue
        order = np.lexsort((rng.random(len(candidates)), used[candidates]))
        chosen = candidates[order[:count]]
        used[chosen] += 1
        drawn.append(chosen.tolist())
    return drawn


def balanced_choice(answers: Sequence[str], places: Sequence[Hashable], n: int, rng: Generator) -> list[int]:
    """Choose at most `n` items, balanced over answers and spread over places; returns their indices in ascending order.

    Slots go to the answers in turn, in random order. Within an answer, a slot goes to an item whose place the answer
    has used least, and ties are broken at random. An answer that runs out leaves its slots to the others.
    """
    items: dict[str, list[int]] = {answer: [] for answer in sorted(set(answers))}
    for item, answer in enumerate(answers):
        items[answer].append(item)
    tie_order = [item for same_answer in items.values() for item in rng.permutation(same_answer).tolist()]
    answer_order = rng.permutation(list(items)).tolist()
    return sorted(
        choose_balanced(answers, places, n, answer_order=answer_order, tie_order=tie_order, uses_per_answer=True)
    )
