"""A stage that geotune does not know is logged, shown, saved and resumed: nothing but the stage knows its figures."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import geotune
from geotune.errors import ConfigError
from geotune.train import train
from geotune.training import progress_bar
from geotune.training.monitor import PERF_FIGURES
from tests.geotune.training.own_stage import OwnStage
from tests.wandb_offline import wandb_records

OWN = {"stage._target_": "tests.geotune.training.own_stage.OwnStage", "backbone.lora.dropout": 0.2}


def updates_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "updates.jsonl").read_text().splitlines()]


def table_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state_of(run_dir: Path, step: int) -> Any:
    return torch.load(run_dir / "checkpoints" / f"step_{step:06d}" / "trainer.pt", weights_only=True)


def test_files_of_a_foreign_stage(recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(progress_bar, "progress_bar", lambda *work: nullcontext(lambda *told: shown.append(told)))
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = train(recipe(**OWN, **{"wandb.mode": "offline"}))
    run = tmp_path / "run"
    updates = updates_of(run)
    assert [list(update) for update in updates] == [
        ["step", "reward", "clip, share", *(["kl"] if update["step"] > 2 else []), "targets", "ids"]
        for update in updates
    ]
    assert all(update["clip, share"] is None for update in updates), "not finite"
    assert {update["kl"] for update in updates[2:]} == {0.25}

    header = (run / "metrics.csv").read_text().splitlines()[0]
    figures = ["train/reward", '"train/clip, share"', "train/kl", "train/lr", "train/grad_norm", "train/skipped"]
    assert header == ",".join(["step", *figures, *(f"perf/{name}" for name in PERF_FIGURES)])
    rows = table_of(run)
    assert [row["train/kl"] for row in rows] == ["", "0.25", "0.25"], "a column that the first line did not have"
    assert [row["train/clip, share"] for row in rows] == ["inf"] * 3
    for row, two in zip(rows, zip(updates[::2], updates[1::2], strict=True), strict=True):
        mean = sum(update["reward"] * len(update["ids"]) for update in two) / sum(len(u["ids"]) for u in two)
        assert float(row["train/reward"]) == pytest.approx(mean), "the mean over samples, not over updates"
        assert float(row["train/grad_norm"]) > 0
        assert float(row["perf/samples_per_second"]) > 0
    assert result["train"]["train/kl"] == 0.25

    history: dict[str, list[Any]] = {}
    for record in wandb_records(run):
        for item in record.history.item:
            history.setdefault("/".join(item.nested_key) or item.key, []).append(json.loads(item.value_json))
    assert history["train/reward"] == [float(row["train/reward"]) for row in rows]
    assert history["train/kl"] == [0.25, 0.25]

    assert len(shown) == 6, "once an update, although each has several micro-batches"
    assert shown[0] == (1, [])
    steps, (reward, speed) = shown[-1]
    assert (steps, reward) == (1, f"reward {result['train']['train/reward']:.4g}")
    assert speed.endswith(" tokens/s")


def child() -> None:
    """Trains, and is killed in the middle of update 4."""
    from omegaconf import OmegaConf

    own = OwnStage.training_step

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if batch.update == 3 and batch_idx % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(self, batch, batch_idx)

    OwnStage.training_step = step  # type: ignore[method-assign]
    train(OmegaConf.load(sys.argv[1]))  # type: ignore[arg-type]


def test_the_state_of_a_stage_outlives_a_kill(recipe: Callable[..., Any], tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe(run_dir=str(whole), **OWN))
    OmegaConf.save(recipe(run_dir=str(broken), **OWN), tmp_path / "child.yaml")
    killed = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "child.yaml")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(geotune.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert state_of(broken, 2)["stage"]["weight"] == 0.25
    assert [update["step"] for update in updates_of(broken)] == [1, 2, 3]
    train(recipe(run_dir=str(broken), resume="last", **OWN))
    assert updates_of(broken) == updates_of(whole)
    timeless = [{k: v for k, v in row.items() if "perf/" not in k} for row in table_of(whole)]
    assert [{k: v for k, v in row.items() if "perf/" not in k} for row in table_of(broken)] == timeless
    one, two = state_of(whole, 6), state_of(broken, 6)
    assert one["stage"]["history"].tolist() == [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert str(one) == str(two)
    a, b = (load_file(next((run / "checkpoints" / "last").glob("adapter/*.safetensors"))) for run in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_of_another_stage(
    recipe: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = {"trainer.max_steps": 2}
    train(recipe(run_dir=str(tmp_path / "own"), **OWN, **short))
    train(recipe(run_dir=str(tmp_path / "sft"), **short))
    own, sft = (str(tmp_path / name / "checkpoints" / "last") for name in ("own", "sft"))
    with pytest.raises(ConfigError, match=r"trainer\.pt: does not fit this stage \(SFT has no state of its own"):
        train(recipe(run_dir=str(tmp_path / "a"), resume=own))
    with caplog.at_level("WARNING", logger="geotune.training.resuming"):
        train(recipe(run_dir=str(tmp_path / "b"), resume=sft, **OWN, **{"trainer.max_steps": 3}))
    assert "holds no state of the stage OwnStage, which starts afresh" in caplog.text
    assert state_of(tmp_path / "b", 3)["stage"]["history"].tolist() == [1.0]


def test_a_checkpoint_from_before_stages_had_a_state(
    recipe: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, old = tmp_path / "whole", tmp_path / "old"
    train(recipe(run_dir=str(whole)))
    train(recipe(run_dir=str(old), **{"trainer.max_steps": 2}))
    file = old / "checkpoints" / "step_000002" / "trainer.pt"
    tensors = torch.load(file, weights_only=True)
    assert tensors.pop("stage") == {}
    torch.save(tensors, file)
    train(recipe(run_dir=str(tmp_path / "short"), **{"trainer.max_steps": 2}))
    assert updates_of(old) == updates_of(tmp_path / "short")
    caplog.clear()
    train(recipe(run_dir=str(old), resume="last"))
    assert "no state" not in caplog.text
    assert [u["ids"] for u in updates_of(old)] == [u["ids"] for u in updates_of(whole)]
    assert str(state_of(old, 6)["scheduler"]) == str(state_of(whole, 6)["scheduler"])


def test_mistakes_of_a_stage(recipe: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match=r"CollidingStage\.metrics: grad_norm is not a figure of the stage"):
        train(recipe(**{"stage._target_": "tests.geotune.training.own_stage.CollidingStage"}))
    with pytest.raises(TypeError, match=r"UnreadableStage\.extra_state: torch\.load\(weights_only=True\)"):
        train(recipe(**{"stage._target_": "tests.geotune.training.own_stage.UnreadableStage"}))


if __name__ == "__main__":
    child()
