"""Progress of long work: one line at the bottom of a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from geotune.system.launchers import is_first_process

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.text import Text

SECONDS_BETWEEN_LINES = 30.0
"""Shortest time between log lines."""
LONGEST_BETWEEN_LINES = 600.0
"""Longest time between log lines: they get rarer as the work goes on."""
LONGEST_BAR = 40
SHORTEST_BAR = 8
"""Lengths of the bar, in columns; a line without room for the shortest has none."""

log = logging.getLogger(__name__)


@contextmanager
def progress_bar(title: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show the progress of `total` steps and the time left, of which `done` were done before.

    Yields a function `advance(steps=1, figures=())` to call with the steps just done, and with texts to show beside
    them. On a terminal, standard error shows one line that is redrawn; what the process prints and logs meanwhile
    stands above it. Work within other work takes its place until it is done. Without a terminal it writes a log line
    now and then. Only the first process of a run shows anything.
    """
    work = _Work(title, total, done)
    if not is_first_process():
        yield work.advance
    elif not _is_terminal(sys.stderr):
        yield work.advance_in_log
    else:
        with _BARS.showing(work):
            yield work.advance


class _Work:
    """What is known of some long work."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self.title = title
        self.total = total
        self.done = self.done_before = done
        self.figures: Sequence[str] = ()
        self.started = self.logged = self.advanced = time.monotonic()

    def advance(self, steps: int = 1, figures: Sequence[str] = ()) -> None:
        """Count the steps just done; `figures` replace those of the step before."""
        self.done += steps
        self.figures = figures
        self.advanced = time.monotonic()

    def advance_in_log(self, steps: int = 1, figures: Sequence[str] = ()) -> None:
        """Count the steps just done, and write a log line if the last one is old enough."""
        self.advance(steps, figures)
        now = self.advanced
        wait = min(max((now - self.started) / 10, SECONDS_BETWEEN_LINES), LONGEST_BETWEEN_LINES)
        if now - self.logged < wait or self.done == self.done_before:
            return
        self.logged = now
        rate = (self.done - self.done_before) / (now - self.started)
        left = duration((self.total - self.done) / rate)
        told = [f"{self.done:,} of {self.total:,}", f"{rate:.{1 if rate >= 1 else 2}f}/s", f"{left} left", *figures]
        log.info("%s: %s", self.title, ", ".join(told))

    def seconds_left(self) -> float | None:
        """Return the time that the steps left will take; None before the first step."""
        done = self.done - self.done_before
        if not done:
            return None
        at_last_step = (self.total - self.done) * (self.advanced - self.started) / done
        return max(0.0, at_last_step - (time.monotonic() - self.advanced))


def bar_text(
    title: str,
    done: int,
    total: int,
    seconds_left: float | None,
    figures: Sequence[str],
    width: int,
    *,
    ascii_only: bool = False,
) -> Text:
    """Return the line that shows some work, at most `width` columns wide.

    A line without room for everything leaves out the last figures first, then the bar, then the time left; at last it
    shortens the title.
    """
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    count = f" {done:,}/{total:,}"
    if cell_len(title) + len(count) > width:
        ellipsis = "..." if ascii_only else "…"
        title = set_cell_size(title, max(0, width - len(count) - len(ellipsis))).rstrip() + ellipsis
    line = Text(f"{title}{count}"[: max(width, 0)])
    left = "" if seconds_left is None else f" {duration(seconds_left)} left"
    room = width - cell_len(line.plain) - len(left)
    if room < 0:
        return line
    shown = ""
    for number, figure in enumerate(figures):
        own = f"{'  ' if number == 0 else ', '}{figure}"
        if cell_len(own) > room - 1 - SHORTEST_BAR:
            break
        shown, room = shown + own, room - cell_len(own)
    if room > SHORTEST_BAR:
        length = min(LONGEST_BAR, room - 1)
        full = min(length, length * done // total) if total else length
        line.append(" ").append(("#" if ascii_only else "━") * full, "green")
        line.append(("-" if ascii_only else "─") * (length - full), "dim")
    return line.append(left).append(shown)


class _Bars:
    """The line at the bottom of the terminal, which shows the innermost of the works under way."""

    def __init__(self) -> None:
        self.works: list[_Work] = []

    @contextmanager
    def showing(self, work: _Work) -> Iterator[None]:
        """Show `work` within the block."""
        self.works.append(work)
        try:
            if len(self.works) > 1:
                yield
            else:
                with self._line():
                    yield
        finally:
            self.works.remove(work)

    @contextmanager
    def _line(self) -> Iterator[None]:
        """Draw the line within the block, and print above it what is written to the terminal."""
        from rich.console import Console
        from rich.live import Live

        # Rich would send standard output to standard error even where it is no terminal, and break long lines.
        console = Console(file=sys.stderr)
        live = Live(self, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        with live, _printing_above(live):
            yield

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Return what rich draws: one line that is shorter than the terminal is wide, so that it never wraps."""
        if self.works:
            work, width = self.works[-1], console.width - 1
            left = work.seconds_left()
            yield bar_text(work.title, work.done, work.total, left, work.figures, width, ascii_only=options.ascii_only)


_BARS = _Bars()


@contextmanager
def _printing_above(live: Live) -> Iterator[None]:
    """Within the block, print above the line of `live` what this process writes to the terminal and to the log."""
    out, err = sys.stdout, sys.stderr
    above: Any = _Above(err, live)
    above_out: Any = _Above(out, live) if out.isatty() else out
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is err
    ]
    sys.stdout, sys.stderr = above_out, above
    for handler in handlers:
        handler.setStream(above)
    try:
        yield
    finally:
        above.finish()
        if above_out is not out:
            above_out.finish()
        sys.stdout, sys.stderr = out, err
        for handler in handlers:
            handler.setStream(err)


class _Above:
    """A stream of the terminal whose lines appear above the line at the bottom.

    Everything else is that of the stream below it. A child process, which has no line, writes to that one.
    """

    def __init__(self, stream: TextIO, live: Live) -> None:
        self._stream = stream
        self._live = live
        self._process = os.getpid()
        self._rest = ""
        """What was written of a line that is not complete."""

    def write(self, text: str) -> int:
        """Write the lines that are complete now."""
        if os.getpid() != self._process:
            return self._stream.write(text)
        *lines, rest = (self._rest + text).split("\n")
        # A bar of some library returns to the start of its line again and again: only its last state counts.
        self._rest = rest.rstrip("\r").rpartition("\r")[2]
        for line in lines:
            self._live.console.print(_AsItIs(line), soft_wrap=True)
        return len(text)

    def finish(self) -> None:
        """Write what is left of an incomplete line."""
        rest, self._rest = self._rest, ""
        if rest.strip():
            self.write(f"{rest}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _AsItIs:
    """A line that rich prints without changing it."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        yield Segment(self.line)
        yield Segment.line()


def _is_terminal(stream: TextIO) -> bool:
    """Return whether a line of a stream can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def duration(seconds: float) -> str:
    """Format a number of seconds as 40 s, 3 min or 2 h 05 min."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
