"""A terminal for tests: a pseudo-terminal of some width, and the screen that a program draws on it."""

from __future__ import annotations

import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Screen:
    """What a terminal shows: as much of the control sequences as a line of progress needs, without the colors."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        """Draw what a program has written."""
        for sequence, kind, character in re.findall(r"\x1b\[([?\d;]*)([A-Za-z])|([^\x1b])", text):
            if kind == "A":
                self.row = max(0, self.row - int(sequence or 1))
            elif kind == "K":
                self.lines[self.row] = ""
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self._next_line()
            elif character:
                if self.column == self.width:
                    self._next_line()
                    self.column = 0
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1

    def _next_line(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Iterator[Screen]:
    """Within the block, standard output and standard error are a terminal; the screen is complete behind the block."""
    master, slave = pty.openpty()
    screen, received = Screen(width), bytearray()

    def read() -> None:
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # on Linux, once the other end is closed
                return
            if not block:
                return
            received.extend(block)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with monkeypatch.context() as patch, os.fdopen(slave, "w", encoding="utf-8", buffering=1) as stream:
            patch.setenv("COLUMNS", str(width))
            patch.setenv("TERM", "xterm-256color")
            patch.setattr("sys.stdout", stream)
            patch.setattr("sys.stderr", stream)
            yield screen
    finally:
        reader.join()
        os.close(master)
    screen.feed(received.decode())
