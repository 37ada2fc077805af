"""The answerer that asks a backbone: what it hands over together, and the outcomes it makes of the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.answerers import local
from eval.answerers.base import BATCHES_PER_CALL, Draws
from eval.answerers.local import LocalAnswerer
from eval.evaluator import as_question
from geotune.backbones.generation import Completion
from geotune.backbones.sampling import Sampling
from geotune.encoding.segments import Encoded, Segment
from geotune.inference.loading import find_source, open_backbone
from geotune.records import read_samples
from geotune.sample import Sample, Turn
from geotune.system.files import ASSETS
from geotune.tasks import get_task


def question(number: int) -> Sample:
    return Sample(
        id=str(number), images=(), turns=(Turn("user", "Where?"),), task="pose_fixed", answer="", place="", source=""
    )


@pytest.fixture
def settings() -> list[Sampling | None]:
    """How each call of a backbone that answers with words was asked to draw them."""
    return []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, settings: list[Sampling | None]) -> list[list[str]]:
    """The ids of the questions of each call of a backbone, which answers with words and scores."""
    seen: list[list[str]] = []

    def sample(
        backbone: Any,
        prompts: Sequence[Any],
        *,
        n: int,
        max_new_tokens: int,
        batch_size: int,
        sampling: Sampling | None,
    ) -> list[list[Completion]]:
        assert len(prompts) * n <= max(n, batch_size)
        seen.append([prompt.id for prompt in prompts])
        settings.append(sampling)
        counts = [min(int(prompt.id), max_new_tokens) for prompt in prompts]
        return [[Completion((7 + k,) * c, (0.0,) * c, c < max_new_tokens) for k in range(n)] for c in counts]

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


@pytest.mark.parametrize(("count", "together"), [(1, 3), (2, 1), (16, 1)])
def test_draws_of_a_question_come_together(
    calls: list[list[str]], settings: list[Sampling], answerer: LocalAnswerer, count: int, together: int
) -> None:
    """A batch of 3 answers holds the draws for as many questions as fit, at least one."""
    draws = Draws(count, 0.7, seed=5)
    outcomes = list(answerer.draw(QUESTIONS, 15, draws))
    assert max(len(call) for call in calls) == together
    assert sorted((int(o.id), o.repeat) for o in outcomes) == [(n, k + 1) for n in range(29) for k in range(count)]
    texts = {o.repeat: o.text for o in outcomes if o.id == "2"}
    assert texts == {number + 1: str(7 + number) for number in range(count)}
    assert {o.status for o in outcomes if int(o.id) >= 15} == {"cut_off"}
    assert {how.temperature for how in settings} == {0.7}
    seeds = seeds_of(calls, settings)
    assert len(set(seeds.values())) == len(QUESTIONS)
    calls.clear()
    settings.clear()
    list(answerer.draw(QUESTIONS[::-7], 15, draws))
    assert seeds_of(calls, settings).items() <= seeds.items(), "whatever else is asked, and in which order"
    assert Draws(count, 1.0, seed=6).seed_of("2") != draws.seed_of("2") == Draws(4, 1.0, seed=5).seed_of("2")


def seeds_of(calls: list[list[str]], settings: list[Sampling]) -> dict[str, Sequence[int]]:
    """The seed of each question of some calls."""
    return {
        name: seed
        for call, how in zip(calls, settings, strict=True)
        for name, seed in zip(call, how.seeds, strict=True)
    }


def test_draws_of_a_real_backbone_depend_on_the_question_and_their_number_alone(city: Path) -> None:
    backbone = open_backbone(find_source(str(ASSETS / "tiny")), dtype="float32", max_pixels=9216)
    samples = [sample for sample in read_samples(city / "city.jsonl") if sample.task in ("geolocate", "pose_fixed")]
    questions = [as_question(s.in_folder(city), get_task(s.task), "generate") for s in samples[::9]]

    def drawn(batch_size: int, chosen: Sequence[Sample], draws: Draws) -> dict[tuple[str, int], str | None]:
        found = LocalAnswerer(backbone, batch_size).draw(chosen, 6, draws)
        return {(outcome.id, outcome.repeat): outcome.text for outcome in found}

    texts = drawn(4, questions, Draws(4, 3.0, seed=1))
    assert len(set(texts.values())) > len(questions), "draws differ"
    assert drawn(32, questions[::-1], Draws(4, 3.0, seed=1)) == texts
    assert drawn(1, questions[:2], Draws(2, 3.0, seed=1)).items() <= texts.items(), "fewer questions, fewer draws"
    assert drawn(4, questions, Draws(4, 3.0, seed=2)) != texts
    cold = drawn(4, questions, Draws(4, 1e-4, seed=1))
    greedy = {o.id: o.text for o in LocalAnswerer(backbone, 4).generate(questions, 6)}
    assert cold == {(name, repeat): greedy[name] for name, repeat in texts}


def test_scores_come_call_by_call(calls: list[list[str]], answerer: LocalAnswerer) -> None:
    options = [{"north": "N", "west": "W", str(number): "NNN"} for number in range(len(QUESTIONS))]
    outcomes = list(answerer.score_options(QUESTIONS, options, None))
    assert calls == CALLS
    assert [outcome.id for outcome in outcomes] == [sample.id for sample in QUESTIONS]
    assert outcomes[25].option_logprobs == {"north": 1, "west": None, "25": 3}
    assert (outcomes[25].status, outcomes[25].text) == ("answered", None)
    explained = list(answerer.score_options(QUESTIONS, options, ["x" * number for number in range(len(QUESTIONS))]))
    assert explained[25].option_logprobs == {"north": 26, "west": None, "25": 28}
