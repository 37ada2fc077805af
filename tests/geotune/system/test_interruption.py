"""Requests to stop: what each answer does with the first, the second and the third, and which error tells of one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from geotune.system import interruption as module
from geotune.system.interruption import SIGNALS, Interruption, Stopped, signal_behind, stoppable


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interruption]:
    """The handled Interruption of this process, to which every signal is a request of its own."""
    monkeypatch.setattr(module, "SAME_REQUEST", 0.0)
    with stoppable() as handled:
        yield handled


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_request_raises_and_the_next_ends_the_process(
    interruption: Interruption, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    with pytest.raises(Stopped) as stop:
        signal.raise_signal(number)
    assert (stop.value.number, interruption.number) == (number, number)
    with suppress(Stopped):
        signal.raise_signal(signal.SIGINT)
    assert statuses == [128 + number]


def test_a_noted_request_raises_at_the_second_one(
    interruption: Interruption, capfd: pytest.CaptureFixture[str]
) -> None:
    with interruption.answering("note", "finishing"):
        signal.raise_signal(signal.SIGTERM)
        assert (interruption.number, interruption.requests) == (signal.SIGTERM, 1)
        assert capfd.readouterr().err == "finishing\n"
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)
    assert interruption.answer == "raise"


def test_a_noted_request_raises_where_stopping_is_possible(interruption: Interruption) -> None:
    with interruption.answering("note"):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), interruption.answering("raise"):
            raise AssertionError("the block began")
        with interruption.answering("raise"):
            pass  # it raises once


def test_counted_requests_never_raise_and_are_passed_on(interruption: Interruption) -> None:
    passed: list[int] = []
    interruption.pass_on = passed.append
    with interruption.answering("count"):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(number)
    assert (interruption.requests, interruption.number) == (3, signal.SIGTERM)
    assert passed == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def test_what_a_launcher_passes_on_is_the_same_request() -> None:
    with stoppable() as interruption, interruption.answering("note"):
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert interruption.requests == 1


def test_handlers_are_put_back_and_one_is_shared() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stoppable() as outer, stoppable() as inner:
        assert inner is outer
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
        inner.take_back()
        assert signal.getsignal(signal.SIGINT) == inner.handle
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_program_started_with_nohup_survives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_leaves_signals_alone() -> None:
    before, seen = [signal.getsignal(number) for number in SIGNALS], []

    def run() -> None:
        with stoppable():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == before


def test_the_signal_behind_an_error() -> None:
    quiet, asked = Interruption(), Interruption()
    asked.number = signal.SIGTERM
    assert signal_behind(KeyboardInterrupt(), quiet) == signal.SIGINT
    assert signal_behind(Stopped(signal.SIGHUP), quiet) == signal.SIGHUP
    assert signal_behind(RuntimeError("a worker died"), asked) == signal.SIGTERM
    for error in (RuntimeError("ours"), SystemExit(1)):
        assert signal_behind(error, quiet) == 0
    assert signal_behind(SystemExit(3), asked) == 0
    with pytest.raises(SystemExit) as ended:
        _end_as_lightning_does()
    assert signal_behind(ended.value, quiet) == signal.SIGTERM
    ended.value.code = 0
    assert signal_behind(ended.value, quiet) == 0


def _end_as_lightning_does() -> None:
    try:
        raise Stopped(signal.SIGTERM)
    except Stopped:
        raise SystemExit(1) from None
