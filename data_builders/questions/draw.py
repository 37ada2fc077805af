"""Seeded draws that leave no shortcut: labels that are spread evenly, and other places' maps that are used evenly."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray


def generator(seed: int, *names: str) -> Generator:
    """A generator that depends on the seed and on what it is for, so that one draw does not move another."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def spread_labels(groups: Sequence[Hashable], n_labels: int, rng: Generator) -> list[int]:
    """One label in range(n_labels) for each item, in random order, equally often overall and within each group.

    groups: the group of each item (the place that a question asks about). Where a group's size is no multiple of
    `n_labels`, the next group continues with the labels that are due.
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
    own: Sequence[int], count: int, n_maps: int, allowed: Callable[[int], NDArray[np.bool_]], rng: Generator
) -> list[list[int] | None]:
    """For each item, `count` distinct maps of other places, every map about as often as any other.

    A map that were drawn more often than others would tell that it is not the true one.

    own: the item's own map, in range(n_maps). allowed: the maps (n_maps,) that may stand beside a given one.
    None for an item that has too few.
    """
    return draw_among(own, count, n_maps, lambda mine: np.flatnonzero(allowed(mine)), rng)


def draw_among(
    own: Sequence[int], count: int, n_maps: int, others: Callable[[int], NDArray[np.intp]], rng: Generator
) -> list[list[int] | None]:
    """`draw_others` where the maps that may stand beside a given one are known by their numbers: `others(own)`."""
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
    """At most `n` items, even over their answers and spread over places, in the order of the items.

    Slots go to the answers in turn, and within an answer to the places that it has used least. An answer that runs out
    leaves its slots to the others.
    """
    queues: dict[str, list[int]] = {}
    for answer in sorted(set(answers)):
        items = [item for item, said in enumerate(answers) if said == answer]
        seen: dict[Hashable, int] = {}
        ranked: list[tuple[int, int, int]] = []
        for item in rng.permutation(items).tolist():
            seen[places[item]] = seen.get(places[item], -1) + 1
            ranked.append((seen[places[item]], len(ranked), item))
        queues[answer] = [item for _, _, item in sorted(ranked, reverse=True)]
    chosen: list[int] = []
    turn = rng.permutation(list(queues)).tolist()
    while turn and len(chosen) < n:
        chosen += [queues[answer].pop() for answer in turn[: n - len(chosen)]]
        turn = [answer for answer in turn if queues[answer]]
    return sorted(chosen)
