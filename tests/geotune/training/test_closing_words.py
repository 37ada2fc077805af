"""What a run says at its end."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from geotune.runs.directory import evaluation_path
from geotune.system.screen import as_text
from geotune.training.best import BestCheckpoint
from geotune.training.closing_words import before_and_after, closing_words, next_steps


def evaluation(step: int, accuracy: float, *, mode: str = "generate", n: int = 40) -> dict[str, Any]:
    """An evaluation of a suite of one task and one of distances, as files hold them."""
    task = {"n": n, "accuracy": accuracy, "ci95": [0.0, 1.0], "chance": 0.25, "parse_rate": 1.0}
    geox = {"tasks": {"pose_fixed": task}, "mean_accuracy": accuracy, "mean_ci95": [0.0, 1.0]}
    distance = {"n": 10, "median_km": 12_345.6, "geoscore": 1234.5 + step}
    suites = {"geox": {"answer_mode": mode, **geox}, "geolocate": {"answer_mode": "generate", **distance}}
    return {"step": step, "suites": {name: entry | {"samples_per_second": 3.0} for name, entry in suites.items()}}


def lines(first: dict[str, Any], last: dict[str, Any]) -> list[list[str]]:
    table = before_and_after(first, last)
    assert table is not None
    return [line.split() for line in as_text(table).splitlines() if "─" not in line]


def test_figures_before_and_after() -> None:
    assert lines(evaluation(0, 0.019), evaluation(300, 0.825)) == [
        ["figure,", "answer", "mode", "step", "0", "step", "300"],
        ["geox/mean_accuracy,", "generate", "1.9%", "82.5%"],
        ["geolocate/geoscore,", "generate", "1,234.5", "1,534.5"],
    ]
    assert lines(evaluation(300, 0.5), evaluation(300, 0.5))[:2] == [
        ["figure,", "answer", "mode", "step", "300"],
        ["geox/mean_accuracy,", "generate", "50.0%"],
    ]


@pytest.mark.parametrize("first", [evaluation(0, 0.3, mode="choice"), evaluation(0, 0.3, n=8)])
def test_figures_that_were_found_in_another_way_are_not_compared(first: dict[str, Any]) -> None:
    assert lines(first, evaluation(300, 0.825))[1:] == [
        ["geox/mean_accuracy,", "generate", "-", "82.5%"],
        ["geolocate/geoscore,", "generate", "1,234.5", "1,534.5"],
    ]


def test_suites_without_a_figure_are_left_out() -> None:
    last = evaluation(300, 0.825)
    last["suites"]["geox"] = {"kind": "failed", "answer_mode": "generate", "headline": "mean_accuracy", "rows": []}
    assert [line[0] for line in lines(evaluation(0, 0.1), last)[1:]] == ["geolocate/geoscore,"]
    # A suite that another evaluator has measured need not name its answer mode.
    last["suites"] = {"own": {"kind": "own", "headline": "score", "score": 1}}
    assert before_and_after(evaluation(0, 0.1), last) is None


def test_the_whole_text(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    for content in (evaluation(0, 0.019), evaluation(300, 0.825)):
        path = evaluation_path(run, content["step"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (run / "wandb" / "offline-run-1").mkdir(parents=True)
    (run / "accuracy.png").touch()
    (run / "maps").mkdir()
    for name in ("a_step_000000.png", "a_step_000300.png", "b_step_000300.png"):
        (run / "maps" / name).touch()
    best = BestCheckpoint("geox/mean_accuracy")
    best.step, best.value = 150, 0.83123
    text = closing_words(run, best, updates=300, seconds=312)
    assert text.startswith(f"300 updates in 5 min: {run}\n\n")
    assert "82.5%" in text
    assert f"best checkpoint: {run}/checkpoints/step_000150 (geox/mean_accuracy 0.8312)\n" in text
    assert f"plot: {run}/accuracy.png\n" in text
    assert re.findall(r"map: .*/(.*)", text) == ["a_step_000300.png", "b_step_000300.png"]
    commands = [line.partition(": ")[2] for line in text.splitlines() if ": geotune " in line]
    assert [shlex.split(command)[:3] for command in commands] == [
        ["geotune", "locate", f"checkpoint={run}"],
        ["geotune", "export", f"checkpoint={run}"],
    ]
    assert text.endswith(f"upload to W&B: wandb sync '{run}/wandb'/offline-run-*")


def test_a_run_without_evaluation(tmp_path: Path) -> None:
    state = tmp_path / "checkpoints" / "step_000002" / "state.json"
    state.parent.mkdir(parents=True)
    state.touch()
    text = closing_words(tmp_path, BestCheckpoint(), updates=2, seconds=3)
    assert text.splitlines()[:4] == [
        f"2 updates in 3 s: {tmp_path}",
        "",
        f"last checkpoint: {tmp_path}/checkpoints/step_000002",
        "",
    ]
    assert len(next_steps(tmp_path)) == 2
