"""Choose items that are balanced over their answers and spread over their places."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Sequence


def choose_balanced(
    answers: Sequence[str],
    places: Sequence[Hashable],
    n: int,
    *,
    answer_order: Sequence[str],
    tie_order: Sequence[int],
    uses_per_answer: bool,
) -> list[int]:
    """Choose at most `n` items; returns their indices in the order in which they are chosen.

    Slots go to the answers in turn. Within an answer, a slot goes to the item whose place has been used least. An
    answer that runs out leaves its slots to the others.

    answers, places: answer and place of each item. answer_order: each distinct answer once, in the order of the turns.
    tie_order: the index of each item once; between places that are used equally often, the item that comes first here
    is chosen. uses_per_answer: count the uses of a place within each answer rather than over all answers.
    """
    queues: dict[str, list[tuple[int, int, int]]] = {answer: [] for answer in answer_order}
    for rank, item in enumerate(tie_order):
        queues[answers[item]].append((0, rank, item))  # appended in ascending order, so each queue is a heap
    used: Counter[Hashable] = Counter()

    def counted(item: int) -> Hashable:
        return (answers[item], places[item]) if uses_per_answer else places[item]

    chosen: list[int] = []
    turn = [answer for answer in answer_order if queues[answer]]
    while turn and len(chosen) < n:
        for answer in turn[: n - len(chosen)]:
            queue = queues[answer]
            # Uses only grow, so a stale head is put back with its true count until the head is up to date.
            while queue[0][0] < (uses := used[counted(queue[0][2])]):
                _, rank, item = queue[0]
                heapq.heapreplace(queue, (uses, rank, item))
            item = heapq.heappop(queue)[2]
            used[counted(item)] += 1
            chosen.append(item)
        turn = [answer for answer in turn if queues[answer]]
    return chosen
