"""Ctrl-C: the first one is noted, the second one interrupts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from geotune.training.interruption import Interruption


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt: a process that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_the_second_ctrl_c_interrupts() -> None:
    interruption, before = Interruption(), signal.getsignal(signal.SIGINT)
    with interruption.handled():
        assert not interruption.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_leaves_signals_alone() -> None:
    seen: list[object] = []

    def run() -> None:
        with Interruption().handled():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
