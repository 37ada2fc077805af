"""A small, fair part of a benchmark: the same one whatever the order of the file."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence

from geotune.sample import Sample


def balanced_subset(samples: Sequence[Sample], n: int, seed: int, *, balance: bool = True) -> list[Sample]:
    """At most `n` samples, even over gold answers (with `balance`) and spread over places, sorted by id.

    Slots go to the gold answers in turn; each takes the sample whose place has been used least so far. Ties fall to a
    digest of seed and id, so the choice does not depend on the order of `samples`, and a sample that is added or lost
    elsewhere changes little. A gold answer that runs out leaves its slots to the others.
    """
    queues: dict[str, list[tuple[int, bytes, int]]] = defaultdict(list)
    for index, sample in enumerate(samples):
        queues[sample.answer if balance else ""].append((0, _digest(seed, sample.id), index))
    for queue in queues.values():
        heapq.heapify(queue)
    turn = sorted(queues, key=lambda gold: _digest(seed, gold))
    used: Counter[str] = Counter()
    chosen: list[Sample] = []
    while turn and len(chosen) < n:
        for gold in turn[: n - len(chosen)]:
            queue = queues[gold]
            # Uses only grow, so a stale head can be put back with its true count until the head is fresh.
            while queue[0][0] < used[samples[queue[0][2]].place]:
                _, digest, index = queue[0]
                heapq.heapreplace(queue, (used[samples[index].place], digest, index))
            sample = samples[heapq.heappop(queue)[2]]
            used[sample.place] += 1
            chosen.append(sample)
        turn = [gold for gold in turn if queues[gold]]
    return sorted(chosen, key=lambda sample: sample.id)


def _digest(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=8).digest()
