"""The interface of an answerer, which turns samples into outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from geotune.runs.outcomes import Outcome
from geotune.sample import Sample

BATCHES_PER_CALL = 8
"""Number of batches of questions that a local backbone is given together, so that it can group similar questions."""


class Answerer(Protocol):
    """Answers questions: samples that end with the user's turn, hold no gold answer, and have absolute image paths.

    Both methods yield outcomes as they come, one for each question, in any order, each with the id of its question. A
    question that could not be answered has an outcome too, with the status `failed` or `refused` and a reason.
    """

    @property
    def can_score(self) -> bool:
        """Whether `score_options` is supported, which needs log-probabilities of given texts."""
        ...

    def generate(self, questions: Sequence[Sample], max_new_tokens: int) -> Iterator[Outcome]:
        """Yield outcomes with texts, decoded greedily where the answerer supports it.

        The status is `cut_off` if a text reached `max_new_tokens`.
        """
        ...

    def score_options(
        self, questions: Sequence[Sample], options: Sequence[Mapping[str, str]], prefix: Sequence[str] | None
    ) -> Iterator[Outcome]:
        """Yield outcomes with `option_logprobs`, the summed log-probability of the text of each option.

        Texts are scored as the assistant's turn. options: for each question the text of each option, by the option.
        prefix: for each question the text with which that turn begins.
        """
        ...
