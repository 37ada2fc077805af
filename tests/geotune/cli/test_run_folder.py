"""The folder of a run: dated, made, claimed, and removed again after a mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import DictConfig

from geotune.cli.entry import run_command
from geotune.errors import ConfigError
from tests.geotune.commands import NO_SUITES, status_and_message


@pytest.mark.parametrize("place", ["a file/run", "a file"])
def test_a_run_dir_that_cannot_be_written(place: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "a file").write_text("in the way")
    status, message = status_and_message([*NO_SUITES, f"run_dir={place}"], capsys)
    assert status == 2
    assert f"run_dir={place}" in message


def test_run_dir_is_dated_made_and_told_to_children(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def function(cfg: DictConfig) -> None:
        assert Path(cfg.run_dir).is_dir()
        seen.append(cfg.run_dir)

    assert run_command("train", function, NO_SUITES) == 0
    assert run_command("train", function, NO_SUITES) == 0
    first, second = seen
    assert first != second, "a run of its own, even in the same second and with the first one's variable still set"
    assert Path(first).parent == Path("runs/geox_sft_qwen2_5_vl_7b")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_command("train", function, NO_SUITES) == 0
    assert seen[2] == second


def test_ranks_that_nobody_told_the_folder_ask_for_it(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    status, message = status_and_message(NO_SUITES, capsys)
    assert status == 2
    assert "give run_dir=<folder>" in message


def test_a_dry_run_makes_nothing(in_tmp: Path) -> None:
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(cfg.run_dir), [*NO_SUITES, "dry_run=true"]) == 0
    assert seen[0].startswith("runs/")
    assert not list(in_tmp.iterdir())


def test_a_mistake_found_late_takes_the_empty_folder_away(in_tmp: Path) -> None:
    def fails(cfg: DictConfig) -> None:
        raise ConfigError("data.path=x: not there")

    def fails_later(cfg: DictConfig) -> None:
        (Path(cfg.run_dir) / "config.yaml").write_text("")
        raise ConfigError("data.path=x: not there")

    assert run_command("train", fails, [*NO_SUITES, "run_dir=a"]) == 2
    assert run_command("train", fails_later, [*NO_SUITES, "run_dir=b"]) == 2
    assert [path.name for path in in_tmp.iterdir()] == ["b"]


def test_resume_last_goes_on_in_the_newest_run_with_a_checkpoint(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = in_tmp / "runs" / "geox_sft_qwen2_5_vl_7b"
    status, message = status_and_message([*NO_SUITES, "resume=last"], capsys)
    assert (status, "resume=last" in message) == (2, True)
    for age, name in ((100, "older"), (50, "newer")):
        (runs / name / "checkpoints" / "step_000010").mkdir(parents=True)
        (runs / name / "checkpoints" / "step_000010" / "state.json").write_text("{}")
        stamp = (runs / name).stat().st_mtime - age
        os.utime(runs / name / "checkpoints", (stamp, stamp))
    (runs / "unfinished" / "checkpoints" / "step_000010").mkdir(parents=True)
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(cfg.run_dir), [*NO_SUITES, "resume=last"]) == 0
    assert seen == ["runs/geox_sft_qwen2_5_vl_7b/newer"]
