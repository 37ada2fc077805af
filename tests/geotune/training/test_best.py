"""Which checkpoint is the best: the figure, its direction, and what a resumed run knows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geotune.config.parts import BackboneConfig, DataConfig, EvaluatorConfig, StageConfig
from geotune.config.training import TrainConfig, TrainerConfig
from geotune.errors import ConfigError
from geotune.runs.directory import State
from geotune.training.best import BestCheckpoint, suites_told_by

DISTANCE = {"kind": "distance", "headline": "geoscore", "rows": []}


def evaluation(median_km: float | None = 7.0, geoscore: float = 3.0, accuracy: float = 0.5) -> dict[str, Any]:
    far = DISTANCE | {"median_km": median_km, "geoscore": geoscore}
    geox = {"kind": "tasks", "headline": "mean_accuracy", "mean_accuracy": accuracy, "rows": []}
    return {"step": 4, "suites": {"plain": {"kind": "own", "headline": None, "rows": []}, "far": far, "geox": geox}}


def state(best: float | None, figure: str | None) -> State:
    more: dict[str, Any] = dict.fromkeys(
        ("seed", "data_fingerprint", "plan", "optimizer", "template_hash", "update_size", "wandb_id"), "x"
    )
    numbers = dict.fromkeys(("step", "position", "skipped", "total_updates"), 2)
    return State(**{**more, **numbers, "left_out": {}}, best=best, best_step=2, best_figure=figure)


def test_the_headline_of_the_first_suite_that_has_one() -> None:
    best = BestCheckpoint()
    assert best.value_in(evaluation(geoscore=3.0)) == 3.0
    assert best.figure == "far/geoscore"
    best.value = 3.0
    assert [best.improves(value) for value in (2.0, 3.0, 4.0)] == [False, False, True]


@pytest.mark.parametrize(
    ("named", "direction", "better", "worse"),
    [
        ("far/median_km", None, 5.0, 9.0),
        ("far/median_km", "maximize", 9.0, 5.0),
        ("geox/mean_accuracy", None, 0.9, 0.1),
        ("geox/mean_accuracy", "minimize", 0.1, 0.9),
    ],
)
def test_the_direction(named: str, direction: Any, better: float, worse: float) -> None:
    best = BestCheckpoint(named, direction)
    assert best.improves(worse), "anything is better than nothing"
    best.value = best.value_in(evaluation(7.0, accuracy=0.5))
    assert best.improves(better)
    assert not best.improves(worse)


def test_no_value_is_never_the_best() -> None:
    assert BestCheckpoint("far/median_km").value_in(evaluation(median_km=None)) is None
    failed = evaluation()
    failed["suites"]["far"] = {"kind": "failed", "headline": "geoscore", "failed": "KeyError", "rows": []}
    assert BestCheckpoint("far/median_km").value_in(failed) is None
    assert BestCheckpoint().value_in(failed) is None, "and no other figure takes its place"
    assert BestCheckpoint().value_in({"suites": {"plain": evaluation()["suites"]["plain"]}}) is None
    assert BestCheckpoint().value_in({"step": 3}) is None, "an evaluator without suites"


def test_an_unknown_figure() -> None:
    with pytest.raises(ConfigError, match=r"trainer.best=far/median: .*name one of far/median_km, far/geoscore"):
        BestCheckpoint("far/median").value_in(evaluation())


@pytest.mark.parametrize(
    ("stored", "named", "kept"),
    [
        ("far/geoscore", None, True),
        ("far/geoscore", "far/geoscore", True),
        ("far/geoscore", "far/median_km", False),
        ("geox/mean_accuracy", "other/mean_accuracy", False),
        (None, "geox/mean_accuracy", True),  # an older version stored no name
        (None, None, False),
    ],
)
def test_a_resumed_run(stored: str | None, named: str | None, kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    best = BestCheckpoint(named)
    best.resume(state(2.5, stored))
    assert (best.value, best.step, best.value_of) == (2.5, 2, stored), "a checkpoint before the first evaluation"
    suites = evaluation()["suites"]
    best.value_in({"suites": suites | {"other": suites["geox"]}})
    assert (best.value, best.step) == ((2.5, 2) if kept else (None, None))
    assert best.value_of == (named or "far/geoscore")
    assert ("the best value starts anew" in caplog.text) != kept


@pytest.mark.parametrize(
    ("stored", "direction", "suite", "kept"),
    [
        ("maximize, generate, 9 questions (a)", None, "generate, 9 questions (a)", True),
        ("maximize, generate, 9 questions (a)", "maximize", "generate, 9 questions (a)", True),
        ("maximize, generate, 9 questions (a)", None, "generate, 8 questions (b)", False),
        ("maximize, generate, 9 questions (a)", None, "choice, 9 questions (a)", False),
        ("maximize, generate, 9 questions (a)", "minimize", "generate, 9 questions (a)", False),
        ("minimize", "minimize", None, True),
        (None, "minimize", "generate, 9 questions (a)", True),  # an older version, which can't be compared
    ],
)
def test_a_best_value_belongs_to_an_evaluator(
    stored: str | None, direction: Any, suite: str | None, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    best = BestCheckpoint("far/geoscore", direction, {"far": suite, "geox": "any"} if suite else {})
    best.resume(replace(state(2.5, "far/geoscore"), best_evaluator=stored))
    assert (best.step, best.value_by) == (2, stored)
    best.value_in(evaluation())
    assert (best.value, best.step) == ((2.5, 2) if kept else (None, None))
    assert best.value_by == ", ".join(filter(None, (direction or "maximize", suite)))
    assert (f"that of far/geoscore ({stored}) and is now that of far/geoscore ({best.value_by})" in caplog.text) != kept


class Telling:
    def suites_told(self) -> dict[str, str]:
        return {"far": "1 question"}


def test_what_tells_the_figures_of_suites_from_others() -> None:
    node = {"suites": {"far": {"path": "a"}}, "answer_mode": "choice", "every": 2, "at_start": True, "batch_size": 3}
    assert suites_told_by([Telling()], node) == {"far": "1 question"}
    own = suites_told_by([object()], node)
    assert own == suites_told_by([object()], {**node, "every": 5, "at_start": False, "batch_size": 1})
    assert own != suites_told_by([object()], {**node, "answer_mode": "generate"})
    assert suites_told_by([], None) == {}
    best = BestCheckpoint("other/x", suites=own)
    assert best.value_by == f"maximize, {own['']}", "an evaluator that does not tell its suites apart"


SUITE = {"_target_": "x"}


def recipe(best: str | None, suites: dict[str, Any] | None) -> TrainConfig:
    return TrainConfig(
        recipe="r",
        backbone=BackboneConfig(path="p", max_pixels=1),
        stage=StageConfig(),
        data=DataConfig(path="p", batch_size=1),
        trainer=TrainerConfig(max_steps=1, best=best),
        evaluator=None if suites is None else EvaluatorConfig(suites=suites),
    )


@pytest.mark.parametrize(
    ("best", "suites", "problems"),
    [
        (None, None, []),
        (None, {"far": SUITE}, []),
        ("far/median_km", {"far": SUITE}, []),
        ("far/a/b", {"far": SUITE}, []),
        ("far", {"far": SUITE}, ["trainer.best=far: write <suite>/<figure> or"]),
        ("far/", {"far": SUITE}, ["trainer.best=far/: write <suite>/<figure> or"]),
        ("fare/x", {"far": SUITE}, ["trainer.best=fare/x: there is no suite fare; did you mean far/x?"]),
        ("far/x", None, ["trainer.best=far/x: there is no evaluator to give a figure"]),
        (None, {"a/b": SUITE}, ["suites=a/b: a suite's name is the first part"]),
    ],
)
def test_what_is_known_before_anything_is_evaluated(
    best: str | None, suites: dict[str, Any] | None, problems: list[str]
) -> None:
    found: list[str] = []
    try:
        recipe(best, suites)
    except ConfigError as error:
        found = [str(problem) for problem in error.problems]
    assert len(found) == len(problems)
    assert all(text.startswith(start) for text, start in zip(found, problems, strict=True))
