"""An evaluation outside training: nothing is lost, nothing is asked twice, figures are a function of the files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval.answerers.base import Draws
from eval.evaluator import Evaluator
from eval.image_digests import content_digest
from eval.offline import METRICS, OUTCOMES, PROTOCOL, Evaluation, suite_facts
from eval.suites import CrossViewSuite, DistanceSuite
from geotune.config.parts import EvaluatorConfig
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.runs.outcomes import Outcome
from geotune.sample import Sample

FACTS = {"weights": {"values": "a"}, "prompt": {"chat template": "b"}}


@pytest.fixture
def make(city: Path, tmp_path: Path) -> Callable[..., Evaluation]:
    def evaluation(suite: Any = None, model: str = "model", images: str = "c", **facts: Any) -> Evaluation:
        own = suite or CrossViewSuite(path=str(city), tasks=("pose_fixed", "cross_map"))
        evaluator = Evaluator(EvaluatorConfig(suites={"geox": own}, batch_size=4))
        identity = {**FACTS, **facts, "suite": suite_facts(evaluator, "geox", images)}
        return Evaluation(evaluator, "geox", tmp_path / "eval", model, identity)

    return evaluation


@pytest.fixture
def golds(city: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in read_samples(city / "city.jsonl")}


def mostly(golds: dict[str, Sample]) -> Callable[[Sample], str]:
    """Say what is right, but for the places of even numbers."""
    return lambda question: golds[question.id].response if int(question.id.split("/")[2]) % 2 else "no idea"


class Limited:
    """An answerer that breaks off after some outcomes, or fails some of them."""

    can_score = can_draw = True

    def __init__(
        self, answerer: Any, stop: int | None = None, fail: Callable[[str], bool] = lambda name: False
    ) -> None:
        self.answerer, self.stop, self.fail = answerer, stop, fail

    def _cut(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes if self.stop is None else islice(outcomes, self.stop):
            if self.fail(outcome.id):
                yield Outcome(id=outcome.id, repeat=outcome.repeat, status="failed", reason="broken")
            else:
                yield outcome
        if self.stop is not None:
            raise KeyboardInterrupt

    def generate(self, questions: Any, max_new_tokens: int) -> Iterator[Outcome]:
        return self._cut(self.answerer.generate(questions, max_new_tokens))

    def draw(self, questions: Any, max_new_tokens: int, draws: Draws) -> Iterator[Outcome]:
        return self._cut(self.answerer.draw(questions, max_new_tokens, draws))


def lines(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (evaluation.folder / OUTCOMES).read_text().splitlines()]


def without_speed(content: dict[str, Any]) -> dict[str, Any]:
    entry = {key: value for key, value in content["suites"]["geox"].items() if key != "samples_per_second"}
    return {**content, "suites": entry}


def test_figures_are_those_of_an_evaluation_in_the_loop(make: Any, golds: dict[str, Sample], fake: Any) -> None:
    evaluation = make()
    counts = evaluation.ask(fake(mostly(golds)))
    assert (counts.expected, counts.answered, counts.lacking) == (96, 96, "")
    content = evaluation.measure()
    wanted, _ = evaluation.evaluator.run(fake(mostly(golds)), 0)
    assert without_speed(content)["suites"] == without_speed(wanted)["suites"]
    assert json.loads((evaluation.folder / METRICS).read_text()) == json.loads(json.dumps(content))
    card = json.loads((evaluation.folder / PROTOCOL).read_text())["card"]
    assert (card["questions"], card["answer_mode"], card["decoding"], card["draws"]) == (96, "generate", "greedy", None)


def test_what_was_broken_off_goes_on_and_ends_as_if_unbroken(make: Any, golds: dict[str, Sample], fake: Any) -> None:
    whole = make(model="whole", other={"fact": "1"})
    whole.ask(fake(mostly(golds)))
    for stop in (1, 7, 30):
        with pytest.raises(KeyboardInterrupt):
            make().ask(Limited(fake(mostly(golds)), stop))
    evaluation = make()
    assert evaluation.read().answered == 38
    with (evaluation.folder / OUTCOMES).open("a") as file:
        file.write('{"id": "city/x/3')  # killed while it wrote
    answerer = fake(mostly(golds))
    assert evaluation.ask(answerer).missing == 0
    assert len(answerer.seen) == 96 - 38
    assert len(lines(evaluation)) == len({line["id"] for line in lines(evaluation)}) == 96
    assert without_speed(evaluation.measure())["suites"] == without_speed(whole.measure())["suites"]
    again = fake(pytest.fail)
    make().ask(again)
    assert not again.seen, "everything is there"


def test_measuring_anew_asks_nothing_and_reads_the_files_alone(make: Any, golds: dict[str, Sample], fake: Any) -> None:
    make().ask(Limited(fake(mostly(golds)), fail=lambda name: name.endswith("0/cross_map/full")))
    evaluation = make()
    counts = evaluation.read()
    assert (counts.failed, counts.missing) == (12, 0)
    content = evaluation.measure()
    assert (content["failed"], content["missing"], content["expected"]) == (12, 0, 96)
    assert content["suites"]["geox"]["tasks"]["cross_map"]["n"] == 48, "failed answers stay in the denominator"
    assert content["suites"]["geox"]["tasks"]["cross_map"]["accuracy"] == pytest.approx(18 / 48)
    unasked = make(model="nobody", other={"fact": "2"})
    assert unasked.read().missing == 96


def test_failed_answers_are_asked_again_on_request_alone_and_none_is_deleted(
    make: Any, golds: dict[str, Sample], fake: Any
) -> None:
    make().ask(Limited(fake(mostly(golds)), fail=lambda name: name.split("/")[2] == "3"))
    failed = sum(line["status"] == "failed" for line in lines(make()))
    assert failed == 8
    answerer = fake(mostly(golds))
    assert make().ask(answerer).failed == 8
    assert not answerer.seen
    evaluation = make()
    assert evaluation.ask(answerer, "failed").lacking == ""
    assert len(answerer.seen) == failed
    assert len(lines(evaluation)) == 96 + failed
    assert evaluation.measure()["suites"]["geox"]["mean_accuracy"] == 0.5


def test_draws_that_are_missing_are_made_again(city: Path, make: Any, golds: dict[str, Sample], fake: Any) -> None:
    def located(**options: Any) -> Evaluation:
        found: Evaluation = make(DistanceSuite(path=str(city), draws=4, **options))
        return found

    def wander(question: Sample, repeat: int, draws: Draws) -> str:
        return json.dumps({"latitude": repeat, "longitude": 2 * repeat})

    whole = located(draw_temperature=0.5)
    whole.ask(fake(lambda q: golds[q.id].response, wander=wander))
    with pytest.raises(KeyboardInterrupt):  # 12 greedy answers were there, then 12 + 5 draws
        make(DistanceSuite(path=str(city), draws=4)).ask(
            DrawsBreakOff(fake(lambda q: golds[q.id].response, wander=wander), 17)
        )
    evaluation = located()
    assert evaluation.read().missing == 12 * 5 - 12 - 17
    answerer = fake(pytest.fail, wander=wander)
    assert evaluation.ask(answerer).missing == 0
    figures, wanted = (each.measure()["suites"]["geox"] for each in (evaluation, whole))
    assert figures["medoid_median_km"] == wanted["medoid_median_km"]


class DrawsBreakOff(Limited):
    """Breaks off in the draws alone."""

    def generate(self, questions: Any, max_new_tokens: int) -> Iterator[Outcome]:
        found: Iterator[Outcome] = self.answerer.generate(questions, max_new_tokens)
        return found


def test_another_identity_is_another_folder_and_says_what_differs(make: Any, fake: Any) -> None:
    first = make()
    first.ask(fake(lambda question: ""))
    assert first.differences() == []
    assert make().folder == first.folder
    other = make(weights={"values": "z"})
    assert other.folder != first.folder
    assert other.differences() == [f"{first.folder}: base weights, values: a there, z here"]
    [told] = make(images="new").differences()
    assert "suite, images: c there, new here" in told
    assert make(model="another model", images="new").differences() == [], "other models are no surprise"


def test_contents_of_images_are_told_apart_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, image = tmp_path / "out" / "digests.json", tmp_path / "a.png"
    Image.new("RGB", (4, 4), (1, 2, 3)).save(image)
    first = content_digest([str(image)], cache)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", pytest.fail)
        assert content_digest([str(image)], cache) == first
    Image.new("RGB", (4, 4), (1, 2, 4)).save(image)
    os.utime(image, ns=(1, 1))
    assert content_digest([str(image)], cache) != first
    image.rename(tmp_path / "b.png")
    changed = content_digest([str(tmp_path / "b.png")], cache)
    assert changed == content_digest([str(tmp_path / "b.png")] * 2, tmp_path / "fresh.json")
    cache.write_text("[1]")
    assert content_digest([str(tmp_path / "b.png")], cache) == changed


def test_two_writers_of_one_folder(make: Any, golds: dict[str, Sample], fake: Any) -> None:
    def say(question: Sample) -> str:
        with pytest.raises(ConfigError, match="another process is writing"):
            make().ask(fake(pytest.fail))
        return golds[question.id].response

    assert make().ask(fake(say)).lacking == ""


def test_outcomes_of_another_suite_are_refused(make: Any, fake: Any) -> None:
    evaluation = make()
    evaluation.folder.mkdir(parents=True)
    record = {
        "id": "elsewhere/1",
        "variant": "",
        "repeat": 0,
        "status": "answered",
        "text": "",
        "option_logprobs": None,
    }
    record |= {"reason": None, "attempts": 1, "usd": 0.0, "seconds": 0.0, "asked_at": ""}
    record["tokens"] = dict.fromkeys(("input", "cached", "reasoning", "output"))
    (evaluation.folder / OUTCOMES).write_text(json.dumps(record) + "\n")
    with pytest.raises(ConfigError, match=r"'elsewhere/1', which is no question of suite geox"):
        evaluation.ask(fake(lambda question: ""))
    turned = {**record, "id": evaluation.samples[0].id, "variant": "turned"}
    (evaluation.folder / OUTCOMES).write_text(json.dumps(turned) + "\n")
    assert evaluation.read().missing == 96, "another form of a question is no answer to it"
    (evaluation.folder / OUTCOMES).write_text("[]\n")
    with pytest.raises(ConfigError, match=r"outcomes\.jsonl:1: not an outcome"):
        evaluation.read()
