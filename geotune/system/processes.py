"""Processes: which one is meant by an id, and child processes that do not outlive their parent unnoticed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""Option of prctl(2), from linux/prctl.h: the signal that a process gets when its parent dies."""


def follow_parent() -> Callable[[], None]:
    """Return the function that a training started as a child process runs first, for `subprocess.Popen(preexec_fn=)`.

    It makes SIGINT reach the child even if the parent was started in the background. On Linux the child also gets
    SIGINT when the parent is killed, so that it finishes its update, writes a checkpoint and ends.
    """
    import ctypes

    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGINT)

    return prepare


def process_space() -> str:
    """Return a text that processes share only if a process id means the same to them: one machine, one container."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not on Linux
        return socket.gethostname()


def start_time(pid: int) -> str | None:
    """Return when the process `pid` began, in the words of the system; None if there is none that could still work."""
    if sys.platform != "linux":
        told = subprocess.run(
            ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        began, _, state = told.stdout.strip().rpartition(" ")
        return None if not began or state.startswith("Z") else began.strip()
    try:
        # The name of the program, in parentheses, may hold anything. Behind it the state comes first.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks_since_boot = fields[0], fields[19]
    return None if state in "ZX" else ticks_since_boot


def is_running(pid: int, started: str) -> bool | None:
    """Return whether the process `pid` that began at `started` (`start_time`) still runs; None if it is hidden."""
    now = start_time(pid)
    if now is not None:
        return now == started
    try:
        os.kill(pid, 0)
    except PermissionError:  # a process of another user, which the system does not show
        return None
    except OSError:
        return False
    return False  # it has ended, but its parent has not noticed yet
