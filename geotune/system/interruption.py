"""Requests to stop this process: Ctrl-C (SIGINT), SIGTERM (preemption, `docker stop`, `scancel`), a closed terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to stop."""
SAME_REQUEST = 1.0
"""Seconds within which further signals belong to the first one: launchers pass on what their processes also get."""

Answer = Literal["raise", "note", "count"]
"""What a request does: it raises Stopped; it is noted, and the next one raises; it is counted, like all others."""


class Stopped(KeyboardInterrupt):
    """A signal has asked this process to stop. `number` is the signal's number; the exit status is 128 more."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interruption:
    """Answers the signals that ask this process to stop; `stoppable` provides it.

    By default the first request raises Stopped wherever the main thread is. A block that must reach its end answers
    with `answering("note")`: the first request is then only noted, and the second one raises. Once Stopped was raised,
    the next request ends the process at once, because cleaning up may take long.
    """

    def __init__(self) -> None:
        self.number = 0
        """Number of the first signal; 0 if there was none."""
        self.requests = 0
        """Number of requests to stop so far."""
        self.answer: Answer = "raise"
        self.notice = ""
        """Line that the terminal shows when a request is noted."""
        self.pass_on: Callable[[int], None] | None = None
        """Called with the number of each signal, for processes that must stop as well."""
        self._raised = False
        self._asked = 0.0

    @contextmanager
    def answering(self, answer: Answer, notice: str | None = None) -> Iterator[None]:
        """Answer requests in this way within the block. With "raise", an earlier noted request raises at once.

        notice: line that the terminal shows when a request is noted; None leaves it as it is.
        """
        before = self.answer, self.notice
        self.answer = answer
        self.notice = self.notice if notice is None else notice
        try:
            if answer == "raise" and self.number and not self._raised:
                self._raise()
            yield
        finally:
            self.answer, self.notice = before

    def handle(self, number: int, frame: Any = None) -> None:
        """Answer a signal; the handler of `SIGNALS`."""
        now = time.monotonic()
        if self.requests and now - self._asked < SAME_REQUEST:
            return
        self._asked = now
        self.requests += 1
        self.number = self.number or number
        if self._raised and self.answer != "count":
            os._exit(128 + self.number)
        if self.pass_on is not None:
            self.pass_on(number)
        if self.answer == "raise" or (self.answer == "note" and self.requests > 1):
            self._raise()
        if self.notice and self.requests == 1:
            # Not by `print` or a logger: the signal may have come while one of these was writing.
            with contextlib.suppress(OSError):
                os.write(2, f"{self.notice}\n".encode())

    def take_back(self) -> None:
        """Answer Ctrl-C again: after the first one, Lightning has it ignored."""
        if signal.getsignal(signal.SIGTERM) == self.handle:
            signal.signal(signal.SIGINT, self.handle)

    def _raise(self) -> None:
        self._raised = True
        raise Stopped(self.number)


@contextmanager
def stoppable() -> Iterator[Interruption]:
    """Provide the Interruption of this process, which answers its signals at least until the end of the block.

    Outside the main thread, which alone receives signals, it never gets a request. A program that was started to
    survive its terminal (nohup) goes on ignoring SIGHUP.
    """
    current = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(current, Interruption):
        yield current
        return
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    before = {
        number: signal.signal(number, interruption.handle)
        for number in SIGNALS
        if not (ignored and number == signal.SIGHUP)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def signal_behind(error: BaseException, interruption: Interruption) -> int:
    """Return the number of the signal that `error` comes from; 0 if it does not come from a request to stop.

    Lightning turns a KeyboardInterrupt into SystemExit(1). After a request, any error counts as its consequence: other
    processes of the work may have got the signal as well, and have ended before this one.
    """
    if isinstance(error, SystemExit) and not error.code:
        return 0
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, KeyboardInterrupt):
            return getattr(link, "number", int(signal.SIGINT))
        link = link.__cause__ or link.__context__
    return interruption.number if isinstance(error, Exception) else 0
