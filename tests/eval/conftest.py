from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.answerers.base import Draws
from geotune.records import write_samples
from geotune.runs.outcomes import Outcome
from geotune.sample import Sample, Turn
from geotune.tasks import CROSS_VIEW_TASKS, SYSTEM_PROMPT, get_task


class FakeAnswerer:
    """Answers each question with `say(question)`, scores options with `prefer`, and keeps the questions that it saw.

    Draws are what `wander(question, repeat, draws)` says. Outcomes come in another order than the questions.
    """

    can_score = True
    can_draw = True

    def __init__(
        self,
        say: Callable[[Sample], str],
        prefer: Callable[[Sample, str], float] | None = None,
        wander: Callable[[Sample, int, Draws], str] | None = None,
    ) -> None:
        self.say = say
        self.prefer = prefer or (lambda sample, option: 0.0)
        self.wander = wander or pytest.fail
        self.seen: list[Sample] = []
        self.prefixes: list[str] = []

    def generate(self, questions: Sequence[Sample], max_new_tokens: int) -> Iterator[Outcome]:
        for question in reversed(questions):
            self.seen.append(question)
            yield Outcome(id=question.id, status="answered", text=self.say(question))

    def draw(self, questions: Sequence[Sample], max_new_tokens: int, draws: Draws) -> Iterator[Outcome]:
        for repeat in range(draws.count, 0, -1):
            for question in questions:
                self.seen.append(question)
                text = self.wander(question, repeat, draws)
                yield Outcome(id=question.id, repeat=repeat, status="answered", text=text)

    def score_options(
        self, questions: Sequence[Sample], options: Sequence[Mapping[str, str]], prefix: Sequence[str] | None
    ) -> Iterator[Outcome]:
        self.prefixes += prefix or []
        for question, texts in reversed(list(zip(questions, options, strict=True))):
            self.seen.append(question)
            scores = {option: self.prefer(question, text) for option, text in texts.items()}
            yield Outcome(id=question.id, status="answered", option_logprobs=scores)


@pytest.fixture
def fake() -> type[FakeAnswerer]:
    return FakeAnswerer


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 12 places with real images.

    Each place has a question for every option of the seven tasks, and one photo to locate.
    """
    folder = tmp_path_factory.mktemp("city")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ["view", *(f"map{i}" for i in range(4))]:
        pixels = rng.integers(0, 255, (16, 24 if name == "view" else 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    samples = []
    for place in range(12):
        lat, lon = -40 + 7.25 * place, 10.5 * place - 60
        common = {"system": SYSTEM_PROMPT, "source": f"source{place % 2}", "place": f"p/{lat:.6f},{lon:.6f}"}
        for name in CROSS_VIEW_TASKS:
            task = get_task(name)
            images = ("images/view.png", *(f"images/map{i}.png" for i in range(task.n_maps)))
            for option in task.options:
                samples.append(
                    Sample(
                        id=f"city/x/{place}/{option}/{name}/full",
                        images=images,
                        turns=(Turn("user", task.prompt(explain=False)), Turn("assistant", task.target(option))),
                        task=name,
                        answer=option,
                        meta=json.dumps({"gold": option}),
                        **common,
                    )
                )
        task = get_task("geolocate")
        answer = json.dumps({"latitude": lat, "longitude": lon})
        turns = (Turn("user", task.prompt(explain=False)), Turn("assistant", task.target(answer)))
        samples.append(
            Sample(
                id=f"city/x/{place}/geolocate/full",
                images=("images/view.png",),
                turns=turns,
                task="geolocate",
                answer=answer,
                **common,
            )
        )
    write_samples(folder / "city.jsonl", samples)
    return folder
