"""The interface of an answerer, which turns samples into outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from geotune.runs.outcomes import Outcome
from geotune.sample import Sample
from geotune.system.digests import digest64

BATCHES_PER_CALL = 8
"""Number of batches of questions that a local backbone is given together, so that it can group similar questions."""


@dataclass(frozen=True)
class Draws:
    """How each question is asked again, with answers that are drawn instead of the likeliest one."""

    count: int
    """Answers to draw for each question: the repeats 1 to `count`."""
    temperature: float
    """Temperature of the sampling, above 0; 1 draws from the model's own distribution."""
    seed: int
    """Seed of the suite."""

    def seed_of(self, question: str) -> int:
        """Return the seed of the draws for the question of that id; no other question plays a part in it."""
        return digest64(f"draws/{self.seed}/{question}")


class Answerer(Protocol):
    """Answers questions: samples that end with the user's turn, hold no gold answer, and have absolute image paths.

    All methods yield outcomes as they come, one for each question (`draw`: one for each draw), in any order, each with
    the id of its question. A question that could not be answered has an outcome too, with the status `failed` or
    `refused` and a reason.

    An answerer that draws answers has two more members, which only suites with draws need: `can_draw`, which is true,
    and the method of `DrawingAnswerer`.
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


class DrawingAnswerer(Answerer, Protocol):
    """An answerer that also draws answers."""

    @property
    def can_draw(self) -> bool:
        """Whether `draw` is supported, which needs answers sampled at a given temperature."""
        ...

    def draw(self, questions: Sequence[Sample], max_new_tokens: int, draws: Draws) -> Iterator[Outcome]:
        """Yield outcomes with texts, whose `repeat` is the number of the draw, from 1.

        A draw depends on the question, the seed, the temperature and its number alone, as far as the answerer can
        ensure it. The status is `cut_off` if a text reached `max_new_tokens`.
        """
        ...
