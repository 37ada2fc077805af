"""Slots, and trials as trees of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geotune.errors import ConfigError
from geotune.sweeps import processes
from geotune.sweeps.processes import ProcessTree, slots, start

LAUNCHER = """
import os, pathlib, signal, subprocess, sys, time
here, workers = pathlib.Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[3] == "stubborn" else lambda *_: sys.exit(5))
own = dict(start_new_session=True)
children = [subprocess.Popen([sys.executable, __file__, here, "0", sys.argv[3]], **own) for _ in range(workers)]
(here / str(os.getpid())).write_text("ready")
time.sleep(600)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Callable[..., ProcessTree]]:
    """`tree(workers, "gentle" | "stubborn")`: a running tree; each of its processes has written its pid."""
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER)
    made: list[ProcessTree] = []

    def make(workers: int, temper: str, grace: float = 60.0) -> ProcessTree:
        command = [sys.executable, str(script), str(tmp_path), str(workers), temper]
        made.append(start(command, {"EXTRA": "1"}, tmp_path, f"{tmp_path}/{len(made)}", workers=workers, grace=grace))
        while sum(path.name.isdecimal() for path in tmp_path.iterdir()) < workers + 1:
            time.sleep(0.02)
        return made[-1]

    yield make
    for each in made:
        each.kill()
        while each.poll() is None:
            time.sleep(0.02)


def wait(tree: ProcessTree) -> int:
    """Its exit status."""
    while (status := tree.poll()) is None:
        time.sleep(0.02)
    return status


def test_a_trainer_alone_gets_sigint(tree: Callable[..., ProcessTree]) -> None:
    running = tree(0, "gentle")
    assert running.poll() is None
    running.stop()
    assert wait(running) == 5


def test_workers_of_a_launcher_get_sigint(tree: Callable[..., ProcessTree]) -> None:
    running = tree(2, "gentle")
    launcher, *workers = processes.processes(running.mark)
    assert len(workers) == 2
    assert processes.trainers_of([launcher, *workers], workers=2) == workers
    running.stop()
    while processes.processes(running.mark) != [launcher]:
        time.sleep(0.02)
    assert running.launcher is not None
    assert running.launcher.poll() is None
    running.kill()
    assert wait(running) == -signal.SIGKILL


def test_a_tree_that_ignores_sigint_is_terminated(tree: Callable[..., ProcessTree]) -> None:
    running = tree(1, "stubborn", grace=0.2)
    assert running.end()
    assert wait(running) == -signal.SIGTERM
    assert not running.end()


def test_a_tree_without_its_sweep_is_ended_by_its_mark(tree: Callable[..., ProcessTree]) -> None:
    running = tree(1, "stubborn")
    assert not ProcessTree("another", workers=0, grace=0.2).end()
    assert running.poll() is None
    assert ProcessTree(running.mark, workers=1, grace=0.2).end()
    assert not processes.processes(running.mark)


def test_helpers_that_outlive_the_trainer_are_ended(
    tree: Callable[..., ProcessTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LINGER", 0.1)
    running = tree(1, "stubborn")
    assert running.launcher is not None
    running.launcher.kill()
    assert wait(running) == -signal.SIGKILL
    assert not processes.processes(running.mark)


def test_environment_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials do not inherit the rank of a sweep that is itself a process of a job."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_JOB_ID", "GEOTUNE_RUN_DIR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("RANKS", "kept")
    code = "import os, sys; print(sorted(os.environ)); print('a\\rb\\nlast', file=sys.stderr); sys.exit(3)"
    running = start([sys.executable, "-c", code], {"EXTRA": "1"}, tmp_path, "mark", workers=0, grace=1)
    assert wait(running) == 3
    names = (tmp_path / "stdout.txt").read_text()
    assert all(f"'{name}'" in names for name in ("EXTRA", "RANKS", "PATH", "GEOTUNE_TRIAL"))
    assert not any(f"'{name}'" in names for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"))
    assert "SLURM" not in names
    assert "GEOTUNE_RUN_DIR" not in names
    assert processes.stderr_tail(tmp_path) == "b\nlast"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel must be able to tell a child that its parent is gone")
def test_a_trial_is_told_when_its_sweep_is_killed(tmp_path: Path) -> None:
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    overrides = [str(tmp_path / "launcher.py"), str(tmp_path), "0", "gentle"]
    code = f"""
import pathlib, sys, time
from geotune.sweeps.processes import start
start([sys.executable, *{overrides}], {{}}, pathlib.Path({str(tmp_path)!r}), {str(tmp_path)!r}, workers=0, grace=1)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}) as sweep:
        while not any(path.name.isdecimal() for path in tmp_path.iterdir()):
            time.sleep(0.02)
        sweep.kill()
    while processes.processes(str(tmp_path)):
        time.sleep(0.02)


# --- slots ---


def test_cpu_slots_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "usable_cores", lambda: 8)
    (alone,) = slots(None, 1, "cpu")
    assert (str(alone), alone.variables) == ("cpu 0", {"OMP_NUM_THREADS": "8"})
    assert [str(slot) for slot in slots(None, 2, "cpu")] == ["cpu 0,1"]
    pairs = slots([0, 1, 2, 3], 2, "cpu")
    assert [slot.devices for slot in pairs] == [(0, 1), (2, 3)]
    assert {slot.variables["OMP_NUM_THREADS"] for slot in pairs} == {"2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slots([0, 0], 1, "cpu")[1].variables == {"OMP_NUM_THREADS": "3"}


def test_gpu_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def visible(*arguments: Any) -> list[str]:
        return [slot.variables["CUDA_VISIBLE_DEVICES"] for slot in slots(*arguments)]

    assert visible(None, 1, "auto") == ["0", "1", "2", "3"]
    assert visible(None, 3, "gpu") == ["0,1,2"]
    assert visible([3, 1], 1, "auto") == ["3", "1"]
    assert visible([2, 2], 1, "auto") == ["2", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-aa,6,7")
    assert visible([0, 1, 2, 3], 2, "auto") == ["4,GPU-aa", "6,7"]
    with pytest.raises(ConfigError, match=r"devices=\[4\]: there are 4 GPUs here, 0 to 3"):
        visible([4], 1, "auto")
    with pytest.raises(ConfigError, match="devices_per_trial=8"):
        visible(None, 8, "auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu"):
        visible(None, 1, "gpu")
