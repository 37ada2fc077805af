"""An interrupted and resumed run is the uninterrupted one; links and pruning; when evaluators are called."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import geotune
from geotune.errors import ConfigError
from geotune.runs.directory import belongs_to, checkpoint_steps, read_state
from geotune.stages.sft import SFT
from geotune.train import train
from geotune.training import checkpointing
from geotune.training.checkpointing import read_tensors
from geotune.training.random_state import rng_state, set_rng_state

DROPOUT = {"backbone.lora.dropout": 0.2}
"""So that a run depends on its random state."""


def updates_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "updates.jsonl").read_text().splitlines()]


def figures_of(run_dir: Path) -> list[list[str]]:
    """metrics.csv without the timings."""
    return [line.split(",")[:5] for line in (run_dir / "metrics.csv").read_text().splitlines()]


def weights_of(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "checkpoints" / f"step_{step:06d}" / "adapter" / "adapter_model.safetensors")


def same_run(one: Path, two: Path, step: int) -> None:
    assert updates_of(one) == updates_of(two)
    assert figures_of(one) == figures_of(two)
    a, b = weights_of(one, step), weights_of(two, step)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    first, second = (
        torch.load(run / "checkpoints" / f"step_{step:06d}" / "trainer.pt", weights_only=True) for run in (one, two)
    )
    assert str(first) == str(second)


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """`fail_at(update, what)`: `what` happens in the middle of an update, once."""
    own = SFT.training_step

    def arrange(update: int, what: Callable[[], None]) -> None:
        done: list[int] = []

        def step(self: Any, batch: Any, batch_idx: int) -> Any:
            if batch.update == update and not done:
                done.append(update)
                what()
            return own(self, batch, batch_idx)

        monkeypatch.setattr(SFT, "training_step", step)

    return arrange


def crash() -> None:
    raise RuntimeError("power cut")


def test_resumed_run_is_the_uninterrupted_one(recipe: Callable[..., Any], tmp_path: Path, fail_at: Any) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe(**DROPOUT, run_dir=str(whole)))
    assert [update["step"] for update in updates_of(whole)] == [1, 2, 3, 4, 5, 6]
    assert len({tuple(update["ids"]) for update in updates_of(whole)}) == 6
    fail_at(4, crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe(**DROPOUT, run_dir=str(broken)))
    assert checkpoint_steps(broken) == [2, 4]
    torch.manual_seed(99)
    train(recipe(**DROPOUT, run_dir=str(broken), resume="last"))
    same_run(whole, broken, 6)
    train(recipe(run_dir=str(tmp_path / "without")))
    assert updates_of(tmp_path / "without") != updates_of(whole), "dropout has no effect"


def test_muon_resumes_as_well(recipe: Callable[..., Any], tmp_path: Path, fail_at: Any) -> None:
    muon = {"stage.optimizer": "muon"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe(run_dir=str(whole), **muon))
    fail_at(3, crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe(run_dir=str(broken), **muon))
    train(recipe(run_dir=str(broken), resume="last", **muon))
    same_run(whole, broken, 6)


def test_resume_from_an_older_checkpoint_drops_later_lines(recipe: Callable[..., Any], tmp_path: Path) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    train(recipe(run_dir=str(whole), **{"trainer.keep_last": 9}))
    train(recipe(run_dir=str(other), **{"trainer.keep_last": 9}))
    train(recipe(run_dir=str(other), resume=str(other / "checkpoints" / "step_000002")))
    same_run(whole, other, 6)


def test_ctrl_c_leaves_a_usable_checkpoint(recipe: Callable[..., Any], tmp_path: Path, fail_at: Any) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rare = {"trainer.checkpoint_every": 100, "trainer.log_every": 3, **DROPOUT}
    train(recipe(run_dir=str(whole), **rare))
    handler = signal.getsignal(signal.SIGINT)
    fail_at(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(recipe(run_dir=str(broken), **rare))
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoint_steps(broken) == [3]
    assert [update["step"] for update in updates_of(broken)] == [1, 2, 3]
    assert not list((broken / "checkpoints").glob(".*"))
    train(recipe(run_dir=str(broken), resume="last", **rare))
    same_run(whole, broken, 6)


def in_a_process(config: Any, folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    """`train(config)` in a process of its own, to which `what` happens."""
    from omegaconf import OmegaConf

    OmegaConf.save(config, folder / "config_of_child.yaml")
    return subprocess.run(
        [sys.executable, __file__, str(folder / "config_of_child.yaml"), what],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(geotune.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=180,
    )


def child() -> None:
    """What the process of `in_a_process` does."""
    from omegaconf import OmegaConf

    config, what = sys.argv[1:]
    own_step, own_write = SFT.training_step, checkpointing.write_json

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if what == "killed in update 3" and batch.update == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "full disk" and batch.update == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return own_step(self, batch, batch_idx)

    def write(file: Path, value: dict[str, Any]) -> None:
        if what == "killed in checkpoint 4" and value.get("step") == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        own_write(file, value)

    SFT.training_step = step  # type: ignore[method-assign]
    checkpointing.write_json = write
    try:
        train(OmegaConf.load(config))  # type: ignore[arg-type]
    except ConfigError as error:
        sys.exit(str(error))


@pytest.mark.parametrize("moment", ["killed in update 3", "killed in checkpoint 4"])
@pytest.mark.parametrize("tree", [True, False])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    recipe: Callable[..., Any], tmp_path: Path, moment: str, tree: bool
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    changes = DROPOUT | {"data.prefix_tree": tree}
    train(recipe(**changes, run_dir=str(whole)))
    killed = in_a_process(recipe(**changes, run_dir=str(broken)), tmp_path, moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint_steps(broken) == [2]
    assert (broken / "checkpoints" / "last").resolve().name == "step_000002"
    train(recipe(**changes, run_dir=str(broken), resume="last"))
    same_run(whole, broken, 6)


def test_a_full_disk_is_one_clear_error_and_costs_no_checkpoint(recipe: Callable[..., Any], tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the libraries, as it would."""
    run = tmp_path / "run"
    stopped = in_a_process(recipe(**{"trainer.log_every": 100}), tmp_path, "full disk")
    assert stopped.returncode == 1
    assert "the checkpoint of update 4 could not be written" in stopped.stderr
    assert "go on with resume=last from step_000002" in stopped.stderr.splitlines()[-1]
    assert checkpoint_steps(run) == [2]
    assert not list((run / "checkpoints").glob(".*"))
    train(recipe(resume="last"))
    assert checkpoint_steps(run) == [4, 6]


