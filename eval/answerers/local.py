"""The answerer that asks a backbone on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from eval.answerers.base import BATCHES_PER_CALL
from geotune.backbones.generation import prompt_batches, sample, score_options
from geotune.runs.outcomes import Outcome, TokenCounts, utc_now
from geotune.sample import Sample

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


class LocalAnswerer:
    """Asks `backbone` in batches of `batch_size`; the caller sets eval mode and disables gradients.

    Similar questions of `BATCHES_PER_CALL` batches are grouped. Texts come after every batch, scores after every
    `BATCHES_PER_CALL` batches.
    """

    can_score = True

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        self.backbone = backbone
        self.batch_size = batch_size

    def generate(self, questions: Sequence[Sample], max_new_tokens: int) -> Iterator[Outcome]:
        for part in self._calls(len(questions)):
            yield from self._generate(questions[part], max_new_tokens)

    def _generate(self, questions: Sequence[Sample], max_new_tokens: int) -> Iterator[Outcome]:
        """Answer questions that are grouped, with one evaluation mode: it keeps image features and merged adapters."""
        with self.backbone.evaluation_mode():
            began = time.perf_counter()
            prompts = [self.backbone.encode(question, answer=False) for question in questions]
            encoding = (time.perf_counter() - began) / len(prompts)
            for chosen in prompt_batches(prompts, self.batch_size):
                asked_at, began = utc_now(), time.perf_counter()
                batch = [prompts[index] for index in chosen]
                answers = sample(self.backbone, batch, max_new_tokens=max_new_tokens, batch_size=self.batch_size)
                seconds = encoding + (time.perf_counter() - began) / len(batch)
                for index, [completion] in zip(chosen, answers, strict=True):
                    yield Outcome(
                        id=questions[index].id,
                        status="answered" if completion.stopped else "cut_off",
                        text=completion.text(self.backbone.encoder),
                        tokens=TokenCounts(output=len(completion.tokens)),
                        seconds=seconds,
                        asked_at=asked_at,
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
