"""What a run can and can not be resumed from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.errors import ConfigError
from geotune.train import train
from geotune.training.resuming import read_tensors


def test_runs_that_can_not_be_resumed(recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(recipe(run_dir=str(tmp_path / "run"), **{"trainer.max_steps": 2}))
    last = {"resume": str(tmp_path / "run" / "checkpoints" / "last"), "run_dir": str(tmp_path / "again")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"resume": "last"}, r"resume=last: .*no complete checkpoint"),
        ({"resume": "nowhere"}, r"resume=nowhere: not a complete checkpoint"),
        ({"seed": 1}, r"its seed was 0, now it is 1"),
        ({"data.limit": 20}, r"the training data changed: choice of samples: 24 .* then, 20 .*allow_changes=\[data\]"),
        ({"data.batch_size": 3}, r"its update size was 4, now it is 6"),
        ({"stage.optimizer": "muon"}, r"its optimizer was adamw, now it is muon; set stage\.optimizer=adamw"),
        ({"data.prefix_tree": False}, r"its plan of updates was prefix_tree=true, group_size=13"),
        ({"data.group_size": 5}, r"now it is prefix_tree=true, group_size=5"),
        ({"backbone.lora.r": 4}, r"backbone\.lora\.r=4"),
        ({"trainer.max_steps": 2}, r"at update 2 of 2, nothing is left"),
    ]
    for changes, message in cases:
        with pytest.raises(ConfigError, match=message):
            train(recipe(**(last | changes)))
    (tmp_path / "run" / "checkpoints" / "last" / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"adapter_config\.json: can't be read"):
        train(recipe(**last))


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_torn_trainer_state(tmp_path: Path, size: int) -> None:
    if size == 100:
        torn = b"x" * size  # no archive at all
    else:
        torch.save({"a": torch.ones(4000)}, tmp_path / "whole.pt")
        torn = (tmp_path / "whole.pt").read_bytes()[:size]
    (tmp_path / "trainer.pt").write_bytes(torn)
    with pytest.raises(ConfigError, match=r"trainer\.pt: can't be read .*name another checkpoint"):
        read_tensors(tmp_path / "trainer.pt")


def test_resume_from_torn_trainer_state(recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(recipe(**{"trainer.max_steps": 2}))
    folder = tmp_path / "run" / "checkpoints" / "last"
    for name in ("rng_0.pt", "trainer.pt"):
        (folder / name).write_bytes((folder / name).read_bytes()[:500])
        with pytest.raises(ConfigError, match=rf"{name}: can't be read"):
            train(recipe(resume="last"))
