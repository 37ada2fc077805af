"""Progress of long work: the line at the bottom of a terminal, what appears above it, and lines in a log."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from geotune.system import progress
from tests.terminal import terminal


def test_long_work_leaves_lines_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "geotune"), progress.progress_bar("maps", 1000) as advance:
        for _ in range(3):
            advance(100, ["loss 1.5"])
    assert caplog.messages == ["maps: 200 of 1,000, 5.0/s, 3 min left, loss 1.5"]


def test_lines_get_rarer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A day of work is 150 to 250 lines, and steps that were done before don't count for the speed."""
    clock = iter(float(second) for second in range(0, 86_400 + 20, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "geotune"), progress.progress_bar("updates", 10_000, 1_000) as advance:
        for _ in range(8_640):
            advance()
    assert 150 < len(caplog.messages) < 250
    assert caplog.messages[0] == "updates: 1,003 of 10,000, 0.10/s, 25 h 00 min left"


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (89, "89 s"), (200, "3 min"), (7500, "2 h 05 min")])
def test_durations(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


def test_no_bar_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar("work", 2) as advance:
        advance()
    assert capsys.readouterr().err == ""


def test_only_the_first_process_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with terminal(monkeypatch, 80) as screen, progress.progress_bar("work", 2) as advance:
        advance()
    assert screen.lines == [""]


@settings(max_examples=60, deadline=None)
@given(
    title=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=60),
    total=st.integers(0, 10**7),
    seconds_left=st.none() | st.floats(0, 10**6),
    figures=st.lists(st.sampled_from(["loss 0.1234", "12,345 tokens/s", "reward -1.235e-05"]), max_size=3),
    width=st.integers(30, 200),
    ascii_only=st.booleans(),
)
def test_the_line_never_wraps_and_always_counts(width: int, total: int, **shown: Any) -> None:
    done = total // 3
    line = progress.bar_text(done=done, total=total, width=width, **shown).plain
    assert cell_len(line) <= width
    assert f" {done:,}/{total:,}" in line
    if width >= 79 and cell_len(shown["title"]) < 20:
        assert all(figure in line for figure in shown["figures"][:1])


@pytest.mark.parametrize(
    ("width", "bar", "told"),
    [
        (100, 40, " 3 min left  loss 1.535, 7,166 tokens/s"),
        (79, 24, " 3 min left  loss 1.535, 7,166 tokens/s"),
        (60, 21, " 3 min left  loss 1.535"),
        (40, 13, " 3 min left"),
        (30, 0, " 3 min left"),
        (20, 0, ""),
    ],
)
def test_what_a_narrow_line_leaves_out(width: int, bar: int, told: str) -> None:
    line = progress.bar_text("updates", 150, 300, 200, ["loss 1.535", "7,166 tokens/s"], width).plain
    drawn = f" {'━' * (bar // 2)}{'─' * (bar - bar // 2)}" if bar else ""
    assert line == f"updates 150/300{drawn}{told}"


def test_all_that_is_printed_stands_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, log lines, other bars and work within the work: no line is lost, and none of a bar is left."""
    table = [f"row {number:2}".ljust(80, ".") for number in range(30)]
    long = "/a/path/" * 15
    with terminal(monkeypatch, 80) as screen:
        logger = logging.getLogger("geotune.test_progress")
        handler = logging.StreamHandler(sys.stderr)
        monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
        real = sys.stderr
        with progress.progress_bar("updates", 3) as advance:
            advance(1, ["loss 1.535", "7,165.803 tokens/s"] * 3)
            print("\n".join(table))
            logger.warning(long)
            with progress.progress_bar("suite geox", 2) as inner:
                inner()
                print("half a", end="")
                print(" line", file=sys.stdout)
                sys.stderr.write("\r 10%|█\r 50%|█████\r100%|██████████\n\nlast")
            advance()
        assert sys.stderr is real
        assert handler.stream is real
        print("after")
    drawn = [line.rstrip() for line in screen.lines]
    assert drawn == [*table, long[:80], long[80:], "half a line", "100%|██████████", "", "last", "after", ""]


def _warn() -> None:
    sys.stderr.write("from a child\n")


def test_a_forked_process_writes_without_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, 80) as screen, progress.progress_bar("updates", 3):
        child = multiprocessing.get_context("fork").Process(target=_warn)
        child.start()
        child.join()
        assert child.exitcode == 0
    assert any("from a child" in line for line in screen.lines)


def test_output_into_a_file_stays_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a bar on the terminal, what goes to a file or a pipe is not redirected to the terminal."""
    file = sys.stdout
    with terminal(monkeypatch, 80) as screen:
        monkeypatch.setattr("sys.stdout", file)
        with progress.progress_bar("updates", 3) as advance:
            advance()
            print("figures")
    assert capsys.readouterr().out == "figures\n"
    assert not any("figures" in line for line in screen.lines)
