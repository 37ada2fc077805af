"""What the evaluator asks: anything that turns samples into text, or scores given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from geotune.sample import Sample


class Answerer(Protocol):
    """Samples come as questions: they end with the user's turn, hold no gold answer, and name images absolutely."""

    def generate(self, samples: Sequence[Sample], max_new_tokens: int) -> list[str]:
        """What is said to each sample, one text for each, greedy where that applies."""
        ...

    def score_options(
        self, samples: Sequence[Sample], options: Sequence[Sequence[str]], prefix: Sequence[str] | None
    ) -> list[list[float]]:
        """Summed log-probability of each option of each sample as the assistant's turn, after `prefix`, its own words
        so far."""
        ...
