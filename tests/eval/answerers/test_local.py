"""The answerer that asks a backbone: what it hands over together, and the outcomes it makes of the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from eval.answerers import local
from eval.answerers.base import BATCHES_PER_CALL
from eval.answerers.local import LocalAnswerer
from geotune.backbones.generation import Completion
from geotune.encoding.segments import Encoded, Segment
from geotune.sample import Sample, Turn


def question(number: int) -> Sample:
    return Sample(
        id=str(number), images=(), turns=(Turn("user", "Where?"),), task="pose_fixed", answer="", place="", source=""
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of the questions of each call of a backbone, which answers with words and scores."""
    seen: list[list[str]] = []

    def sample(
        backbone: Any, prompts: Sequence[Any], *, max_new_tokens: int, batch_size: int
    ) -> list[list[Completion]]:
        assert len(prompts) <= batch_size
        seen.append([prompt.id for prompt in prompts])
        counts = [min(int(prompt.id), max_new_tokens) for prompt in prompts]
        return [[Completion((7,) * count, (0.0,) * count, count < max_new_tokens)] for count in counts]

    def score_options(backbone: Any, samples: Any, options: Any, *, prefix: Any, batch_size: int) -> Any:
        seen.append([sample.id for sample in samples])
        starts = prefix or [""] * len(samples)
        return [[score(start + text) for text in row] for start, row in zip(starts, options, strict=True)]

    def score(text: str) -> float:
        return math.nan if text.endswith("W") else len(text)

    monkeypatch.setattr(local, "sample", sample)
    monkeypatch.setattr(local, "score_options", score_options)
    return seen


@pytest.fixture
def answerer() -> LocalAnswerer:
    """An answerer whose backbone finds the longer prompts among those with higher numbers."""

    def encode(question: Sample, *, answer: bool) -> Any:
        number = int(question.id)
        return Encoded(question.id, (Segment("text", (number,) * (1 + number // 10)),))

    backbone: Any = SimpleNamespace(encoder=SimpleNamespace(decode=lambda tokens: " ".join(map(str, tokens))))
    backbone.encode = encode
    backbone.evaluation_mode = nullcontext
    return LocalAnswerer(backbone, batch_size=3)


QUESTIONS = [question(number) for number in range(3 * BATCHES_PER_CALL + 5)]
CALLS = [[str(n) for n in range(24)], [str(n) for n in range(24, 29)]]


def test_texts_come_batch_by_batch(calls: list[list[str]], answerer: LocalAnswerer) -> None:
    """Similar questions of a call are asked together, the longest first, as if the backbone were given them all."""
    outcomes = answerer.generate(QUESTIONS, max_new_tokens=15)
    first = [next(outcomes) for _ in range(3)]
    assert calls == [["20", "21", "22"]], "the second batch is asked when the first is used up"
    both = [*first, *outcomes]
    assert calls[1:3] == [["23", "10", "11"], ["12", "13", "14"]]
    assert calls[8:] == [["24", "25", "26"], ["27", "28"]]
    assert [outcome.id for outcome in both] == [name for batch in calls for name in batch]
    by_id = {outcome.id: outcome for outcome in both}
    assert by_id.keys() == {sample.id for sample in QUESTIONS}
    ends = [(o.text, o.status, o.tokens.output) for o in (by_id[name] for name in ("2", "14", "15", "20"))]
    assert ends[0] == ("7", "answered", 2), "the stop token is counted and not shown"
    assert [(status, count) for _, status, count in ends[1:]] == [("answered", 14), ("cut_off", 15), ("cut_off", 15)]
    assert all(o.seconds > 0 and o.option_logprobs is None for o in both)
    assert list(answerer.generate([], max_new_tokens=4)) == []


def test_scores_come_call_by_call(calls: list[list[str]], answerer: LocalAnswerer) -> None:
    options = [{"north": "N", "west": "W", str(number): "NNN"} for number in range(len(QUESTIONS))]
    outcomes = list(answerer.score_options(QUESTIONS, options, None))
    assert calls == CALLS
    assert [outcome.id for outcome in outcomes] == [sample.id for sample in QUESTIONS]
    assert outcomes[25].option_logprobs == {"north": 1, "west": None, "25": 3}
    assert (outcomes[25].status, outcomes[25].text) == ("answered", None)
    explained = list(answerer.score_options(QUESTIONS, options, ["x" * number for number in range(len(QUESTIONS))]))
    assert explained[25].option_logprobs == {"north": 26, "west": None, "25": 28}
