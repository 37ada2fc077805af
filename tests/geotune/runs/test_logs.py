"""The plain files of a run: what a resumed run keeps of them, and the figures of a step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from geotune.runs.logs import append_lines, append_row, figures_at, keep_until, write_rejected
from geotune.system.files import DiskFullError

HEADER = "step,train/loss,perf/mfu\n"


def test_lines_are_appended_as_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    append_lines(path, [])
    assert not path.exists()
    append_lines(path, [{"step": 1, "loss": float("nan")}])
    append_lines(path, [{"step": 2, "loss": 0.5}])
    assert path.read_text() == '{"step": 1, "loss": null}\n{"step": 2, "loss": 0.5}\n'


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [1, 2]), (3, [1, 2]), (9, [1, 2, 4])])
def test_a_resumed_run_keeps_the_updates_up_to_its_checkpoint(tmp_path: Path, step: int, kept: list[int]) -> None:
    path = tmp_path / "updates.jsonl"
    append_lines(path, [{"step": number} for number in (1, 2, 4)])
    with path.open("a") as file:
        file.write('{"step": 0, "los')
    keep_until(path, step)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == kept
    assert path.read_text() == "".join(f'{{"step": {number}}}\n' for number in kept)
    assert os.listdir(tmp_path) == ["updates.jsonl"]


def test_a_table_keeps_its_header(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes((HEADER + "2,0.5,\n10,0.25,\n").replace("\n", "\r\n").encode() + b"12,0.1")
    keep_until(path, 9)
    assert path.read_bytes() == (HEADER + "2,0.5,\n").encode()
    keep_until(path, 0)
    assert path.read_text() == HEADER


@pytest.mark.parametrize("torn", ["", "step,trai", "step,train/loss"])
def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(torn)
    keep_until(path, 0)
    append_row(path, ["step", "train/loss"], {"step": 1, "train/loss": 0.5})
    assert path.read_bytes() == b"step,train/loss\n1,0.5\n"


def test_rows_are_appended_below_one_header(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    columns = ["step", "train/loss", "train/lr", "perf/mfu"]
    append_row(path, columns, {"step": 1, "train/loss": float("nan"), "train/lr": 1e-3})
    append_row(path, columns, {"step": 2, "train/loss": float("inf"), "perf/mfu": 0.5, "train/lr": 2})
    assert path.read_bytes() == (b"step,train/loss,train/lr,perf/mfu\n1,nan,0.001,\n2,inf,2,0.5\n")


def test_a_new_column_goes_behind_its_neighbour_and_no_value_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    append_row(path, ["step", "train/loss", "train/old", "train/lr"], dict.fromkeys(["step", "train/old"], 1))
    keep_until(path, 1)  # a resumed run, whose stage has other figures
    columns = ["first", "step", "train/reward", "train/k, l", "train/lr", "last"]
    row = dict.fromkeys(columns, 2)
    append_row(path, columns, row)
    append_row(path, ["step", "train/loss", "train/lr"], {"step": 3, "train/loss": 0.5})
    assert path.read_text().splitlines() == [
        'first,step,train/reward,"train/k, l",train/loss,train/old,train/lr,last',
        ",1,,,,1,,",
        "2,2,2,2,,,2,2",
        ",3,,,0.5,,,",
    ]
    assert os.listdir(tmp_path) == ["metrics.csv"]
    with pytest.raises(ValueError, match="unknown"):
        append_row(path, ["step"], {"step": 4, "unknown": 1})


def test_a_missing_log_is_left_alone(tmp_path: Path) -> None:
    keep_until(tmp_path / "metrics.csv", 3)
    assert not list(tmp_path.iterdir())


def test_figures_of_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert figures_at(path, 2) == {}
    path.write_text(HEADER + "2,0.5,\n12,1e-3,0.4\n")
    assert figures_at(path, 2) == {"train/loss": 0.5}
    assert figures_at(path, 12) == {"train/loss": 1e-3, "perf/mfu": 0.4}
    assert figures_at(path, 1) == {}


def test_rejected_samples_are_written_only_if_there_are_any(tmp_path: Path) -> None:
    write_rejected(tmp_path, [])
    assert not list(tmp_path.iterdir())
    write_rejected(tmp_path, [("a", "too long"), ("b", "é")])
    assert (tmp_path / "rejected.jsonl").read_text() == (
        '{"id": "a", "reason": "too long"}\n{"id": "b", "reason": "\\u00e9"}\n'
    )


def test_a_full_disk_costs_no_earlier_line(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    """What is appended is there as a whole or not at all."""
    lines, table = tmp_path / "updates.jsonl", tmp_path / "metrics.csv"
    append_lines(lines, [{"step": 1}])
    append_row(table, ["step", "train/loss"], {"step": 1, "train/loss": 0.5})
    before = lines.read_bytes(), table.read_bytes()
    with full_disk(30):
        with pytest.raises(DiskFullError, match=r"updates.jsonl: can't be written \(File too large\); make room there"):
            append_lines(lines, [{"step": 2, "ids": ["a"] * 10}])
        with pytest.raises(DiskFullError, match=r"metrics.csv: can't be written"):
            append_row(table, ["step", "train/loss"], {"step": 2, "train/loss": 0.123456789})
        with pytest.raises(DiskFullError, match=r"metrics.csv: can't be written"):
            append_row(table, ["step", "train/loss", "train/another"], {"step": 2})
    assert (lines.read_bytes(), table.read_bytes()) == before
    assert sorted(os.listdir(tmp_path)) == ["metrics.csv", "updates.jsonl"]
