"""Child processes that do not outlive their parent unnoticed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

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
