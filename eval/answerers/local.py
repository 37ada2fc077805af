"""The answerer that asks a backbone on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from eval.answerers.base import BATCHES_PER_CALL
from geotune.backbones.generation import generate, score_options
from geotune.runs.outcomes import Outcome, Status, TokenCounts, utc_now
from geotune.sample import Sample

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


class LocalAnswerer:
    """Asks `backbone` in batches of `batch_size`; the caller sets eval mode and disables gradients.

    Outcomes come after every `BATCHES_PER_CALL` batches, in the order of the questions.
    """

    can_score = True

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        self.backbone = backbone
        self.batch_size = batch_size

    def generate(self, questions: Sequence[Sample], max_new_tokens: int) -> Iterator[Outcome]:
        for part in self._calls(len(questions)):
            asked, asked_at, began = list(questions[part]), utc_now(), time.perf_counter()
            texts = generate(self.backbone, asked, max_new_tokens=max_new_tokens, batch_size=self.batch_size)
            seconds = (time.perf_counter() - began) / len(asked)
            for question, text in zip(asked, texts, strict=True):
                status, count = self._ending(text, max_new_tokens)
                tokens = TokenCounts(output=count)
                yield Outcome(
                    id=question.id, status=status, text=text, tokens=tokens, seconds=seconds, asked_at=asked_at
                )

    def score_options(
        self, questions: Sequence[Sample], options: Sequence[Mapping[str, str]], prefix: Sequence[str] | None
    ) -> Iterator[Outcome]:
        for part in self._calls(len(questions)):
            asked, asked_at, began = list(questions[part]), utc_now(), time.perf_counter()
            scores = score_options(
                self.backbone,
                asked,
                [list(texts.values()) for texts in options[part]],
                prefix=None if prefix is None else list(prefix[part]),
                batch_size=self.batch_size,
            )
            seconds = (time.perf_counter() - began) / len(asked)
            for question, texts, row in zip(asked, options[part], scores, strict=True):
                logprobs = {o: v if math.isfinite(v) else None for o, v in zip(texts, row, strict=True)}
                yield Outcome(
                    id=question.id, status="answered", option_logprobs=logprobs, seconds=seconds, asked_at=asked_at
                )

    def _calls(self, count: int) -> Iterator[slice]:
        """Yield the parts of `count` questions that the backbone is given together."""
        size = self.batch_size * BATCHES_PER_CALL
        return (slice(start, start + size) for start in range(0, count, size))

    def _ending(self, text: str, max_new_tokens: int) -> tuple[Status, int]:
        """Return the status of a generated text and its number of tokens.

        The text is encoded again, because its generation does not say how it ended.
        """
        count = len(self.backbone.encoder.tokens(text))
        return ("cut_off" if count >= max_new_tokens else "answered"), count
