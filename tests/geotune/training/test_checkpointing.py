"""An interrupted and resumed run equals the uninterrupted one; links, pruning, and evaluations around checkpoints."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import geotune
from geotune.errors import ConfigError
from geotune.runs import logs
from geotune.runs.claim import CLAIM_FILE, FolderClaim
from geotune.runs.directory import belongs_to, checkpoint_steps, read_state
from geotune.stages.sft import SFT
from geotune.system.files import DiskFullError
from geotune.system.interruption import SIGNALS, Stopped
from geotune.train import train
from geotune.training import checkpointing

DROPOUT = {"backbone.lora.dropout": 0.2}
"""Makes a run depend on its random state."""


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
    """`fail_at(update, what)` calls `what` in the middle of an update, once."""
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


def test_resume_from_an_older_checkpoint_moves_the_later_ones_aside(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    changes = evaluator.config() | {"trainer.keep_last": 2}
    evaluator.accuracies = {2: 0.5, 4: 0.6, 6: 0.7}
    train(recipe(run_dir=str(whole), **changes))
    train(recipe(run_dir=str(other), **changes))
    before = (other / "updates.jsonl").read_text()
    evaluator.accuracies = {4: 0.6, 6: 0.3}
    train(recipe(run_dir=str(other), resume=str(other / "checkpoints" / "step_000004"), **changes))
    same_run(whole, other, 6)
    assert checkpoint_steps(other) == [4, 6]
    assert os.readlink(other / "checkpoints" / "last") == "step_000006"
    assert os.readlink(other / "checkpoints" / "best") == "step_000004", "not the one that was moved aside"
    aside = other / "aside" / "1"
    assert checkpoint_steps(aside) == [6]
    assert read_state(aside / "checkpoints" / "step_000006").best_step == 6
    assert (aside / "updates.jsonl").read_text() == before
    assert (aside / "metrics.json").is_file()
    assert f"after update 4 is now in {aside}" in caplog.text


def test_a_best_checkpoint_that_is_gone_is_forgotten(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    evaluator.accuracies = {2: 0.9, 4: 0.3, 6: 0.4}
    train(recipe(**evaluator.config(), **{"trainer.max_steps": 4}))
    shutil.rmtree(run / "checkpoints" / "step_000002")
    train(recipe(**evaluator.config(), resume="last"))
    assert "the best checkpoint, that of update 2, is gone" in caplog.text
    assert os.readlink(run / "checkpoints" / "best") == "step_000006"


def test_pruning_leaves_what_this_run_has_not_written(recipe: Callable[..., Any], tmp_path: Path) -> None:
    foreign = tmp_path / "run" / "checkpoints" / "step_000100"
    foreign.mkdir(parents=True)
    (foreign / "state.json").write_text("{}")
    train(recipe(**{"trainer.keep_last": 1}))
    assert checkpoint_steps(tmp_path / "run") == [6, 100]
    assert os.readlink(foreign.parent / "last") == "step_000006"


def test_a_run_whose_folder_was_taken_writes_no_checkpoint(
    recipe: Callable[..., Any], tmp_path: Path, fail_at: Any
) -> None:
    run = tmp_path / "run"

    def take() -> None:
        (run / CLAIM_FILE).write_text(replace(FolderClaim.of_this_process(), pid=1).text())

    fail_at(2, take)
    with pytest.raises(ConfigError, match="another run has taken this folder"):
        train(recipe())
    assert checkpoint_steps(run) == [2]


def test_a_request_to_stop_leaves_a_usable_checkpoint(
    recipe: Callable[..., Any], tmp_path: Path, fail_at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """By either signal; the data workers may get it too, and must serve the rest of the update."""
    whole = tmp_path / "whole"
    rare = {"trainer.checkpoint_every": 100, "trainer.log_every": 3, **DROPOUT}
    train(recipe(run_dir=str(whole), **rare))

    def send(number: int) -> None:
        for process in [*(worker.pid for worker in multiprocessing.active_children()), os.getpid()]:
            assert process is not None
            os.kill(process, number)

    for number, workers in ((signal.SIGINT, 0), (signal.SIGTERM, 1)):
        broken, handlers = tmp_path / f"broken {number}", [signal.getsignal(number) for number in SIGNALS]
        fail_at(2, partial(send, number))
        with pytest.raises(Stopped) as stop:
            train(recipe(run_dir=str(broken), **rare, **{"data.num_workers": workers}))
        assert stop.value.number == number
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
        assert checkpoint_steps(broken) == [3]
        assert [update["step"] for update in updates_of(broken)] == [1, 2, 3]
        assert not list((broken / "checkpoints").glob(".*"))
        assert f"update 3 is kept: go on with the same command and resume=last 'run_dir={broken}'" in caplog.text
        assert not multiprocessing.active_children()
        train(recipe(run_dir=str(broken), resume="last", **rare))
        same_run(whole, broken, 6)


def test_a_request_to_stop_during_an_evaluation(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends at once, the update before it is kept although no checkpoint was due, and it is done again."""
    run, changes = tmp_path / "run", evaluator.config(every=2) | {"trainer.checkpoint_every": 4}
    ended = []

    def ask(step: int) -> None:
        if step == asked_at:
            os.kill(os.getpid(), signal.SIGTERM)
            ended.append("not at once")

    evaluator.drop = ask
    for asked_at, resume, kept in ((0, None, []), (2, None, [2]), (4, "last", [2, 4])):
        with pytest.raises((Stopped, SystemExit)):
            train(recipe(**changes, resume=resume))
        assert checkpoint_steps(run) == kept
        told = f"update {asked_at} is kept" if kept else "the run stopped before its first checkpoint: start again"
        assert told in caplog.text
    assert not ended
    evaluator.drop = None
    result = train(recipe(**changes, resume="last"))
    assert [step for step, _ in evaluator.calls] == [0, 0, 2, 2, 4, 4, 6]
    assert result["step"] == 6
    assert [update["step"] for update in updates_of(run)] == [1, 2, 3, 4, 5, 6]


