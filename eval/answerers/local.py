"""The answerer that asks a backbone on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from eval.answerers.base import BATCHES_PER_CALL, Draws
from geotune.backbones.generation import prompt_batches, sample, score_options
from geotune.backbones.sampling import Sampling
from geotune.runs.outcomes import Outcome, TokenCounts, utc_now
from geotune.sample import Sample

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


class LocalAnswerer:
    """Asks `backbone` in batches of `batch_size`; the caller sets eval mode and disables gradients.

    Similar questions of `BATCHES_PER_CALL` batches are grouped. Texts come after every batch, scores after every
    `BATCHES_PER_CALL` batches. The draws for a question are made together: a batch has about `batch_size` of them, and
    reads each prompt once.
    """

    can_score = True
    can_draw = True

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        self.backbone = backbone
        self.batch_size = batch_size

    def generate(self, questions: Sequence[Sample], max_new_tokens: int) -> Iterator[Outcome]:
        for part in self._calls(len(questions)):
            yield from self._texts(questions[part], max_new_tokens, None)

    def draw(self, questions: Sequence[Sample], max_new_tokens: int, draws: Draws) -> Iterator[Outcome]:
        for part in self._calls(len(questions)):
            yield from self._texts(questions[part], max_new_tokens, draws)

    def _texts(self, questions: Sequence[Sample], max_new_tokens: int, draws: Draws | None) -> Iterator[Outcome]:
        """Answer questions that are grouped, with one evaluation mode: it keeps image features and merged adapters.

        draws: how answers are drawn; None for the likeliest one.
        """
        count, first = (1, 0) if draws is None else (draws.count, 1)
        with self.backbone.evaluation_mode():
            began = time.perf_counter()
            prompts = [self.backbone.encode(question, answer=False) for question in questions]
            encoding = (time.perf_counter() - began) / len(prompts)
            for chosen in prompt_batches(prompts, max(1, self.batch_size // count)):
                asked_at, began = utc_now(), time.perf_counter()
                answers = sample(
                    self.backbone,
                    [prompts[index] for index in chosen],
                    n=count,
                    max_new_tokens=max_new_tokens,
                    batch_size=self.batch_size,
                    sampling=None if draws is None else _sampling([questions[index].id for index in chosen], draws),
                )
                seconds = (encoding + (time.perf_counter() - began) / len(chosen)) / count
                for index, completions in zip(chosen, answers, strict=True):
                    for repeat, completion in enumerate(completions, start=first):
                        yield Outcome(
                            id=questions[index].id,
                            repeat=repeat,
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


def _sampling(ids: Sequence[str], draws: Draws) -> Sampling:
    """Return how the draws for the questions of these ids are made."""
    return Sampling([(draws.seed_of(name),) for name in ids], draws.temperature)
