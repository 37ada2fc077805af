"""A training in a process of its own, which stops when the process that started it is asked to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from geotune.system.interruption import Interruption, stoppable
from geotune.system.processes import follow_parent
from geotune.system.python_path import safe_path_variables


class TrainingProcess:
    """A process that trains, to which this process passes the signals that ask it to stop.

    They let it write a checkpoint. It has a session of its own: a terminal sends Ctrl-C to this process alone.
    """

    def __init__(self, lock: int | None = None) -> None:
        self.lock = lock
        """File descriptor that the process inherits."""
        self.interruption = Interruption()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def stopped(self) -> int:
        """Number of the first signal that asked to stop; 0 if none did."""
        return self.interruption.number

    @contextmanager
    def signals(self) -> Iterator[TrainingProcess]:
        """Pass signals on within the block."""
        with stoppable() as self.interruption, self.interruption.answering("count"):
            self.interruption.pass_on = self._send
            try:
                yield self
            finally:
                self.interruption.pass_on = None

    def _send(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def run(self, overrides: Sequence[str], variables: Mapping[str, str]) -> int:
        """Train with these overrides and environment variables. Returns the exit status, as a shell would see it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "geotune.train", *overrides],
            env={**os.environ, **safe_path_variables(), **variables},
            pass_fds=() if self.lock is None else (self.lock,),
            start_new_session=True,
            preexec_fn=follow_parent(),
        )
        if self.stopped:  # before there was a process to pass the signal on to
            self._send(self.stopped)
        status = self._process.wait()
        return status if status >= 0 else 128 - status
