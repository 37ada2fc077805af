"""What several test files of training share: a stand-in for the in-loop evaluator."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from geotune.config.options import PartOptions


@dataclass
class FakeConfig(PartOptions):
    every: int | None = None
    at_start: bool = True


class FakeEvaluator:
    """Stands in for the in-loop evaluator: notes its calls, and returns the accuracies that a test sets."""

    Config = FakeConfig

    calls: list[tuple[int, float]]
    accuracies: dict[int, float]
    drop: Callable[[int], None] | None = None

    @staticmethod
    def config(**settings: Any) -> dict[str, Any]:
        """The part of a recipe that names this evaluator."""
        return {"evaluator": {"_target_": "fake_evaluator.FakeEvaluator", **settings}}

    def __new__(cls, config: FakeConfig) -> Any:
        from lightning.pytorch import Callback

        class Evaluator(Callback):
            def __init__(self) -> None:
                self.every = config.every
                self.at_start = config.at_start

            def prepare(self) -> None:
                """There is nothing to load."""

            def evaluate(self, trainer: Any, stage: Any, step: int) -> dict[str, Any]:
                assert stage.progress.step == step
                run_dir = stage.progress.run_dir
                assert run_dir.is_dir()
                torch.rand(3)  # an evaluator may draw
                weight = stage.backbone.base.model.language_model.layers[0].self_attn.q_proj.lora_B["default"].weight
                FakeEvaluator.calls.append((step, float(weight.detach().abs().sum())))
                if FakeEvaluator.drop:
                    FakeEvaluator.drop(step)
                (run_dir / "eval").mkdir(exist_ok=True)
                (run_dir / "eval" / f"step_{step:06d}.json").write_text("{}")
                accuracy = FakeEvaluator.accuracies.get(step)
                suite = {"kind": "tasks", "headline": "mean_accuracy", "mean_accuracy": accuracy}
                distances = {"kind": "distance", "headline": "geoscore", "median_km": 0 if step == 0 else 100 / step}
                suites = {"geox": suite, "geolocate": {**distances, "geoscore": float(step)}}
                return {"step": step, "mean_accuracy": accuracy, "suites": suites}

        return Evaluator()


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of the evaluator, importable by its `_target_`, without calls so far."""
    module = types.ModuleType("fake_evaluator")
    module.FakeEvaluator = FakeEvaluator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_evaluator", module)
    FakeEvaluator.calls, FakeEvaluator.accuracies, FakeEvaluator.drop = [], {}, None
    return FakeEvaluator
