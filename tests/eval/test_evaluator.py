from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.answerers.base import Draws
from eval.evaluator import Evaluator, as_question
from eval.suites import CrossViewSuite, DistanceSuite
from eval.suites.base import measured_by
from geotune.config.parts import EvaluatorConfig
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.runs.figures import logged_figures
from geotune.runs.outcomes import Outcome
from geotune.runs.predictions import Prediction
from geotune.runs.reading import NOT_ASKED, draws_from, predictions_from
from geotune.runs.suite_results import DRAW_FIGURES, Cell, SuiteResult, SuiteRow, rows_of
from geotune.sample import Sample
from geotune.tasks import CROSS_VIEW_TASKS, get_task


@pytest.fixture
def golds(city: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in read_samples(city / "city.jsonl")}


def right(golds: dict[str, Sample]) -> Callable[[Sample], str]:
    return lambda question: golds[question.id].response


def geox(city: Path, **options: Any) -> dict[str, CrossViewSuite]:
    return {"geox": CrossViewSuite(path=str(city), **options)}


def test_all_right_has_the_contract_of_the_file(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    suites = {**geox(city), "geolocate": DistanceSuite(path=str(city / "city.jsonl"))}
    result, predictions = Evaluator(EvaluatorConfig(suites=suites, batch_size=5)).run(fake(right(golds)), 200)
    assert list(result) == ["step", "seconds", "mean_accuracy", "suites"]
    assert result["step"] == 200
    assert result["mean_accuracy"] == 1.0
    suite = result["suites"]["geox"]
    assert {"answer_mode", "samples_per_second", "mean_accuracy", "tasks"} <= suite.keys()
    assert suite["answer_mode"] == "generate"
    assert tuple(suite["tasks"]) == CROSS_VIEW_TASKS
    for name, entry in suite["tasks"].items():
        k = len(get_task(name).options)
        assert entry["n"] == 12 * k
        assert (entry["accuracy"], entry["parse_rate"], entry["h_norm"], entry["d_kl"]) == (1.0, 1.0, 1.0, 0.0)
        assert entry["chance"] == entry["p_mode"] == entry["a_mode"] == pytest.approx(1 / k)
        assert entry["ci95"][0] < entry["ci95"][1] == 1.0
        assert entry["by_source"] == {"source0": 1.0, "source1": 1.0}
        assert entry["confusion"] == [[12 if i == j else 0 for j in range(k)] for i in range(k)]
        assert entry["unparsed"] == [0] * k
    distance = result["suites"]["geolocate"]
    assert {"n", "coverage", "median_km", "mean_km", "geoscore", "answered_only"} <= distance.keys()
    assert (distance["n"], distance["coverage"], distance["acc@1km"], distance["geoscore"]) == (12, 1.0, 1.0, 5000.0)
    assert Counter(p.suite for p in predictions) == {"geox": 12 * 29, "geolocate": 12}
    assert {p.score for p in predictions if p.suite == "geox"} == {1.0}
    json.dumps(result, allow_nan=False)


def test_one_answer_to_everything(city: Path, fake: Any) -> None:
    def first_option(question: Sample) -> str:
        task = get_task(question.task)
        return f"I am sure. {task.target(task.options[0])}"

    result, _ = Evaluator(EvaluatorConfig(suites=geox(city))).run(fake(first_option), 0)
    for name, entry in result["suites"]["geox"]["tasks"].items():
        assert entry["accuracy"] == entry["chance"] == pytest.approx(entry["a_mode"]), name
        assert (entry["p_mode"], entry["h_norm"]) == (1.0, 0.0)
        # Right exactly once a place, yet the interval does not shrink to a point.
        assert entry["ci95"][0] < entry["accuracy"] < entry["ci95"][1]
    assert result["mean_accuracy"] == pytest.approx((4 / 4 + 2 / 2 + 1 / 9) / 7)  # each task weighs the same


def test_unparsed_answers_are_wrong_and_kept(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    def half(question: Sample) -> str:
        return golds[question.id].response if question.id.split("/")[2] in "02468" else "I can not tell."

    result, predictions = Evaluator(EvaluatorConfig(suites=geox(city, tasks=("pose_fixed",)))).run(fake(half), 0)
    entry = result["suites"]["geox"]["tasks"]["pose_fixed"]
    assert len(predictions) == entry["n"] == 48
    assert entry["accuracy"] == entry["parse_rate"] == pytest.approx(20 / 48)
    assert entry["unparsed"] == [7] * 4
    assert entry["h_norm"] == pytest.approx(1.0)
    silent = [p for p in predictions if p.answer is None]
    assert len(silent) == 28
    assert all(p.reason and p.score == 0.0 and p.raw == "I can not tell." for p in silent)
    nothing, _ = Evaluator(EvaluatorConfig(suites=geox(city))).run(fake(lambda question: ""), 0)
    assert nothing["mean_accuracy"] == 0.0
    assert all(entry["h_norm"] is None for entry in nothing["suites"]["geox"]["tasks"].values())


@pytest.mark.parametrize("mode", ["generate", "choice", "explain_choice"])
def test_no_question_shows_its_answer(city: Path, fake: Any, mode: str) -> None:
    answerer = fake(lambda question: "It is so.")
    Evaluator(EvaluatorConfig(suites=geox(city, samples_per_task=8), answer_mode=mode)).run(answerer, 0)
    assert answerer.seen
    for question in answerer.seen:
        assert question.turns[-1].role == "user"
        assert (question.answer, question.response, question.meta) == ("", "", "{}")
        assert all(Path(image).is_absolute() and Path(image).is_file() for image in question.images)
        assert question.system


def test_choice_scores_legal_answers(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    def prefer(question: Sample, option: str) -> float:
        gold = golds[question.id]
        if gold.answer in ("W", "3"):
            return float("nan")
        return -1.0 if option == gold.response else float("-inf") if option.endswith("x") else -2.0

    answerer = fake(pytest.fail, prefer)
    result, predictions = Evaluator(EvaluatorConfig(suites=geox(city), answer_mode="choice")).run(answerer, 0)
    assert result["suites"]["geox"]["answer_mode"] == "choice"
    tasks = result["suites"]["geox"]["tasks"]
    assert tasks["intra_map"]["accuracy"] == 1.0
    assert tasks["pose_fixed"]["accuracy"] == tasks["pose_fixed"]["parse_rate"] == 0.75
    broken = next(p for p in predictions if p.gold == "W")
    assert (broken.answer, broken.reason) == (None, "no_finite_score")
    assert broken.option_logprobs == (None,) * 4
    fine = next(p for p in predictions if p.gold == "E")
    assert fine.raw == golds[fine.id].response
    assert fine.option_logprobs == (-2.0, -1.0, -2.0, -2.0)


def test_explain_choice_scores_after_the_models_own_words(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    def say(question: Sample) -> str:
        task = get_task(question.task)
        assert question.prompt == task.prompt(explain=True)
        return "A street runs left.\n" + task.target(task.options[0])

    answerer = fake(say, lambda question, option: float(option == golds[question.id].response))
    result, predictions = Evaluator(
        EvaluatorConfig(suites=geox(city, samples_per_task=9), answer_mode="explain_choice")
    ).run(answerer, 0)
    assert result["mean_accuracy"] == 1.0  # what was written after the explanation does not count
    assert set(answerer.prefixes) == {"A street runs left.\n"}
    assert predictions[0].raw == "A street runs left.\n" + golds[predictions[0].id].response


def test_open_tasks_are_generated_in_every_mode(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    suites = {"geolocate": DistanceSuite(path=str(city))}
    result, _ = Evaluator(EvaluatorConfig(suites=suites, answer_mode="choice")).run(fake(right(golds)), 0)
    assert result["suites"]["geolocate"]["answer_mode"] == "generate"
    assert result["mean_accuracy"] is None
    assert not any("accuracy" in name for name in logged_figures(result))


def test_distances_and_swaps(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    def say(question: Sample) -> str:
        place = int(question.id.split("/")[2])
        gold = json.loads(golds[question.id].answer)
        lat, lon = gold["latitude"], gold["longitude"]
        if place == 0:
            return "no idea"
        if place == 1:
            return json.dumps({"latitude": lon, "longitude": lat})
        return json.dumps({"latitude": lat + (1.0 if place == 2 else 0.0), "longitude": lon})

    result, predictions = Evaluator(EvaluatorConfig(suites={"geolocate": DistanceSuite(path=str(city))})).run(
        fake(say), 0
    )
    figures = result["suites"]["geolocate"]
    assert figures["coverage"] == pytest.approx(11 / 12)
    assert figures["acc@1km"] == pytest.approx(9 / 12)
    assert figures["acc@200km"] == pytest.approx(10 / 12)  # one degree is 111 km
    assert figures["answered_only"]["acc@200km"] == pytest.approx(10 / 11)
    assert figures["right_if_swapped"] == pytest.approx(1 / 12)
    assert next(p for p in predictions if "/0/" in p.id).reason


def wander(question: Sample, repeat: int, draws: Draws) -> str:
    """A draw: a step east of the truth per repeat, except that every fifth can't be read."""
    place = int(question.id.split("/")[2])
    if (place + repeat) % 5 == 0:
        return "I can not tell."
    return json.dumps({"latitude": -40 + 7.25 * place, "longitude": 10.5 * place - 60 + repeat * draws.temperature})


def test_draws_add_figures_and_change_none(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    plain = Evaluator(EvaluatorConfig(suites={"geolocate": DistanceSuite(path=str(city))}))
    before, greedy = plain.run(fake(right(golds)), 0)
    drawing = DistanceSuite(path=str(city), draws=6, draw_temperature=0.5, seed=3)
    evaluator = Evaluator(EvaluatorConfig(suites={"geolocate": drawing}))
    answerer = fake(right(golds), wander=wander)
    kept: list[Outcome] = []
    result, predictions = evaluator.run(answerer, 0, record=lambda suite, outcome: kept.append(outcome))

    old, new = before["suites"]["geolocate"], result["suites"]["geolocate"]
    added = {"draws": 6, "draw_temperature": 0.5, **{name: new[name] for name in DRAW_FIGURES}}
    shared = {**old, "samples_per_second": new["samples_per_second"], "rows": new["rows"]}
    assert new == {**shared, **added}
    assert new["rows"][: len(old["rows"])] == old["rows"]
    assert [row.name for row in rows_of(new)][len(old["rows"]) :] == list(added)
    unread = sum((place + repeat) % 5 == 0 for place in range(12) for repeat in range(1, 7))
    assert new["draws_read"] == 1 - unread / 72
    assert 80 < new["medoid_median_km"] < 230, "the medoid of steps of half a degree is two to four of them away"

    assert predictions[:12] == greedy
    assert [(p.id, p.repeat) for p in predictions[12:]] == [(p.id, n) for p in greedy for n in range(1, 7)]
    assert len(answerer.seen) == 12 * 7
    assert all((question.answer, question.response) == ("", "") for question in answerer.seen)
    samples = evaluator.samples("geolocate")
    again = measured_by(
        drawing, samples, predictions_from("s", samples, kept), draws_from("s", samples, reversed(kept), 6)
    )
    assert {**new, **again.entry("geoscore")} == new, "the figures are a function of the outcomes"


def test_a_draw_that_never_came_counts_as_unread(
    city: Path, golds: dict[str, Sample], fake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answerer = fake(right(golds))
    lost = [sample.id for sample in golds.values() if sample.task == "geolocate"][:3]

    def draw(questions: Any, max_new_tokens: int, draws: Draws) -> Any:
        for question in questions:
            for repeat in range(1, draws.count + 1):
                if question.id not in lost or repeat == 1:
                    yield Outcome(id=question.id, repeat=repeat, status="answered", text=golds[question.id].response)

    answerer.draw = draw
    suites = {"geolocate": DistanceSuite(path=str(city), draws=4)}
    result, predictions = Evaluator(EvaluatorConfig(suites=suites)).run(answerer, 0)
    entry = result["suites"]["geolocate"]
    assert (entry["draws_read"], entry["radius_coverage_90"]) == (39 / 48, 9 / 12)
    assert entry["medoid_median_km"] == entry["radius_90_km"] == 0
    assert Counter(p.reason for p in predictions) == {None: 12 + 39, NOT_ASKED: 9}
    assert "draws of suite geolocate: 9 not_asked of 48 draws, which count as unread" in caplog.text


def test_two_processes_draw_as_one(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    def evaluator() -> Evaluator:
        return Evaluator(EvaluatorConfig(suites={"far": DistanceSuite(path=str(city), draws=5)}, batch_size=1))

    alone, all_predictions = evaluator().run(fake(right(golds), wander=wander), 0)
    other, answerer = evaluator(), fake(right(golds), wander=wander)
    share, how = other.share("far", 0, 2), other.draws_of("far")
    assert how is not None
    drawn = draws_from("far", share, other.ask("far", answerer, rank=0, world_size=2, draws=how), how.count)
    parts = iter(
        [
            predictions_from("far", share, other.ask("far", answerer, rank=0, world_size=2)),
            [prediction for of_sample in drawn for prediction in of_sample],
        ]
    )
    together, gathered = evaluator().run(answerer, 0, rank=1, world_size=2, gather=lambda own: next(parts) + own)
    assert gathered == all_predictions
    assert {**together["suites"]["far"], "samples_per_second": 0} == {**alone["suites"]["far"], "samples_per_second": 0}


def test_draws_from_an_answerer_that_gives_none(city: Path, golds: dict[str, Sample]) -> None:
    answers = {name: sample.response for name, sample in golds.items()}
    suites = {"far": DistanceSuite(path=str(city), draws=4)}
    with pytest.raises(ConfigError, match=r"^evaluator.suites.far.draws=4: this answerer can't draw answers; set .*=0"):
        Evaluator(EvaluatorConfig(suites=suites)).run(Halting(answers), 0)
    Evaluator(EvaluatorConfig(suites={"far": DistanceSuite(path=str(city))})).run(Halting(answers), 0)


def test_how_the_questions_of_a_suite_are_drawn(city: Path) -> None:
    suites: dict[str, Any] = {
        "far": DistanceSuite(path=str(city), draws=4, draw_temperature=0.5, seed=-7),
        "greedy": DistanceSuite(path=str(city)),
        **geox(city),
    }
    evaluator = Evaluator(EvaluatorConfig(suites=suites))
    assert [evaluator.draws_of(name) for name in suites] == [Draws(4, 0.5, -7), None, None]
    assert evaluator.draws_of("far").seed_of("x") >= 0  # type: ignore[union-attr]

    def told(**options: Any) -> str:
        return Evaluator(EvaluatorConfig(suites={"far": DistanceSuite(path=str(city), **options)})).told("far")

    assert told() == told(draw_temperature=0.7), "nothing is drawn"
    assert len({told(), told(draws=4), told(draws=5), told(draws=4, draw_temperature=0.7)}) == 4


def test_two_processes_give_the_figures_of_one(city: Path, fake: Any) -> None:
    def say(question: Sample) -> str:
        task = get_task(question.task)
        return task.target(task.options[len(question.id) % 2])

    def evaluator() -> Evaluator:
        return Evaluator(EvaluatorConfig(suites=geox(city, samples_per_task=20), batch_size=1))

    alone, all_predictions = evaluator().run(fake(say), 0)
    asking = evaluator()
    shares = [
        predictions_from("geox", asking.share("geox", rank, 2), asking.ask("geox", fake(say), rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    assert all(shares)
    assert not {p.id for p in shares[0]} & {p.id for p in shares[1]}

    def gather(own: list[Prediction]) -> list[Prediction]:
        assert own == shares[1]
        return shares[0] + shares[1]

    together, gathered = evaluator().run(fake(say), 0, rank=1, world_size=2, gather=gather)
    assert gathered == all_predictions
    assert together["suites"]["geox"]["tasks"] == alone["suites"]["geox"]["tasks"]


def test_flat_names(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    suites = {**geox(city, samples_per_task=4), "geolocate": DistanceSuite(path=str(city))}
    flat = logged_figures(Evaluator(EvaluatorConfig(suites=suites)).run(fake(right(golds)), 0)[0])
    assert {
        "geox/mean_accuracy",
        "geox/mean_ci95_high",
        "geox/pose_fixed/accuracy",
        "geox/pose_fixed/ci95_low",
        "geox/cross_map_random/h_norm",
        "geolocate/acc@25km",
        "geolocate/answered_only/median_km",
        "geox/samples_per_second",
    } <= flat.keys()
    assert all(isinstance(value, int | float) for value in flat.values())
    assert not any("by_source" in name or "confusion" in name for name in flat)
    twice = {"geox": suites["geox"], "hard": CrossViewSuite(path=str(city), tasks=("pose_fixed",))}
    names = logged_figures(Evaluator(EvaluatorConfig(suites=twice)).run(fake(right(golds)), 0)[0]).keys()
    assert {"geox/pose_fixed/accuracy", "hard/pose_fixed/accuracy", "geox/intra_map/accuracy"} <= names


def test_questions_keep_foreign_prompts(golds: dict[str, Sample]) -> None:
    sample = next(iter(golds.values()))
    task = get_task(sample.task)
    for mode in ("generate", "choice"):
        assert as_question(sample, task, mode).prompt == sample.prompt
    foreign = replace(sample, turns=(replace(sample.turns[0], text="<image>\nWhere?"), *sample.turns[1:]))
    assert as_question(foreign, task, "explain_choice").prompt == "<image>\nWhere?"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"answer_mode": "guess"}, "answer_mode=guess: expected one of generate, choice, explain_choice"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"suites": {}}, "suites"),
    ],
)
def test_mistakes_in_options_are_reported(city: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Evaluator(EvaluatorConfig(**{"suites": geox(city), **options}))


def test_an_unreadable_image_is_a_config_error(city: Path, tmp_path: Path, fake: Any) -> None:
    from geotune.errors import BadRecord

    def say(question: Sample) -> str:
        raise BadRecord(question.id, "truncated image")

    with pytest.raises(ConfigError, match=r"evaluator.suites.geox: .*truncated image"):
        Evaluator(EvaluatorConfig(suites=geox(city))).run(fake(say), 0)


def test_a_suite_may_have_a_mode_of_its_own(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    suites = {
        "scored": CrossViewSuite(path=str(city), tasks=("pose_fixed",), answer_mode="choice"),
        "said": CrossViewSuite(path=str(city), tasks=("pose_fixed",)),
        "geolocate": DistanceSuite(path=str(city), answer_mode="choice"),
    }
    answerer = fake(right(golds), lambda question, option: float(option == golds[question.id].response))
    result, predictions = Evaluator(EvaluatorConfig(suites=suites)).run(answerer, 0)
    modes = {name: entry["answer_mode"] for name, entry in result["suites"].items()}
    assert modes == {"scored": "choice", "said": "generate", "geolocate": "generate"}
    assert all((p.option_logprobs is not None) == (p.suite == "scored") for p in predictions)
    assert result["suites"]["scored"]["mean_accuracy"] == 1.0
    with pytest.raises(ConfigError, match="answer_mode=guess"):
        CrossViewSuite(path=str(city), answer_mode="guess")  # type: ignore[arg-type]


def test_scores_from_an_answerer_that_gives_none(city: Path, fake: Any) -> None:
    answerer = fake(pytest.fail, pytest.fail)
    answerer.can_score = False
    with pytest.raises(ConfigError, match=r"^evaluator.answer_mode=choice: .*texts only; set evaluator.answer_"):
        Evaluator(EvaluatorConfig(suites={**geox(city)}, answer_mode="choice")).run(answerer, 0)
    both = {"said": DistanceSuite(path=str(city)), **geox(city, answer_mode="explain_choice")}
    with pytest.raises(ConfigError, match=r"^evaluator.suites.geox.answer_mode=explain_choice"):
        Evaluator(EvaluatorConfig(suites=both)).run(answerer, 0)
    assert not answerer.seen


class Halting:
    """An answerer that fails on some questions, leaves out others, and breaks at one."""

    can_score = True

    def __init__(self, answers: dict[str, str | None], breaks_at: str | None = None) -> None:
        self.answers = answers
        self.breaks_at = breaks_at

    def generate(self, questions: Any, max_new_tokens: int) -> Any:
        for question in questions:
            if question.id == self.breaks_at:
                raise RuntimeError("power cut")
            if question.id in self.answers:
                text = self.answers[question.id]
                how = {"status": "failed", "reason": "timeout"} if text is None else {"status": "answered"}
                yield Outcome(id=question.id, text=text, **how)

    def score_options(self, questions: Any, options: Any, prefix: Any) -> Any:
        for question, texts in zip(questions, options, strict=True):
            yield Outcome(id=question.id, status="answered", option_logprobs=dict.fromkeys(texts, -1.0))


@pytest.mark.parametrize("mode", ["generate", "explain_choice"])
def test_failed_and_missing_answers_count_as_wrong(
    city: Path, golds: dict[str, Sample], mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator = Evaluator(EvaluatorConfig(suites=geox(city, tasks=("pose_fixed",)), answer_mode=mode))
    ids = [sample.id for sample in evaluator.samples("geox")]
    answers = {name: golds[name].response for name in ids[:40]} | {ids[3]: None, ids[9]: None}
    result, predictions = evaluator.run(Halting(answers), 0)
    entry = result["suites"]["geox"]["tasks"]["pose_fixed"]
    assert [p.id for p in predictions] == ids
    assert (entry["n"], entry["parse_rate"]) == (48, pytest.approx(38 / 48))
    assert Counter(p.reason for p in predictions) == {None: 38, "timeout": 2, NOT_ASKED: 8}
    assert {p.score for p in predictions if p.reason} == {0.0}
    assert "suite geox: 2 failed, 8 not_asked of 48 questions, which count as wrong" in caplog.text


def test_outcomes_are_recorded_as_they_come(city: Path, golds: dict[str, Sample]) -> None:
    evaluator = Evaluator(
        EvaluatorConfig(suites={"geolocate": DistanceSuite(path=str(city)), **geox(city, tasks=("pose_fixed",))})
    )
    ids = [sample.id for sample in evaluator.samples("geox")]
    answers = {name: golds[name].response for name in golds}
    kept: list[tuple[str, str]] = []
    with pytest.raises(RuntimeError, match="power cut"):
        evaluator.run(Halting(answers, ids[5]), 0, record=lambda suite, outcome: kept.append((suite, outcome.id)))
    assert kept[12:] == [("geox", name) for name in ids[:5]]
    assert [suite for suite, _ in kept[:12]] == ["geolocate"] * 12


class Broken(CrossViewSuite):
    """A suite that can't measure its predictions."""

    error: Exception = KeyError("regions")
    result: Any = None

    def measure(self, samples: Any, predictions: Any) -> SuiteResult:
        if self.result is not None:
            return self.result  # type: ignore[no-any-return]
        raise self.error


def test_a_suite_that_can_not_measure(
    city: Path, golds: dict[str, Sample], fake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    suites = {"own": Broken(path=str(city), samples_per_task=2), **geox(city, samples_per_task=2)}
    with pytest.raises(RuntimeError, match=r"evaluator.suites.own: Broken can't measure .*KeyError: 'regions'"):
        Evaluator(EvaluatorConfig(suites=suites)).run(fake(right(golds)), 0)
    result, predictions = Evaluator(EvaluatorConfig(suites=suites)).run(fake(right(golds)), 20, strict=False)
    assert "KeyError: 'regions'" in caplog.text
    entry = result["suites"]["own"]
    assert (entry["kind"], entry["failed"], entry["rows"]) == ("failed", "KeyError: 'regions'", [])
    assert result["suites"]["geox"]["mean_accuracy"] == 1.0
    assert result["mean_accuracy"] is None, "not the figure of another suite"
    assert len(predictions) == 28
    assert list(logged_figures({"suites": {"own": entry}})) == ["own/samples_per_second"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"mean_accuracy": 0.5}, "measure returned a dict, not a SuiteResult"),
        (SuiteResult("own", [], {"regions": 3}), "headline 'mean_accuracy': there is no such figure"),
    ],
)
def test_a_result_of_the_wrong_form(city: Path, golds: dict[str, Sample], fake: Any, result: Any, words: str) -> None:
    suite = Broken(path=str(city), samples_per_task=2)
    suite.result = result
    with pytest.raises(RuntimeError, match=words):
        Evaluator(EvaluatorConfig(suites={"own": suite})).run(fake(right(golds)), 0)


def test_an_own_kind_of_result_is_the_entry(city: Path, golds: dict[str, Sample], fake: Any) -> None:
    suite = Broken(path=str(city), samples_per_task=2)
    rows = [SuiteRow({"region": Cell("north"), "rank": Cell(2.25, "decimal")}, figure="north/rank", compared="rank")]
    suite.result = SuiteResult("ranks", rows, {"mean_accuracy": 0.25, "north": {"rank": 2.25}})
    result, _ = Evaluator(EvaluatorConfig(suites={"own": suite})).run(fake(right(golds)), 0)
    entry = result["suites"]["own"]
    assert list(entry) == [
        "answer_mode",
        "samples_per_second",
        "kind",
        "headline",
        "mean_accuracy",
        "north",
        "rows",
    ]
    assert (entry["kind"], entry["headline"]) == ("ranks", "mean_accuracy")


def test_what_the_figures_of_a_suite_depend_on(city: Path, tmp_path: Path) -> None:
    def told(mode: str = "generate", folder: Path = city, tokens: int = 9, **options: Any) -> str:
        config = EvaluatorConfig(suites=geox(folder, **options), answer_mode=mode, max_new_tokens=tokens)  # type: ignore[arg-type]
        return Evaluator(config).told("geox")

    first = told()
    assert first.startswith("generate, ")
    moved = tmp_path / "moved"
    shutil.copytree(city, moved)
    assert told(folder=moved) == first, "the dataset may lie elsewhere"
    others = [told("choice"), told(tokens=8), told(samples_per_task=1), told(tasks=("pose_fixed",)), told(seed=1)]
    assert len({first, *others}) == 6
    records = (moved / "city.jsonl").read_text(encoding="utf-8")
    (moved / "city.jsonl").write_text(records.replace("camera", "photographer"), encoding="utf-8")
    assert told(folder=moved) != first