def in_a_process(config: Any, folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Run `train(config)` in a process of its own, to which `what` happens."""
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
    assert "continue with resume=last from step_000002" in stopped.stderr.splitlines()[-1]
    assert checkpoint_steps(run) == [2]
    assert not list((run / "checkpoints").glob(".*"))
    train(recipe(resume="last"))
    assert checkpoint_steps(run) == [4, 6]


def test_a_disk_that_fills_between_checkpoints_costs_no_finished_update(
    recipe: Callable[..., Any], tmp_path: Path, fail_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    changes = {"trainer.log_every": 1}
    train(recipe(run_dir=str(whole), **changes))

    def full(path: Path, text: str) -> None:
        raise DiskFullError(path, "No space left on device")

    with monkeypatch.context() as patched:
        fail_at(2, lambda: patched.setattr(logs, "append_whole", full))
        told = r"updates.jsonl: can't be written \(No space .*; make room there, then continue with resume=last from"
        with pytest.raises(ConfigError, match=told):
            train(recipe(run_dir=str(broken), **changes))
    assert [update["step"] for update in updates_of(broken)] == [1, 2]
    train(recipe(run_dir=str(broken), resume="last", **changes))
    same_run(whole, broken, 6)


def test_evaluators_and_links(recipe: Callable[..., Any], tmp_path: Path, evaluator: Any) -> None:
    run = tmp_path / "run"
    evaluator.accuracies = {0: 0.9, 2: 0.5, 4: 0.4, 6: 0.45}  # at step 0 there is no checkpoint to point to
    result = train(recipe(**evaluator.config(), **{"trainer.keep_last": 1}))
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


@pytest.mark.parametrize(
    ("best", "step"),
    [
        ("geolocate/median_km", "step_000006"),
        ("geolocate/geoscore", "step_000006"),
        ("geox/mean_accuracy", "step_000002"),
    ],
)
def test_the_figure_that_decides_which_is_the_best(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, best: str, step: str
) -> None:
    evaluator.accuracies = {2: 0.5, 4: 0.4, 6: 0.45}
    train(recipe(**evaluator.config(), **{"trainer.best": best}))
    folder = tmp_path / "run" / "checkpoints"
    assert os.readlink(folder / "best") == step
    assert read_state(folder / "best").best_figure == best


def test_an_unknown_figure_ends_the_run_at_its_first_evaluation(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any
) -> None:
    with pytest.raises(ConfigError, match=r"trainer.best=geox/accuracy: .*geox/mean_accuracy"):
        train(recipe(**evaluator.config(), **{"trainer.best": "geox/accuracy"}))
    assert [step for step, _ in evaluator.calls] == [0]


def test_a_checkpoint_of_an_older_version_keeps_its_best(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator.accuracies = {2: 0.5, 4: 0.4, 6: 0.45}
    train(recipe(**evaluator.config(), **{"trainer.max_steps": 2}))
    file = tmp_path / "run" / "checkpoints" / "step_000002" / "state.json"
    content = json.loads(file.read_text())
    assert content.pop("best_figure") == "geox/mean_accuracy"
    file.write_text(json.dumps(content))
    train(recipe(**evaluator.config(), resume="last"))
    assert os.readlink(tmp_path / "run" / "checkpoints" / "best") == "step_000002"
    assert "starts anew" not in caplog.text
    best = tmp_path / "run" / "checkpoints" / "best"
    linked: dict[int, bool] = {}
    evaluator.drop = lambda step: linked.update({step: best.is_symlink()})
    other = {"trainer.best": "geolocate/geoscore", "trainer.max_steps": 8}
    train(recipe(**evaluator.config(every=7), resume="last", **other))
    assert os.readlink(best) == "step_000008"
    assert linked == {7: True, 8: False}, "there is no best checkpoint until one has another best value"
    assert "was that of geox/mean_accuracy (maximize, settings " in caplog.text
    assert "and is now that of geolocate/geoscore (maximize, settings " in caplog.text


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
        train(recipe(**evaluator.config()))
    assert checkpoint_steps(run) == [2, 4]
    evaluator.drop = None
    train(recipe(**evaluator.config(), resume="last"))
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


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_run_stopped_in_its_last_evaluation_can_be_finished(
    recipe: Callable[..., Any], tmp_path: Path, evaluator: Any, evaluated: bool
) -> None:
    run, changes = tmp_path / "run", evaluator.config() | {"trainer.max_steps": 2}
    evaluator.accuracies = {2: 0.5}
    if evaluated:
        whole = train(recipe(**changes))
        evaluation = {key: value for key, value in whole.items() if key not in ("train", "data")}
        (run / "eval" / "step_000002.json").write_text(json.dumps(evaluation))
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
    train(recipe(**evaluator.config(), **{"trainer.max_steps": 2}))
    other = tmp_path / "other"
    first = tmp_path / "run" / "checkpoints" / "step_000002"
    changes = evaluator.config() | {"trainer.max_steps": 4, "run_dir": str(other)}
    with caplog.at_level("WARNING", logger="geotune.training.resuming"):
        train(recipe(**changes, resume=str(first)))
    assert "the run had 2 updates in all and now has 4" in caplog.text
    assert os.readlink(other / "checkpoints" / "best") == "step_000004"
    assert read_state(other / "checkpoints" / "last").best == 0.5
    assert belongs_to(first, tmp_path / "run")
    assert not belongs_to(first, tmp_path)


def test_broken_state(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ConfigError, match="not the state of a checkpoint"):
        read_state(tmp_path)
    assert checkpoint_steps(tmp_path) == []


if __name__ == "__main__":
    child()