class FakeEvaluator:
    """Stands for the in-loop evaluator: says when it was called and gives the accuracies it was told to."""

    calls: list[tuple[int, float]]
    accuracies: dict[int, float]
    drop: Callable[[int], None] | None = None

    def __new__(cls, every: int | None = None, at_start: bool = True) -> Any:
        from lightning.pytorch import Callback

        class Evaluator(Callback):
            def __init__(self) -> None:
                self.every = every
                self.at_start = at_start

            def prepare(self) -> None:
                """There is nothing to load."""

            def evaluate(self, trainer: Any, stage: Any, step: int) -> dict[str, Any]:
                assert stage.step == step
                assert stage.run_dir.is_dir()
                torch.rand(3)  # an evaluator may draw
                weight = stage.backbone.base.model.language_model.layers[0].self_attn.q_proj.lora_B["default"].weight
                FakeEvaluator.calls.append((step, float(weight.detach().abs().sum())))
                if FakeEvaluator.drop:
                    FakeEvaluator.drop(step)
                (stage.run_dir / "eval").mkdir(exist_ok=True)
                (stage.run_dir / "eval" / f"step_{step:06d}.json").write_text("{}")
                return {"step": step, "mean_accuracy": FakeEvaluator.accuracies.get(step)}

        return Evaluator()


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("fake_evaluator")
    module.FakeEvaluator = FakeEvaluator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_evaluator", module)
    FakeEvaluator.calls, FakeEvaluator.accuracies, FakeEvaluator.drop = [], {}, None
    return FakeEvaluator


def with_evaluator(**settings: Any) -> dict[str, Any]:
    return {"evaluator": {"_target_": "fake_evaluator.FakeEvaluator", **settings}}


def test_evaluators_and_links(recipe: Callable[..., Any], tmp_path: Path, evaluator: Any) -> None:
    run = tmp_path / "run"
    evaluator.accuracies = {0: 0.9, 2: 0.5, 4: 0.4, 6: 0.45}  # at step 0 there is no checkpoint to point to
    result = train(recipe(**with_evaluator(), **{"trainer.keep_last": 1}))
    assert [step for step, _ in evaluator.calls] == [0, 2, 4, 6]
    assert [weight > 0 for _, weight in evaluator.calls] == [False, True, True, True]
    assert checkpoint_steps(run) == [2, 6], "the newest and the best"
    folder = run / "checkpoints"
    assert (folder / "best").is_symlink()
    assert os.readlink(folder / "best") == "step_000002"
    assert os.readlink(folder / "last") == "step_000006"
    assert read_state(folder / "step_000006").best_step == 2
    assert result["mean_accuracy"] == 0.45
    assert json.loads((run / "metrics.json").read_text())["step"] == 6


def test_evaluators_set_their_own_pace(recipe: Callable[..., Any], evaluator: Any) -> None:
    train(recipe(**with_evaluator(every=4, at_start=False), **{"trainer.max_steps": 5}))
    assert [step for step, _ in evaluator.calls] == [4, 5]


def test_evaluation_does_not_move_the_run(recipe: Callable[..., Any], tmp_path: Path, evaluator: Any) -> None:
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    train(recipe(run_dir=str(plain), **DROPOUT))
    train(recipe(run_dir=str(watched), **DROPOUT, **with_evaluator(every=1)))
    assert updates_of(plain) == updates_of(watched)


