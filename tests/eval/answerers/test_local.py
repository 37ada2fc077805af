"""The answerer that asks a backbone: what it hands over together, and the outcomes it makes of the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from eval.answerers import local
from eval.answerers.base import BATCHES_PER_CALL
from eval.answerers.local import LocalAnswerer
from geotune.backbones.generation import Completion
from geotune.sample import Sample, Turn


def question(number: int) -> Sample:
    return Sample(
        id=str(number), images=(), turns=(Turn("user", "Where?"),), task="pose_fixed", answer="", place="", source=""
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of the questions of each call of a backbone, which answers with words and scores."""
    seen: list[list[str]] = []

    def complete(backbone: Any, samples: Sequence[Sample], *, max_new_tokens: int, batch_size: int) -> list[Completion]:
        """Token 7 for each word, and the stop token 0 if there is room for it."""
        seen.append([sample.id for sample in samples])
        counts = [min(int(sample.id), max_new_tokens) for sample in samples]
        stopped = [count < max_new_tokens for count in counts]
        tokens = [(7,) * count + (0,) * stops for count, stops in zip(counts, stopped, strict=True)]
        return [Completion(ids, (-1.0,) * len(ids), stops) for ids, stops in zip(tokens, stopped, strict=True)]

    def score_options(backbone: Any, samples: Any, options: Any, *, prefix: Any, batch_size: int) -> Any:
        seen.append([sample.id for sample in samples])
        starts = prefix or [""] * len(samples)
        return [[score(start + text) for text in row] for start, row in zip(starts, options, strict=True)]

    def score(text: str) -> float:
        return math.nan if text.endswith("W") else len(text)

    monkeypatch.setattr(local, "complete", complete)
    monkeypatch.setattr(local, "score_options", score_options)
    return seen


@pytest.fixture
def answerer() -> LocalAnswerer:
    backbone: Any = SimpleNamespace(encoder=SimpleNamespace(decode=lambda tokens: "word " * len(tokens)))
    return LocalAnswerer(backbone, batch_size=3)


QUESTIONS = [question(number) for number in range(3 * BATCHES_PER_CALL + 5)]
CALLS = [[str(n) for n in range(24)], [str(n) for n in range(24, 29)]]


def test_texts_come_call_by_call(calls: list[list[str]], answerer: LocalAnswerer) -> None:
    outcomes = answerer.generate(QUESTIONS, max_new_tokens=4)
    first = [next(outcomes) for _ in range(24)]
    assert calls == CALLS[:1], "the second call is made when the first is used up"
    both = [*first, *outcomes]
    assert calls == CALLS
    assert [outcome.id for outcome in both] == [sample.id for sample in QUESTIONS]
    assert [(o.text, o.status, o.tokens.output) for o in both[2:6]] == [
        ("word word ", "answered", 2),
        ("word word word ", "answered", 3),
        ("word " * 4, "cut_off", 4),
        ("word " * 4, "cut_off", 4),
    ]
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
