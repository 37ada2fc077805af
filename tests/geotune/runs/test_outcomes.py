"""Outcomes and their files: round trips, killed processes, damaged lines, several suites and processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from geotune.errors import ConfigError
from geotune.runs import outcomes as module
from geotune.runs.directory import outcome_files, outcomes_path
from geotune.runs.outcomes import Outcome, OutcomeWriter, TokenCounts, read_outcomes, utc_now
from geotune.system.files import DiskFullError

SAID = ["N", "line one\nline two \u2028 \x85 \x00 é 北", "lone \ud800 surrogate", ""]
KEYS = [
    "id",
    "variant",
    "repeat",
    "status",
    "text",
    "option_logprobs",
    "reason",
    "attempts",
    "tokens",
    "usd",
    "seconds",
    "asked_at",
]


def write(path: Path, *outcomes: Outcome, suite: str | None = None, **options: Any) -> None:
    with OutcomeWriter(path, **options) as writer:
        writer.append(outcomes, suite)


def test_round_trip_with_the_keys_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outcomes.jsonl"
    outcomes = [
        *(Outcome(id=f"a/{number}", status="answered", text=text) for number, text in enumerate(SAID)),
        Outcome(id="b", status="failed", reason="timeout", attempts=3, usd=None),
        Outcome(id="c", variant="mirrored", repeat=16, status="refused", text="I won't.", reason="safety", usd=0.01),
        Outcome(
            id="d", status="cut_off", text="So", tokens=TokenCounts(100, 50, 7, 2), seconds=1.5, asked_at=utc_now()
        ),
        Outcome(id="e", status="answered", option_logprobs={"N": -0.5, "E": None}),
    ]
    write(path, *outcomes)
    assert list(read_outcomes(path)) == outcomes
    lines = path.read_bytes().splitlines()
    assert len(lines) == len(outcomes)
    assert all(list(json.loads(line)) == KEYS for line in lines)
    assert json.loads(lines[6])["tokens"] == {"input": 100, "cached": 50, "reasoning": 7, "output": 2}


def test_a_number_that_is_not_finite_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    write(path, Outcome(id="a", status="answered", option_logprobs={"N": float("-inf")}))
    (outcome,) = read_outcomes(path)
    assert outcome.option_logprobs == {"N": None}


def test_several_suites_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    a, b = Outcome(id="same", status="answered", text="a"), Outcome(id="same", status="answered", text="b")
    write(path, a, suite="geox")
    write(path, b, suite="hard")
    assert [list(json.loads(line)) for line in path.read_text().splitlines()] == [["suite", *KEYS]] * 2
    assert list(read_outcomes(path, "geox")) == [a]
    assert list(read_outcomes(path, "hard")) == [b]
    assert list(read_outcomes(path, "none")) == []
    assert list(read_outcomes(path)) == [a, b]


def test_a_torn_last_line_is_reported_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "o.jsonl"
    whole = Outcome(id="a", status="answered", text="A")
    write(path, whole, Outcome(id="b", status="answered", text="B"))
    complete = path.read_bytes()
    first = complete.index(b"\n") + 1
    for cut in (first + 1, first + 40, len(complete) - 1):
        path.write_bytes(complete[:cut])
        caplog.clear()
        assert list(read_outcomes(path)) == [whole]
        assert f"{path}:2: the last line is incomplete" in caplog.text
        write(path, Outcome(id="c", status="answered", text="C"))
        assert [outcome.id for outcome in read_outcomes(path)] == ["a", "c"]
    write(path, fresh=True)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        "3",
        '{"id": "x"}',
        "",
        json.dumps(dict.fromkeys(KEYS)),
        json.dumps(dict.fromkeys([*KEYS, "more"], "x")),
        "\xff",
    ],
)
def test_a_broken_line_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "o.jsonl"
    write(path, Outcome(id="a", status="answered", text="A"))
    with path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    with pytest.raises(ConfigError, match=r"o.jsonl:2: not an outcome"):
        list(read_outcomes(path))


def test_what_can_not_be() -> None:
    with pytest.raises(ValueError, match="status 'done'"):
        Outcome(id="a", status="done")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="repeat -1"):
        Outcome(id="a", status="answered", repeat=-1)


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be written"):
        OutcomeWriter(tmp_path / "file" / "o.jsonl")


def killed_writer(path: Path) -> None:
    with OutcomeWriter(path) as writer:
        writer.append([Outcome(id=str(number), status="answered", text="x" * 50) for number in range(100)])
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_loses_nothing_that_it_has_appended(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    process = multiprocessing.get_context("spawn").Process(target=killed_writer, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [outcome.id for outcome in read_outcomes(path)] == [str(number) for number in range(100)]


def test_waits_for_the_disk_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(module.os, "fsync", synced.append)
    clock = iter(range(100))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock) / 4)
    outcome = Outcome(id="a", status="answered", text="A")
    for sync_seconds, wanted in ((0.0, 9), (1.0, 3)):
        synced.clear()
        with OutcomeWriter(tmp_path / "o.jsonl", sync_seconds=sync_seconds) as writer:
            for _ in range(8):
                writer.append([outcome])
                writer.append([])
        assert len(synced) == wanted, "with one at the end"


def test_an_explanation_and_the_scores_after_it() -> None:
    said = Outcome(id="a", status="cut_off", text="It is", tokens=TokenCounts(output=3), usd=0.5, seconds=2.0)
    scored = Outcome(id="a", status="answered", option_logprobs={"N": -1.0}, usd=0.25, seconds=1.0)
    both = said.with_scores(scored)
    assert (both.status, both.text, both.option_logprobs, both.tokens.output) == ("cut_off", "It is", {"N": -1.0}, 3)
    assert (both.usd, both.seconds) == (0.75, 3.0)
    lost = said.with_scores(Outcome(id="a", status="failed", reason="timeout", usd=None))
    assert (lost.status, lost.reason, lost.usd) == ("failed", "timeout", None)


def test_each_process_has_a_file(tmp_path: Path) -> None:
    names = ["step_000020.jsonl", "step_000020.1.jsonl", "step_000020.11.jsonl"]
    assert [outcomes_path(tmp_path, 20, rank).name for rank in (0, 1, 11)] == names
    (tmp_path / "outcomes").mkdir()
    for name in (*names, "step_000021.jsonl", "step_0000200.jsonl", "step_000020.jsonl.partial"):
        (tmp_path / "outcomes" / name).write_text("")
    assert sorted(path.name for path in outcome_files(tmp_path, 20)) == sorted(names)


def test_a_full_disk_costs_no_earlier_outcome(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "outcomes.jsonl"
    first = Outcome(id="a", status="answered", text="N")
    write(path, first)
    size = path.stat().st_size
    with full_disk(size + 50), pytest.raises(DiskFullError, match=r"outcomes.jsonl: can't be written"):
        write(path, Outcome(id="b", status="answered", text="E"))
    assert list(read_outcomes(path)) == [first]
    assert path.stat().st_size == size
