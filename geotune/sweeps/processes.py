"""Where the trials of a sweep run, and each trial as a tree of processes: started, watched, ended to the last one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geotune.errors import ConfigError
from geotune.runs.directory import RUN_DIR_VARIABLE
from geotune.system.parallel import usable_cores

if TYPE_CHECKING:
    from psutil import Process

LAUNCHER_VARIABLES = re.compile(
    r"((LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME|MASTER_(ADDR|PORT)"
    r"|(TORCHELASTIC|SLURM)_.*)"
)
"""Variables by which a launcher tells a process its place in a job: a trial is a job of its own."""
MARK = "GEOTUNE_TRIAL"
"""Environment variable that every process of a trial inherits: sessions and process groups do not hold them together,
for torchrun and W&B start sessions of their own."""
STDOUT, STDERR = "stdout.txt", "stderr.txt"
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
LINGER = 10.0
"""Seconds that helpers of a trial (W&B's service, loaders) have to end by themselves after the trial."""


@dataclass(frozen=True)
class Slot:
    """Where one trial runs."""

    devices: tuple[int, ...]
    kind: str
    """gpu or cpu."""
    variables: Mapping[str, str]
    """Environment that a trial gets there."""

    def __str__(self) -> str:
        return f"{self.kind} {','.join(map(str, self.devices))}"


def slots(devices: Sequence[int] | None, per_trial: int, accelerator: str) -> list[Slot]:
    """Consecutive groups of `per_trial` devices each.

    devices: None for every GPU, or one CPU slot a process where there are none. accelerator: the training's
    `trainer.accelerator` (auto, gpu or cpu). GPUs are counted among those that CUDA_VISIBLE_DEVICES leaves. The cores
    of this process are shared out evenly, as OMP_NUM_THREADS of each process of a trial, unless that is set already.
    Raises ConfigError for GPUs that are not there.
    """
    gpus = visible_gpus() if accelerator != "cpu" else []
    if accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator=gpu: no GPU can be seen here; give trainer.accelerator=cpu")
    count = len(gpus) if gpus else per_trial
    chosen = list(range(count - count % per_trial)) if devices is None else list(devices)
    if gpus and (not chosen or max(chosen) >= count):
        named = f"devices={chosen}" if devices is not None else f"devices_per_trial={per_trial}"
        raise ConfigError(f"{named}: there are {count} GPUs here, 0 to {count - 1}; name some of these")
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // len(chosen)))
    groups = [tuple(chosen[at : at + per_trial]) for at in range(0, len(chosen), per_trial)]
    return [
        Slot(
            group,
            "gpu" if gpus else "cpu",
            {"OMP_NUM_THREADS": threads}
            | ({"CUDA_VISIBLE_DEVICES": ",".join(gpus[device] for device in group)} if gpus else {}),
        )
        for group in groups
    ]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


class ProcessTree:
    """Every process of one trial on this machine, told by the mark in its environment.

    `stop` ends it gently: SIGINT to the trainers, which then finish their update and write a checkpoint; after `grace`
    seconds SIGTERM to every process, and after as many again SIGKILL.

    mark: unique to the trial on this machine, and the same when it goes on later. workers: how many trainers the
    launcher starts; 0: it is the trainer itself. launcher: None for a tree whose sweep is gone.
    """

    def __init__(
        self, mark: str, *, workers: int, grace: float, launcher: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.mark = mark
        self.workers = workers
        self.grace = grace
        self.launcher = launcher
        self._escalation: list[tuple[float, signal.Signals]] = []
        """What is still to be sent to every process, and when, on the monotonic clock."""

    def stop(self) -> None:
        """Ask it to end; `poll` sees to it that it does. Asking again changes nothing."""
        if self._escalation or (self.launcher is not None and self.launcher.poll() is not None):
            return
        now = time.monotonic()
        self._escalation = [(now + self.grace, signal.SIGTERM), (now + 2 * self.grace, signal.SIGKILL)]
        _send(trainers_of(processes(self.mark), self.workers), signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self._escalation = [(time.monotonic(), signal.SIGKILL)]

    def poll(self) -> int | None:
        """The launcher's exit status (0 without one) once no process of the trial is left, else None.

        Negative: the number of the signal that ended it.
        """
        status = self.launcher.poll() if self.launcher is not None else 0
        now = time.monotonic()
        if status is not None:
            if not processes(self.mark):
                return status
            self._escalation = self._escalation or [
                (now + LINGER, signal.SIGTERM),
                (now + LINGER + self.grace, signal.SIGKILL),
            ]
        due = [number for at, number in self._escalation if at <= now]
        if due:
            _send(processes(self.mark), due[-1])
            # The last one stays, for processes that are starting just now.
            self._escalation = self._escalation[len(due) :] or [(now, due[-1])]
        return None

    def end(self) -> bool:
        """Stop it and wait until no process is left; whether there was one."""
        found = bool(processes(self.mark))
        self.stop()
        while self.poll() is None:
            time.sleep(0.1)
        return found


def start(
    command: Sequence[str], variables: Mapping[str, str], folder: Path, mark: str, *, workers: int, grace: float
) -> ProcessTree:
    """Start a trial that writes what it says into `folder`, in this environment with `variables` over it.

    Its terminal signals are its own: Ctrl-C reaches it by `ProcessTree.stop` alone.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key != RUN_DIR_VARIABLE and not LAUNCHER_VARIABLES.fullmatch(key)
    }
    with (folder / STDOUT).open("ab") as out, (folder / STDERR).open("ab") as err:
        launcher = subprocess.Popen(
            command,
            env={**inherited, **variables, MARK: mark, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=_follow_parent(),
        )
    return ProcessTree(mark, workers=workers, grace=grace, launcher=launcher)


def processes(mark: str) -> list[Process]:
    """Processes of this machine that carry `mark`, launchers before what they started."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.create_time(), process.pid, process))
        except (psutil.Error, OSError):  # ended meanwhile, or another user's
            continue
    return [process for *_, process in sorted(found)]


def trainers_of(tree: Sequence[Process], workers: int) -> list[Process]:
    """The processes that train: a loader or W&B's service that dies before them would take them along.

    They are the first process, or what it started when it is a launcher of several (torchrun passes a signal on as a
    second one, which would end them at once).
    """
    import psutil

    pids = {process.pid for process in tree}
    parents = {}
    for process in tree:
        try:
            parents[process] = process.ppid()
        except psutil.Error:  # ended meanwhile
            continue
    roots = [process for process, parent in parents.items() if parent not in pids]
    started = [process for process, parent in parents.items() if parent in {root.pid for root in roots}]
    return started if workers and started else roots


def last_words(folder: Path, lines: int = 20, characters: int = 4000) -> str:
    """The last lines that a trial wrote to its standard error."""
    try:
        text = (folder / STDERR).read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return ""
    # Of a line that was drawn over again and again, a progress bar's, the last state.
    return "\n".join(line.rpartition("\r")[2] for line in text.rstrip().split("\n")[-lines:])[-characters:]


def _send(tree: Sequence[Process], number: signal.Signals) -> None:
    import psutil

    for process in tree:
        try:
            process.send_signal(number)
        except psutil.Error:  # ended meanwhile
            continue


def _follow_parent() -> Callable[[], None]:
    """What a child does before it becomes a trial.

    SIGINT reaches it even when the sweep was started in the background; where the kernel can tell, it gets one when the
    sweep is killed.
    """
    import ctypes

    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGINT)

    return prepare
