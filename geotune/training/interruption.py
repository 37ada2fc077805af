"""Ctrl-C during training: the first one asks the run to stop at the end of its update, the second one stops it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)


class Interruption:
    """Notes the first Ctrl-C instead of raising KeyboardInterrupt; a second one raises as usual."""

    def __init__(self) -> None:
        self.requested = False
        """Whether Ctrl-C was pressed."""

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle Ctrl-C within the block; outside the main thread, which alone receives signals, change nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: Any) -> None:
            self.requested = True
            signal.signal(signal.SIGINT, previous)
            log.warning("interrupted: finishing this update and writing a checkpoint; Ctrl-C again to stop at once")

        previous = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
