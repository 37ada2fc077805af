"""The slots in which trials run, and each trial as a tree of processes that starts and ends as a whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geotune.errors import ConfigError, Problem
from geotune.runs.directory import RUN_DIR_VARIABLE
from geotune.system.parallel import usable_cores
from geotune.system.processes import follow_parent
from geotune.system.python_path import safe_path_variables

if TYPE_CHECKING:
    from psutil import Process

LAUNCHER_VARIABLES = re.compile(
    r"((LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME|MASTER_(ADDR|PORT)"
    r"|(TORCHELASTIC|SLURM)_.*)"
)
"""Variables by which a launcher tells a process its rank in a job. Trials do not inherit them: each is its own job."""
MARK = "GEOTUNE_TRIAL"
"""Environment variable that every process of a trial inherits, and by which the sweep finds them all.

Sessions and process groups can't serve for that, because torchrun and W&B start new sessions."""
STDOUT, STDERR = "stdout.txt", "stderr.txt"
LINGER = 10.0
"""Seconds that helper processes (W&B's service, data loaders) have to end by themselves after their trial."""


@dataclass(frozen=True)
class Slot:
    """One place where a trial can run: its devices and its environment."""

    devices: tuple[int, ...]
    kind: str
    """`gpu` or `cpu`."""
    variables: Mapping[str, str]
    """Environment variables of a trial in this slot."""

    def __str__(self) -> str:
        return f"{self.kind} {','.join(map(str, self.devices))}"


def slots(devices: Sequence[int] | None, per_trial: int, accelerator: str) -> list[Slot]:
    """Divide devices into slots, consecutive groups of `per_trial` devices each.

    The cores of this process are divided evenly: OMP_NUM_THREADS of each process of a trial is its share, unless the
    variable is already set.

    Args:
        devices: numbers of GPUs among those that CUDA_VISIBLE_DEVICES allows, or of CPU slots; None means every GPU,
            or a single CPU slot on a machine without GPUs.
        per_trial: number of devices, and so of processes, of each trial.
        accelerator: `trainer.accelerator` of the training: `auto`, `gpu` or `cpu`.

    Raises:
        ConfigError: a GPU is asked for that this machine does not have.
    """
    gpus = visible_gpus() if accelerator != "cpu" else []
    if accelerator == "gpu" and not gpus:
        raise ConfigError(
            Problem("trainer.accelerator", "gpu", "this machine has no visible GPU", "give trainer.accelerator=cpu")
        )
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
    """Return the GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


class ProcessTree:
    """All processes of one trial on this machine, found by the mark in their environment.

    `stop` ends the tree gently: it sends SIGINT to the trainers, which finish their update and write a checkpoint.
    After `grace` seconds every process gets SIGTERM, and after another `grace` seconds SIGKILL.

    Args:
        mark: text that identifies the trial on this machine, also when the trial is continued later.
        workers: number of trainers that the launcher starts; 0 if the launcher is itself the trainer.
        grace: seconds between two signals.
        launcher: first process of the tree; None if the tree was left behind by another sweep process.
    """

    def __init__(
        self, mark: str, *, workers: int, grace: float, launcher: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.mark = mark
        self.workers = workers
        self.grace = grace
        self.launcher = launcher
        self._escalation: list[tuple[float, signal.Signals]] = []
        """Signals still to be sent to every process, each with its time on the monotonic clock."""

    def stop(self) -> None:
        """Ask the tree to end; later calls of `poll` enforce it. A second call changes nothing."""
        if self._escalation or (self.launcher is not None and self.launcher.poll() is not None):
            return
        now = time.monotonic()
        self._escalation = [(now + self.grace, signal.SIGTERM), (now + 2 * self.grace, signal.SIGKILL)]
        _send(trainers_of(processes(self.mark), self.workers), signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to every process at the next `poll`."""
        self._escalation = [(time.monotonic(), signal.SIGKILL)]

    def poll(self) -> int | None:
        """Return the launcher's exit status once no process of the trial is left, else None; send the signals due.

        A negative status is the number of the signal that ended the launcher; without a launcher the status is 0.
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
            # The last signal stays due, because a process may be starting just now.
            self._escalation = self._escalation[len(due) :] or [(now, due[-1])]
        return None

    def end(self) -> bool:
        """Stop the tree and wait until no process is left; return whether there was one."""
        was_running = bool(processes(self.mark))
        self.stop()
        while self.poll() is None:
            time.sleep(0.1)
        return was_running


def start(
    command: Sequence[str], variables: Mapping[str, str], folder: Path, mark: str, *, workers: int, grace: float
) -> ProcessTree:
    """Start the process tree of a trial in this environment, extended by `variables`.

    The trial appends its output to `stdout.txt` and `stderr.txt` in `folder`. It runs in a session of its own, so that
    Ctrl-C reaches it only through `ProcessTree.stop`. `mark`, `workers` and `grace` are those of `ProcessTree`.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key != RUN_DIR_VARIABLE and not LAUNCHER_VARIABLES.fullmatch(key)
    }
    with (folder / STDOUT).open("ab") as out, (folder / STDERR).open("ab") as err:
        launcher = subprocess.Popen(
            command,
            env={**inherited, **safe_path_variables(), **variables, MARK: mark, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=follow_parent(),
        )
    return ProcessTree(mark, workers=workers, grace=grace, launcher=launcher)


def processes(mark: str) -> list[Process]:
    """Return the processes of this machine that carry `mark`, oldest first: a launcher precedes its children."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.create_time(), process.pid, process))
        except (psutil.Error, OSError):  # it has ended meanwhile, or belongs to another user
            continue
    return [process for *_, process in sorted(found)]


def trainers_of(tree: Sequence[Process], workers: int) -> list[Process]:
    """Return the processes that train. Only they get SIGINT, because a trainer dies with its data loader.

    With `workers` = 0 the trainer is the first process of the tree, otherwise the trainers are its children. The
    launcher itself must get no signal: torchrun passes it on as a second one, which would end the trainers at once.
    """
    import psutil

    pids = {process.pid for process in tree}
    parents = {}
    for process in tree:
        try:
            parents[process] = process.ppid()
        except psutil.Error:  # it has ended meanwhile
            continue
    roots = [process for process, parent in parents.items() if parent not in pids]
    children = [process for process, parent in parents.items() if parent in {root.pid for root in roots}]
    return children if workers and children else roots


def stderr_tail(folder: Path, lines: int = 20, characters: int = 4000) -> str:
    """Return the last lines that the trial in `folder` wrote to its standard error."""
    try:
        text = (folder / STDERR).read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return ""
    # A progress bar redraws its line after each carriage return: only the last state counts.
    return "\n".join(line.rpartition("\r")[2] for line in text.rstrip().split("\n")[-lines:])[-characters:]


def _send(tree: Sequence[Process], number: signal.Signals) -> None:
    import psutil

    for process in tree:
        try:
            process.send_signal(number)
        except psutil.Error:  # it has ended meanwhile
            continue
