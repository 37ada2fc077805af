"""Choose a small, balanced subset of a benchmark that does not depend on the order of its file."""

from __future__ import annotations

from collections.abc import Sequence

from geotune.data.balance import choose_balanced
from geotune.sample import Sample
from geotune.system.digests import digest64


def balanced_subset(samples: Sequence[Sample], n: int, seed: int, *, balance: bool = True) -> list[Sample]:
    """Choose at most `n` samples, balanced over gold answers (with `balance`) and spread over places, sorted by id.

    Slots go to the gold answers in turn. Each slot takes a sample whose place has been used least so far. Ties are
    broken by a digest of the seed and the sample's id, so that the choice does not depend on the order of `samples`,
    and adding or removing a sample changes little elsewhere. A gold answer that runs out leaves its slots to the
    others.
    """
    answers = [sample.answer if balance else "" for sample in samples]
    chosen = choose_balanced(
        answers,
        [sample.place for sample in samples],
        n,
        answer_order=sorted(dict.fromkeys(answers), key=lambda answer: _digest(seed, answer)),
        tie_order=sorted(range(len(samples)), key=lambda index: _digest(seed, samples[index].id)),
        uses_per_answer=False,
    )
    return sorted((samples[index] for index in chosen), key=lambda sample: sample.id)


def _digest(seed: int, text: str) -> bytes:
    """Eight bytes that order texts pseudo-randomly."""
    return digest64(f"{seed}/{text}").to_bytes(8, "little")
