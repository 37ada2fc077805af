"""The run directory: which folder a run gets, which checkpoint a name means, and what lies beside a checkpoint."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from geotune.errors import ConfigError
from geotune.runs import directory
from geotune.runs.chain import Leg, write_chain
from geotune.runs.directory import (
    MAP_FILE,
    RUN_DIR_VARIABLE,
    State,
    checkpoint_steps,
    default_run_dir,
    evaluation_path,
    evaluations,
    find_checkpoint,
    find_evaluation,
    find_step,
    has_checkpoint,
    is_finished,
    is_last,
    map_path,
    newest_run,
    read_state,
)

SUITES = {"geox": {"mean_accuracy": 0.5}}


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder of a process that is not one of several."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", RUN_DIR_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def a_checkpoint(run: Path, step: int, total: int = 10, written_at: str | None = None) -> Path:
    """Write a complete checkpoint without tensors."""
    state = State(
        step=step,
        position=step,
        skipped=0,
        total_updates=total,
        update_size=4,
        seed=0,
        data_fingerprint="d",
        plan="p",
        optimizer="adamw",
        template_hash="t",
        best=None,
        best_step=None,
        wandb_id=None,
        left_out={},
        written_at=written_at,
    )
    folder = run / "checkpoints" / f"step_{step:06d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(asdict(state)))
    return folder


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_new_run_gets_a_dated_folder_of_its_own(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noon(directory.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2024, 5, 6, 12, 0, 0)

    monkeypatch.setattr(directory, "datetime", Noon)
    assert default_run_dir("quickstart", None) == "runs/quickstart/2024-05-06_12-00-00"
    Path("runs/quickstart/2024-05-06_12-00-00").mkdir(parents=True)
    assert default_run_dir("quickstart", None) == "runs/quickstart/2024-05-06_12-00-00-2"
    assert default_run_dir("quickstart", "some/step_000002") == "runs/quickstart/2024-05-06_12-00-00-2"


def test_several_processes_get_a_folder_each(alone: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: default_run_dir("quickstart", None, make=True), range(24)))
    assert len(set(folders)) == 24
    assert all(Path(folder).is_dir() for folder in folders)


def test_resume_last_means_the_newest_run_with_a_checkpoint(alone: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume=last: no run in runs/quickstart has a checkpoint"):
        default_run_dir("quickstart", "last")
    # The older one has the later clock time, in another zone, and its folder was changed later, as by a copy.
    for name, time in (("newer", "2026-03-01T12:00:00+01:00"), ("older", "2026-03-01T12:30:00+02:00")):
        a_checkpoint(Path("runs/quickstart", name), 2, written_at="2027-01-01T00:00:00+00:00")
        a_checkpoint(Path("runs/quickstart", name), 4, written_at=time)
    os.utime("runs/quickstart/newer/checkpoints/step_000004", (1e9, 1e9))
    Path("runs/quickstart/empty/checkpoints/step_000004").mkdir(parents=True)
    assert default_run_dir("quickstart", "last") == "runs/quickstart/newer"
    assert newest_run("quickstart") == Path("runs/quickstart/newer")


@pytest.mark.parametrize("time", [None, "yesterday", 3])
def test_a_run_without_a_time_counts_by_its_folder(alone: Path, time: Any) -> None:
    for age, name in ((10, "newer"), (50, "older")):
        step = a_checkpoint(Path("runs/quickstart", name), 2, written_at=time)
        os.utime(step, (1e9 - age, 1e9 - age))
    assert default_run_dir("quickstart", "last") == "runs/quickstart/newer"
    assert newest_run("quickstart") == Path("runs/quickstart/newer")


def test_resume_last_of_a_chain_means_the_newest_chain(alone: Path) -> None:
    a_checkpoint(Path("runs/steps/single"), 2)
    with pytest.raises(ConfigError, match=r"resume=last: no run in runs/steps is a chain"):
        default_run_dir("steps", "last", chain=True)
    for name in ("newer", "older"):
        write_chain(Path("runs/steps", name), [Leg("a", "1_a", [], [])])
    os.utime("runs/steps/older/chain.json", (1e9, 1e9))
    assert default_run_dir("steps", "last", chain=True) == "runs/steps/newer"
    for name, time in (("newer", "2026-03-01T12:00:00+01:00"), ("older", "2026-03-01T12:30:00+02:00")):
        legs = [Leg("a", "1_a", [], [], started_at="2026-02-01T12:00:00+00:00", ended_at=time), Leg("b", "2_b", [], [])]
        write_chain(Path("runs/steps", name), legs)
    assert default_run_dir("steps", "last", chain=True) == "runs/steps/newer"
    assert default_run_dir("steps", "last") == "runs/steps/single"


def test_the_newest_run_of_a_recipe_has_a_checkpoint(alone: Path) -> None:
    assert newest_run("steps") is None
    for hour, name in ((2, "newer"), (1, "older")):
        a_checkpoint(Path("runs/steps", name), 2, written_at=f"2026-03-01T0{hour}:00:00+00:00")
    write_chain(Path("runs/steps/chain"), [Leg("a", "1_a", [], [])])
    assert newest_run("steps") == Path("runs/steps/newer"), "no leg of the chain is finished"
    write_chain(Path("runs/steps/chain"), [Leg("a", "1_a", [], [], state="finished")])
    a_checkpoint(Path("runs/steps/chain/1_a"), 2, written_at="2026-03-01T03:00:00+00:00")
    assert newest_run("steps") == Path("runs/steps/chain")


@pytest.mark.parametrize("told", [{"LOCAL_RANK": "1"}, {"SLURM_PROCID": "3"}, {"SLURM_STEP_NUM_TASKS": "2"}])
def test_a_child_process_takes_the_folder_that_it_is_told(
    told: dict[str, str], alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="run_dir=null"):
        default_run_dir("quickstart", None)
    monkeypatch.setenv(RUN_DIR_VARIABLE, "runs/told")
    assert default_run_dir("quickstart", None) == "runs/told"


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert checkpoint_steps(tmp_path) == []
    assert not has_checkpoint(tmp_path)
    for step in (1000000, 4, 20):
        a_checkpoint(tmp_path, step)
    (tmp_path / "checkpoints" / "step_000030").mkdir()
    (tmp_path / "checkpoints" / ".step_000040.partial").mkdir()
    (tmp_path / "checkpoints" / "last").symlink_to("step_000020")
    assert checkpoint_steps(tmp_path) == [4, 20, 1000000]
    assert has_checkpoint(tmp_path)
    assert find_checkpoint("last", tmp_path).name == "step_1000000"
    assert read_state(find_checkpoint(str(tmp_path / "checkpoints" / "last"), tmp_path)).step == 20


def test_a_step_folder_is_found_by_every_name_that_it_has(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert find_step(str(run)) is None
    first, second = a_checkpoint(run, 2).resolve(), a_checkpoint(run, 4).resolve()
    assert find_step(str(first)) == first
    assert find_step(str(run)) == second, "without links the newest"
    (run / "checkpoints" / "last").symlink_to("step_000004")
    assert find_step(str(run)) == second
    (run / "checkpoints" / "best").symlink_to("step_000002")
    for name in (run, run / "checkpoints", run / "checkpoints" / "best"):
        assert find_step(str(name)) == first, "the best before the last"
    assert find_step(str(run / "checkpoints" / "last")) == second
    (first / "state.json").unlink()
    assert find_step(str(run)) == second, "a best one that is incomplete does not count"
    assert find_step(str(tmp_path)) is None


def test_evaluations_after_a_step_come_in_order(tmp_path: Path) -> None:
    assert evaluations(tmp_path, after=-1) == []
    for step in (0, 1000000, 20, 4):
        write(evaluation_path(tmp_path, step), {"step": step})
    (tmp_path / "eval" / ".step_000030.json.7.partial").write_text("{")
    (tmp_path / "eval" / "step_7.json").write_text("{")
    assert evaluations(tmp_path, after=-1) == [(step, {"step": step}) for step in (0, 4, 20, 1000000)]
    assert [step for step, _ in evaluations(tmp_path, after=4)] == [20, 1000000]


@pytest.mark.parametrize(("step", "last"), [(8, False), (10, True), (12, True), (14, False)])
def test_the_last_step_is_the_one_that_its_checkpoint_says(tmp_path: Path, step: int, last: bool) -> None:
    for saved in (8, 10, 12):
        a_checkpoint(tmp_path, saved)
    assert is_last(tmp_path, step) is last, "a step without a checkpoint is not known to be the last"


def test_the_evaluation_of_a_checkpoint(tmp_path: Path) -> None:
    folder = a_checkpoint(tmp_path / "run", 4)
    assert find_evaluation(folder, 4) is None
    write(tmp_path / "run" / "metrics.json", {"step": 4, "suites": SUITES, "train": {}})
    assert find_evaluation(folder, 4) == {"step": 4, "suites": SUITES, "train": {}}
    assert find_evaluation(folder, 2) is None, "the final figures are those of another step"
    write(evaluation_path(tmp_path / "run", 4), {"step": 4, "suites": SUITES})
    assert find_evaluation(folder, 4) == {"step": 4, "suites": SUITES}
    elsewhere = tmp_path / "step_000004"
    folder.rename(elsewhere)
    assert find_evaluation(elsewhere, 4) is None, "a checkpoint outside a run has no evaluation"


def test_a_run_is_finished_once_its_final_figures_are_those_of_the_step(tmp_path: Path) -> None:
    folder = a_checkpoint(tmp_path, 4)
    (tmp_path / "checkpoints" / "last").symlink_to("step_000004")
    assert not is_finished(folder, 4)
    write(tmp_path / "metrics.json", {"step": 4})
    assert is_finished(tmp_path / "checkpoints" / "last", 4)
    assert not is_finished(folder, 6)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 1}'])
def test_a_broken_state_is_named(tmp_path: Path, text: str) -> None:
    file = a_checkpoint(tmp_path, 4) / "state.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        read_state(file.parent)


@pytest.mark.parametrize("suite", ["geolocate", "im2gps 3k", "step_000001", "of_step_000001", ".", "two\nlines"])
@pytest.mark.parametrize("step", [0, 12, 1_000_000])
def test_the_name_of_a_map_holds_its_step(suite: str, step: int) -> None:
    path = map_path(Path("run"), suite, step)
    assert path.parent == Path("run", "maps")
    match = MAP_FILE.fullmatch(path.name)
    assert match is not None
    assert int(match[1]) == step
    assert map_path(Path("run"), suite, step + 1) != path
