"""When evaluators run, and that they do not change the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geotune.train import train

DROPOUT = {"backbone.lora.dropout": 0.2}
"""Makes a run depend on its random state."""


def test_evaluators_set_their_own_pace(recipe: Callable[..., Any], evaluator: Any) -> None:
    train(recipe(**evaluator.config(every=4, at_start=False), **{"trainer.max_steps": 5}))
    assert [step for step, _ in evaluator.calls] == [4, 5]


def test_evaluation_does_not_move_the_run(recipe: Callable[..., Any], tmp_path: Path, evaluator: Any) -> None:
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    train(recipe(run_dir=str(plain), **DROPOUT))
    train(recipe(run_dir=str(watched), **DROPOUT, **evaluator.config(every=1)))
    assert (plain / "updates.jsonl").read_text() == (watched / "updates.jsonl").read_text()
