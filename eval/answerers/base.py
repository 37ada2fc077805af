"""The interface of an answerer, which answers samples with text or scores given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from geotune.sample import Sample


class Answerer(Protocol):
    """Answers questions: samples that end with the user's turn, hold no gold answer, and have absolute image paths."""

    def generate(self, samples: Sequence[Sample], max_new_tokens: int) -> list[str]:
        """Return one text for each sample, decoded greedily where the answerer supports it."""
        ...

    def score_options(
        self, samples: Sequence[Sample], options: Sequence[Sequence[str]], prefix: Sequence[str] | None
    ) -> list[list[float]]:
        """Return the summed log-probability of each option of each sample.

        Options are scored as the assistant's turn. prefix: text of each sample with which that turn begins.
        """
        ...