def test_an_evaluation_that_was_cut_off_is_made_up_for(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any
) -> None:
    run = tmp_path / "run"
    evaluator.accuracies = {0: 0.3, 2: 0.5, 4: 0.6, 6: 0.2}

    def fail(step: int) -> None:
        if step == 4:
            crash()

    evaluator.drop = fail
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe(**with_evaluator()))
    assert checkpoint_steps(run) == [2, 4]
    evaluator.drop = None
    train(recipe(**with_evaluator(), resume="last"))
    assert [step for step, _ in evaluator.calls] == [0, 2, 4, 4, 6]
    assert os.readlink(run / "checkpoints" / "best") == "step_000004"


def test_fully_trained_parts_are_in_the_checkpoint(recipe: Callable[..., Any], tmp_path: Path, fail_at: Any) -> None:
    full = {"backbone.projector": "full", "backbone.language_model": "full"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe(run_dir=str(whole), **full))
    fail_at(3, crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe(run_dir=str(broken), **full))
    train(recipe(run_dir=str(broken), resume="last", **full))
    assert updates_of(whole) == updates_of(broken)
    a, b = (load_file(run / "checkpoints" / "last" / "model" / "trained.safetensors") for run in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not (whole / "checkpoints" / "last" / "adapter").exists()


def test_runs_that_can_not_be_resumed(recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(recipe(run_dir=str(tmp_path / "run"), **{"trainer.max_steps": 2}))
    last = {"resume": str(tmp_path / "run" / "checkpoints" / "last"), "run_dir": str(tmp_path / "again")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"resume": "last"}, r"resume=last: .*no complete checkpoint"),
        ({"resume": "nowhere"}, r"resume=nowhere: not a complete checkpoint"),
        ({"seed": 1}, r"its seed was 0, now it is 1"),
        ({"data.limit": 20}, r"its data was"),
        ({"data.batch_size": 3}, r"its update size was 4, now it is 6"),
        ({"stage.optimizer": "muon"}, r"its optimizer was adamw, now it is muon; set stage\.optimizer=adamw"),
        ({"data.prefix_tree": False}, r"its way to deal out samples was prefix_tree=true, group_size=13"),
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


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_run_stopped_in_its_last_evaluation_can_be_finished(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, evaluated: bool
) -> None:
    run, changes = tmp_path / "run", with_evaluator() | {"trainer.max_steps": 2}
    evaluator.accuracies = {2: 0.5}
    if evaluated:
        whole = train(recipe(**changes))
        (run / "eval" / "step_000002.json").write_text('{"step": 2, "mean_accuracy": 0.5}')
        (run / "metrics.json").unlink()
    else:
        evaluator.drop = lambda step: crash() if step == 2 else None
        with pytest.raises(RuntimeError, match="power cut"):
            train(recipe(**changes))
        evaluator.drop = None
    result = train(recipe(**changes, resume="last"))
    assert [step for step, _ in evaluator.calls] == ([0, 2] if evaluated else [0, 2, 2])
    assert (result["step"], result["mean_accuracy"]) == (2, 0.5)
    assert result["train"]["train/loss"] > 0
    assert not evaluated or result == whole
    assert json.loads((run / "metrics.json").read_text()) == result
    assert os.readlink(run / "checkpoints" / "best") == "step_000002"
    with pytest.raises(ConfigError, match="nothing is left"):
        train(recipe(**changes, resume="last"))


def test_going_on_in_another_folder_leaves_the_best_behind(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator.accuracies = {2: 0.9, 4: 0.5}
    train(recipe(**with_evaluator(), **{"trainer.max_steps": 2}))
    other = tmp_path / "other"
    first = tmp_path / "run" / "checkpoints" / "step_000002"
    changes = with_evaluator() | {"trainer.max_steps": 4, "run_dir": str(other)}
    with caplog.at_level("WARNING", logger="geotune.training.checkpointing"):
        train(recipe(**changes, resume=str(first)))
    assert "a run of 2 updates and is now one of 4" in caplog.text
    assert os.readlink(other / "checkpoints" / "best") == "step_000004"
    assert read_state(other / "checkpoints" / "last").best == 0.5
    assert belongs_to(first, tmp_path / "run")
    assert not belongs_to(first, tmp_path)


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


def test_broken_state(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ConfigError, match="not the state of a checkpoint"):
        read_state(tmp_path)
    assert checkpoint_steps(tmp_path) == []


def test_random_state_round_trip(tmp_path: Path) -> None:
    torch.save(rng_state(), tmp_path / "rng.pt")
    wanted = (torch.rand(3), np.random.rand(3), __import__("random").random())
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    found = (torch.rand(3), np.random.rand(3), __import__("random").random())
    assert torch.equal(found[0], wanted[0])
    assert found[1].tolist() == wanted[1].tolist()
    assert found[2] == wanted[2]


if __name__ == "__main__":
    child()
